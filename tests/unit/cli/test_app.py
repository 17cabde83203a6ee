"""Setup common to all commands."""

import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import timedelta

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError
from PIL import Image
from torch.distributed import TCPStore

from sde_gen.cli import instantiate, sample, train
from sde_gen.cli import main as cli_main
from sde_gen.cli.app import Command
from sde_gen.cli.options import check
from sde_gen.data.image_file import load_image
from sde_gen.distributed import launch
from sde_gen.distributed.launch import should_report
from tests.helpers.subprocesses import ROOT, free_port


def test_float32_is_float32(monkeypatch):
    """Convolutions on CUDA included, where PyTorch by itself takes 10 bits of their factors."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    seen = []
    Command(
        name="sample",
        function=lambda config: seen.append((config.run, torch.backends.cudnn.allow_tf32)),
    )()
    assert seen == [("anywhere", False)]


def test_mistakes_of_the_task_give_a_one_line_error(monkeypatch, capsys):
    def task(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended:
        Command(name="sample", function=task)()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: out of memory: try a smaller batch_size")


def test_warnings_are_one_line_without_their_source(monkeypatch, capsys):
    def task(config):
        del config
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *about: sys.stderr.write(warnings.formatwarning(*about[:4]))
            for category in (UserWarning, RuntimeWarning, FutureWarning, Image.DecompressionBombWarning):
                warnings.warn("the film\nis long", category, stacklevel=1)

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    before = warnings.formatwarning
    Command(name="sample", function=task)()
    assert capsys.readouterr().err == "warning: the film is long\n" * 4
    assert warnings.formatwarning is before


def test_complaints_of_exif_are_no_warnings(monkeypatch, capsys, tmp_path):
    """The picture itself is fine, and the warning would not name it."""
    path = tmp_path / "a.jpg"
    Image.new("L", (4, 4)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")

    def task(config):
        del config
        warnings.showwarning = lambda *about: sys.stderr.write(warnings.formatwarning(*about[:4]))
        load_image(path, (1, 4, 4))

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.warns(UserWarning, match="EXIF"):
            load_image(path, (1, 4, 4))
        Command(name="sample", function=task)()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"n": None}, "n=null: expected a whole number of at least 1"),
        ({"n": 2.5}, "n=2.5"),
        ({"n": 10**30}, "n=1000000"),
        ({"n": True}, "n=true"),
        ({"seed": -1}, "seed=-1"),
        ({"device": None}, "device=null: expected the name of a device"),
        ({"run": None}, "run=null: expected a path"),
        ({"run": ""}, "run=: expected a path"),
        ({"trust": None}, "trust=null"),
        ({"gif": "perhaps"}, "gif=perhaps: expected true or false"),
        ({"label": [0.5]}, "label="),
        ({"noise_std": float("nan")}, "noise_std=nan"),
        ({"solver": None}, "solver=null: sample needs the settings"),
        ({"grid": {"t_max": 1}}, "has no _target_"),
        ({"sampler": 3}, "sampler=3"),
    ],
)
def test_options_of_the_wrong_kind_are_named(change, line):
    with pytest.raises(ValueError, match=line) as found:
        check(
            OmegaConf.merge(SAMPLE, OmegaConf.create(change)) if "grid" not in change else _with(change),
            "sample",
        )
    assert "\n" not in str(found.value)


def _with(change):
    config = SAMPLE.copy()
    config.update(change)
    return config


NODE = {"_target_": "sde_gen.solver.Heun"}
SAMPLE = OmegaConf.create(
    {
        **{kind: NODE for kind in ("solver", "grid", "method", "precision", "compile", "sampler")},
        **{"run": "x", "n": 4, "seed": 0, "device": "cpu", "gif": False, "trust": [], "label": None},
        "noise_std": 0.1,
        "data": {},
    }
)


def test_whole_floats_become_integers_where_integers_are_expected():
    config = SAMPLE.copy()
    config.update(
        {
            "n": 1e2,
            "noise_std": 1.0,
            "compile": {
                "_target_": "sde_gen.training.TrainingConfig",
                "images": 1e5,
                "seed": 1.5,
                "grad_clip": 2.0,
            },
            "precision": {"_target_": "sde_gen.model.NCSNpp", "attention_levels": [1.0, 2, 2.5]},
        }
    )
    check(config, "sample")
    assert (config.n, type(config.n)) == (100, int)
    assert (config.compile.images, type(config.compile.images)) == (100_000, int)
    assert (config.compile.seed, type(config.compile.grad_clip)) == (1.5, float)
    assert [type(one) for one in config.precision.attention_levels] == [int, int, float]


def test_of_many_processes_one_says_a_mistake(monkeypatch):
    """The main one, unless only another has it; what follows from a failure that was said is not said."""
    port = free_port()
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))
    monkeypatch.setattr(launch, "REPORT_TIMEOUT", 0.2)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setenv("RANK", "1")
    found = []
    other = threading.Thread(target=lambda: found.append(should_report("the same")))
    monkeypatch.setattr(launch, "REPORT_TIMEOUT", 5.0)
    other.start()
    time.sleep(0.1)
    monkeypatch.setenv("RANK", "0")
    assert should_report("the same")
    other.join()
    assert found == [False]
    monkeypatch.setattr(launch, "REPORT_TIMEOUT", 0.05)
    monkeypatch.setenv("RANK", "1")
    assert should_report("mine alone")
    assert not should_report("process 1 lost another one", consequence=True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert should_report("process 1 lost another one", consequence=True)
    del store


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_an_interrupt_in_the_first_seconds_leaves_no_traceback(seconds, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "sde_gen.verify", "out=there"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing.X", "No module named 'nothing'"),
        ("sde_gen.training.TensorBord", "No module named 'sde_gen.training.TensorBord'"),
        ("os.system", "cannot be authorized"),
    ],
)
def test_a_wrong_target_is_one_whole_line(target, words, monkeypatch, capfd):
    """Hydra's messages of several lines are not cut, and its log does not repeat them."""

    def task(config):
        instantiate.make(OmegaConf.create({"solver": {"_target_": target}}).solver)

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit):
        Command(name="sample", function=task)()
    written = capfd.readouterr().err
    assert written.startswith("error: solver")
    assert written.count("\n") == 1
    assert words in written


