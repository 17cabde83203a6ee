"""Samples drawn by several processes, or in smaller parts than asked for, are those of one."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sde_gen.drawing import Drawing
from sde_gen.engine.crew import Crew
from sde_gen.hooks import StepInfo
from tests.children import team
from tests.system.test_doors import TINY, enter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawing") / "digits"
    enter("train", *TINY, "engine.images=64", "engine.preview_every=1000000", f"run={folder}")
    return folder


def two(*words: list[str]) -> tuple[list[int], str]:
    """Let two processes sample, each told its own words; return how they ended and what they said."""
    found = team([(enter, "sample", *told) for told in words])
    return [code for code, _ in found], "".join(text for _, text in found)


def test_two_processes_leave_the_files_of_one(run: Path, tmp_path: Path) -> None:
    """Bit for bit: a batch is the same samples whoever draws it."""
    words = [f"run={run}", "n=7", "batch_size=2", "steps=3", "seed=5", "film=true", "strip=2"]
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
    for name in ("samples.png", "film.gif", "strip.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert not list(tmp_path.glob("*/.parts-*"))


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

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x + 1


def drawing(folder: Path, room: int, **more: bool) -> Drawing:
    net = Small(room)

    def draw(rows: range, hooks: list) -> torch.Tensor:
        x_t = torch.tensor(list(rows), dtype=torch.float32).unsqueeze(1)
        x_s = net(x_t)
        for hook in hooks:
            hook(StepInfo(index=0, steps=1, t=1.0, s=0.0, x_t=x_t, x_s=x_s))
        return x_s

    return Drawing(draw=draw, net=net, n=11, batch_size=8, folder=folder, crew=Crew.assemble(), **more)


def test_batches_are_halved_until_they_fit(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        drawn = drawing(tmp_path, room=3, watched=True).samples()
    assert drawn is not None
    assert [str(note.message) for note in told] == [
        "the memory did not suffice for 8 samples at once; going on with 4",
        "the memory did not suffice for 4 samples at once; going on with 2",
    ]
    assert drawn.x.flatten().tolist() == list(range(1, 12))
    assert drawn.nfe == 1, "what did not fit is not counted"
    assert drawn.trajectory.times == [1.0, 0.0]
    assert drawn.trajectory.states[1].flatten().tolist() == [1, 2], "the first part's"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("room", "divisible"), [(0, True), (3, False)])
@pytest.mark.filterwarnings("ignore:the memory did not suffice")
def test_what_cannot_be_halved_is_an_error(tmp_path: Path, room: int, divisible: bool) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        drawing(tmp_path, room, divisible=divisible).samples()
    assert not list(tmp_path.iterdir())
