"""Samples drawn by several processes, or in smaller parts than asked for, are those of one."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from sde_gen.cli import stages
from sde_gen.cli.generation import SampleGeneration
from sde_gen.cli.run import Run, load_run
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.solver.callbacks import StepInfo, StopOnNaN
from sde_gen.training import precision
from sde_gen.training.compile import Blocks
from tests.helpers.commands import enter, mistake
from tests.helpers.subprocesses import run_processes


@pytest.fixture(scope="module")
def run(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("generation") / "digits")


def two(*words: list[str]) -> tuple[list[int], str]:
    """Let two processes sample, each with its own arguments; return exit codes and output."""
    found = run_processes([(enter, "sample", *arguments) for arguments in words])
    return [code for code, _ in found], "".join(text for _, text in found)


def test_two_processes_leave_the_files_of_one(run: Path, tmp_path: Path) -> None:
    """Bit for bit: a batch is the same samples whoever draws it."""
    words = [f"run={run}", "n=7", "batch_size=2", "steps=3", "seed=5", "gif=true", "trajectory_frames=2"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        enter("sample", *words, f"out={tmp_path / 'one'}")
    finally:
        torch.set_num_threads(threads)
    shared = [*words, f"out={tmp_path / 'two'}"]
    codes, said = two(shared, shared)
    assert codes == [0, 0], said
    assert said.count("samples of") == 1, "one process speaks"
    one, other = (np.load(tmp_path / name / "samples.npz") for name in ("one", "two"))
    assert one["model_space"].shape == (7, 1, 8, 8)
    assert all(np.array_equal(one[name], other[name]) for name in one.files)
    for name in ("samples.png", "trajectory.gif", "trajectory.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert not list(tmp_path.glob("*/.parts*"))


def test_a_process_that_fails_leaves_nobody_waiting(run: Path, tmp_path: Path) -> None:
    words = ["n=4", "steps=2", f"out={tmp_path}"]
    codes, said = two([f"run={run}", *words], [f"run={tmp_path / 'nosuch'}", *words])
    assert codes == [2, 2]
    assert "error: there is no run folder" in said
    assert not (tmp_path / "samples.npz").exists()


def test_a_task_is_the_work_of_one(run: Path, tmp_path: Path) -> None:
    words = [f"run={run}", "task=superres", "image=0", "n=2", "steps=2", f"out={tmp_path}"]
    codes, said = two(words, words)
    assert codes == [2, 2]
    assert "start one without torchrun" in said


class Small(nn.Module):
    """A network for whose input there is little memory."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x + 1


def drawing(folder: Path, capacity: int, **more: Any) -> SampleGeneration:
    net = Small(capacity)

    def draw(rows: range, hooks: list) -> torch.Tensor:
        x_t = torch.tensor(list(rows), dtype=torch.float32).unsqueeze(1)
        x_s = net(x_t)
        for hook in hooks:
            hook(StepInfo(index=0, steps=1, t=1.0, s=0.0, x_t=x_t, x_s=x_s))
        return x_s

    return SampleGeneration(
        draw=draw, nets=[net], n=11, batch_size=8, folder=folder, queue=WorkQueue.init(), **more
    )


def test_batches_are_halved_until_they_fit(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = drawing(tmp_path, capacity=3, record_trajectory=True).samples()
    assert drawn is not None
    assert [str(note.message) for note in caught] == [
        "out of memory with a batch of 8 samples; continuing with 4",
        "out of memory with a batch of 4 samples; continuing with 2",
    ]
    assert drawn.x.flatten().tolist() == list(range(1, 12))
    assert drawn.nfe == 1, "what did not fit is not counted"
    assert drawn.trajectory.times == [1.0, 0.0]
    assert drawn.trajectory.states[1].flatten().tolist() == [1, 2], "the first part's"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("capacity", "divisible"), [(0, True), (3, False)])