@pytest.mark.parametrize(
    ("command", "key"), [("sample", "seed"), ("train", "engine.seed"), ("train", "data.seed")]
)
@pytest.mark.parametrize("seed", [2**64, 10**30, -(2**64)])
def test_a_seed_out_of_range_is_answered_with_the_limit(command, key, seed, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(sys, "argv", [command, f"run={tmp_path / 'run'}", f"{key}={seed}"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    function = {"sample": sample.sample, "train": train.train}[command]
    with pytest.raises(SystemExit):
        Command(name=command, function=function)()
    written = capfd.readouterr().err
    assert written.startswith(f"error: {key}={seed}")
    limit = {"seed": 2**63 - 1}.get(key, 2**64)
    assert f"{limit:,}" in written
    assert written.count("\n") == 1


BELL = "\x1b[2J\x07\u202e"
"""Clears the screen, rings, and turns what follows from right to left."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"{BELL}x\nsecond line"),
        FileNotFoundError(2, "No such file", f"{BELL}x"),
        ConfigKeyError(f"{BELL}x"),
        ImportError(f"{BELL}x"),
        FloatingPointError(f"{BELL}x"),
    ],
)
def test_the_line_of_a_mistake_holds_no_control_characters(error, monkeypatch, capfd):
    """Names of files and classes may be anybody's, and a terminal obeys them."""

    def task(config):
        raise error

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended:
        Command(name="sample", function=task)()
    out, written = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert written.startswith("error: ")
    assert written.endswith("\n")
    assert written[:-1].isprintable()
    assert "x" in written


def test_warnings_and_unknown_commands_hold_no_control_characters(monkeypatch, capsys):
    def task(config):
        del config
        sys.stderr.write(warnings.formatwarning(UserWarning(f"a{BELL}b"), UserWarning, "file", 1))

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    Command(name="sample", function=task)()
    written = capsys.readouterr().err
    assert written.startswith("warning: a")
    assert written[:-1].isprintable()
    for words in ([f"{BELL}x"], ["list", f"{BELL}x"]):
        monkeypatch.setattr(sys, "argv", ["sde-gen", *words])
        with pytest.raises(SystemExit):
            cli_main.main()
        written = capsys.readouterr().err
        assert written.startswith("error: ")
        assert written[:-1].isprintable()
