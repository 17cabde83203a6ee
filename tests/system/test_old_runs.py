"""Run folders of version 0.1 open, sample and resume to the same bits; ``train run=...`` alone continues a training."""

import hashlib
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

import sde_gen as sg
from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import renamed
from sde_gen.training.precision import Auto
from tests.helpers.commands import enter, mistake
from tests.helpers.stored_run import header_of, write_header

OLD = Path(__file__).parents[1] / "data" / "run_v0_1"
SAMPLES = "66c9358f904c5bcf4ed9b1987e36b1ac157517c5ca90ecc9b593344dfa259a32"
NET = "fe615696415d3c5ebee3d554f59e98502a1df29dde26af9c3de9670bb980a4b5"
EMA = "f8ed43966a8a14d5006e60d66e24a3d3e7944b276b2a2a20e931d3abc96d4442"
"""SHA-256 of what version 0.1 sampled from this folder, and of its weights after training on to 64 images."""

CONTROL = "044f670faeb60dff7fc449ab0b9f54471cf71894ce954d3fd30632f9ae07cff6"
"""SHA-256 of two products of PyTorch on the machine of these digests."""


def sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def control() -> str:
    """Numbers that other kernels round otherwise, forwards and backwards."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(16, 8, 8, 8, generator=g)
    w = torch.randn(8, 8, 3, 3, generator=g).requires_grad_()
    y = torch.nn.functional.conv2d(x.bfloat16(), w.bfloat16(), padding=1).float()
    z = torch.nn.functional.conv2d(x, w, padding=1).flatten(1)
    (y.square().sum() + (z @ z.T).square().sum()).backward()
    return sha256({"y": y.detach().numpy(), "z": z.detach().numpy(), "w": w.grad.numpy()})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shutil.copytree(OLD, tmp_path / "run")
    yield tmp_path / "run"
    torch.set_num_threads(threads)


@pytest.fixture
def _same_machine(run: Path) -> None:
    if Auto().dtype(torch.device("cpu")) != torch.bfloat16 or control() != CONTROL:
        pytest.skip("this machine rounds otherwise than that of the digests")


def trained(folder: Path, images: int, part: str) -> str:
    path = folder / "checkpoints" / f"{images:012d}" / f"{part}.safetensors"
    return sha256(safetensors.numpy.load_file(path))


@pytest.mark.usefixtures("_same_machine")
def test_an_old_run_samples_to_the_same_bits(run, tmp_path):
    enter("sample", f"run={run}", "n=4", "steps=5", "seed=0", f"out={tmp_path / 'out'}")
    with np.load(tmp_path / "out" / "samples.npz") as found:
        assert sha256(dict(found)) == SAMPLES


OLD_WORDS = [
    *(
        "conditioning=class",
        "time_sampler=log1p_snr",
        "weighting=time_density",
        "model.width=8",
        "model.blocks=1",
    ),
    *(
        "model.multipliers=[1,1]",
        "engine.batch_size=16",
        "engine.log_every=16",
        "engine.preview_every=1000000",
    ),
    *("engine.checkpoint_every=16", "engine.keep=1", "engine.validate=16", "preview.n=2"),
    *("preview.sampler.steps=2", "lr_schedule.warmup=16"),
]


@pytest.mark.long
@pytest.mark.parametrize("words", [[], OLD_WORDS], ids=["run alone", "whole command"])
@pytest.mark.usefixtures("_same_machine")
def test_an_old_run_resumes_to_the_same_bits(run, words):
    enter("train", f"run={run}", "engine.images=64", *words)
    assert (trained(run, 64, "net"), trained(run, 64, "ema")) == (NET, EMA)


@pytest.mark.long
@pytest.mark.parametrize("words", [[], OLD_WORDS], ids=["run alone", "whole command"])
def test_an_old_run_resumes_without_a_false_warning(run, words):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enter("train", f"run={run}", "engine.images=64", *words)
    changes = [change for each in caught for change in str(each.message).split(": ", 1)[-1].split("; ")]
    changed = {change.partition(":")[0] for change in changes if change.startswith("config.")}
    assert changed <= {"config.engine.images", "config.run"}


def test_run_alone_continues_and_overrides_change_only_themselves(run, capfd):
    before = checkpoint.about(run / "checkpoints" / "000000000032")["config"]
    enter("train", f"run={run}")
    assert "finished" in " ".join(capfd.readouterr().out.split())
    with pytest.warns(UserWarning, match=r"config\.optimizer\.lr: 0\.001 -> 0\.002"):
        enter("train", f"run={run}", "engine.images=48", "optimizer.lr=0.002", "time_sampler=uniform")
    now = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    assert now["optimizer"]["lr"] == 0.002
    assert now["model"]["width"] == before["model"]["width"] == 8
    assert now["preview"]["n"] == 2
    assert now["time_sampler"] == now["objective"]["time_sampler"]
    assert now["time_sampler"]["_target_"] == "sde_gen.objective.time_sampler.UniformTime"
    assert now["weighting"]["times"]["_target_"] == "sde_gen.objective.time_sampler.Log1pSNR"


def test_finished_old_training_is_not_reported_to_differ(run, capfd):
    enter("train", f"run={run}", "engine.images=32", *OLD_WORDS)
    assert "finished" in " ".join(capfd.readouterr().out.split())
    assert "model.width: 8 -> 16" in mistake(capfd, "train", f"run={run}", "model.width=16")


def test_stored_settings_of_a_stranger_build_nothing(run, capfd):
    path = run / "checkpoints" / "000000000032"
    header = header_of(path)
    header["about"]["config"]["optimizer"] = {"_target_": "os.system", "command": "true"}
    write_header(path, header)
    assert "os.system" in mistake(capfd, "train", f"run={run}", "engine.images=64")
    enter("train", f"run={run}", "engine.images=48", "optimizer=adam")  # then the stored one is not read


def test_every_old_class_has_one_name_today():
    for old, new in renamed.TARGETS.items():
        assert get_object(new), old
        assert renamed.TARGETS.get(new, new) == new


@pytest.mark.filterwarnings("ignore:.* of the values outside")
def test_a_run_loaded_in_python_gives_the_samples_of_the_command(tmp_path: Path) -> None:
    enter("sample", f"run={OLD}", "n=5", "steps=3", "seed=7", "batch_size=2", f"out={tmp_path}")
    expected = torch.from_numpy(np.load(tmp_path / "samples.npz")["model_space"])
    run = sg.load(str(OLD))
    assert torch.equal(run.sample(5, sampler=sg.Sampler(steps=3), seed=7, batch_size=2), expected)
    assert not torch.equal(run.sample(5, sampler=sg.Sampler(steps=3), seed=8), expected)