@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_batch_that_cannot_be_halved_is_an_error(tmp_path: Path, capacity: int, divisible: bool) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        drawing(tmp_path, capacity, splittable=divisible).samples()
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:out of memory")
def test_preparation_is_given_every_batch_size(tmp_path: Path) -> None:
    """Before the first part of a size; a preparation that does not fit halves it too."""
    sizes: list[int] = []

    def prepare(size: int) -> None:
        sizes.append(size)
        if size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    drawn = drawing(tmp_path, capacity=3, on_resize=prepare).samples()
    assert drawn is not None
    assert sizes == [8, 4, 2]
    assert drawn.x.flatten().tolist() == list(range(1, 12))


def quick(self: nn.Module, **options: Any) -> None:
    """Compile without generating code, for the sake of the time."""
    self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager", **options)  # type: ignore[call-overload]


def pixels(out: Path) -> np.ndarray:
    found: np.ndarray = np.load(out / "samples.npz")["model_space"]
    return found


def loud(config: DictConfig, *trains: type) -> Run:
    """The run with weights that say something, as those of so short a training do not."""
    found, generator = load_run(config, *trains), torch.Generator().manual_seed(0)
    for parameter in found.denoiser.net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return found


@pytest.mark.long
def test_a_compiled_network_draws_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block is compiled for whole batches and never again, though the last batch is another; to rounding."""
    monkeypatch.setattr(stages, "load_run", loud)
    words = [f"run={run}", "n=5", "batch_size=2", "steps=2", "solver=heun"]
    enter("sample", *words, f"out={tmp_path / 'eager'}")
    monkeypatch.setattr(nn.Module, "compile", quick)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ready = []
    prepared = Blocks.compile

    def counted(self: Blocks, net: nn.Module, trial: Any) -> None:
        prepared(self, net, trial)
        ready.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    monkeypatch.setattr(Blocks, "compile", counted)
    enter("sample", *words, "compile=blocks", f"out={tmp_path / 'compiled'}")
    assert ready[0] > 0
    assert ready == [torch._dynamo.utils.counters["stats"]["unique_graphs"]]
    np.testing.assert_allclose(pixels(tmp_path / "compiled"), pixels(tmp_path / "eager"), atol=1e-4)


def test_what_does_not_compile_draws_as_it_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run={run}", "n=3", "steps=2"]
    enter("sample", *words, f"out={tmp_path / 'eager'}")

    def broken(self: nn.Module, **options: Any) -> None:
        def call(*args: Any) -> None:
            raise RuntimeError("no compiler found")

        self._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", broken)
    with pytest.warns(UserWarning, match="the network is not compiled: no compiler found$"):
        enter("sample", *words, "compile=blocks", f"out={tmp_path / 'broken'}")
    assert np.array_equal(pixels(tmp_path / "broken"), pixels(tmp_path / "eager"))


def test_a_number_format_is_the_networks_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products are of bfloat16 inside the network and nowhere else, and samples move by its rounding."""
    seen: set[torch.dtype] = set()

    def watched(config: DictConfig, *trains: type) -> Run:
        found = loud(config, *trains)
        conv = next(part for part in found.denoiser.net.modules() if isinstance(part, nn.Conv2d))
        conv.register_forward_hook(lambda module, given, out: seen.add(out.dtype))
        return found

    def outside(self: StopOnNaN, info: StepInfo) -> None:
        assert not torch.is_autocast_enabled("cpu")
        assert info.x_s.dtype == torch.float32

    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(stages, "load_run", watched)
    monkeypatch.setattr(StopOnNaN, "__call__", outside)
    words = [f"run={run}", "n=4", "steps=3"]
    enter("sample", *words, f"out={tmp_path / 'float32'}")
    assert seen == {torch.float32}
    seen.clear()
    enter("sample", *words, "precision=bfloat16", f"out={tmp_path / 'bfloat16'}")
    assert seen == {torch.bfloat16}
    one, other = (pixels(tmp_path / name) for name in ("float32", "bfloat16"))
    assert 0 < np.abs(one - other).mean() < 0.05


def test_a_task_is_not_compiled(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"run={run}", "task=superres", "image=0", "n=2", "steps=2", "compile=blocks", f"out={tmp_path}"]
    assert "compile=blocks has no effect" in mistake(capfd, "sample", *words)
