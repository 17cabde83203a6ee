"""The console script, the help of commands, completion, and names of version 0.1."""

import os
import pickle
import runpy
import subprocess
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

import sde_gen
from sde_gen.cli import benchmark, compare, convert, demo, evaluate, main, sample, train, verify
from sde_gen.cli.config_files import CONF, groups, names
from sde_gen.cli.help import command_help, settings
from sde_gen.cli.overrides import validate_overrides

MODULES = (train, sample, evaluate, benchmark, compare, convert, demo, verify)


def script(monkeypatch, capsys, *arguments):
    """Exit status and output of ``sde-gen``."""
    monkeypatch.setattr(sys, "argv", ["sde-gen", *arguments])
    try:
        main.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    found = capsys.readouterr()
    return code, found.out, found.err


def test_list_prints_the_names_of_a_group(monkeypatch, capsys):
    assert script(monkeypatch, capsys, "list", "solver") == (0, "\n".join(names("solver")) + "\n", "")
    assert "solver" in script(monkeypatch, capsys, "list")[1].split()
    code, out, err = script(monkeypatch, capsys, "list", "solvr")
    assert (code, out) == (2, "")
    assert err == "error: group solvr is unknown; did you mean solver?\n"


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_version(monkeypatch, capsys, words):
    assert script(monkeypatch, capsys, *words) == (0, f"sde_gen {sde_gen.__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_usage_names_every_command(monkeypatch, capsys, words):
    code, out, _ = script(monkeypatch, capsys, *words)
    assert code == 0
    files = {path.stem for path in CONF.glob("*.yaml")} - {"command"}
    assert files == set(main.COMMANDS)
    assert all(f"  {name} " in out for name in files)


def test_commands_run_as_their_modules_do(monkeypatch, capsys):
    for name in main.COMMANDS:
        code, out, _ = script(monkeypatch, capsys, name, "--help")
        assert (code, out) == (0, command_help(name) + "\n")


def test_unknown_commands_give_a_one_line_error(monkeypatch, capsys):
    assert script(monkeypatch, capsys, "trian") == (
        2,
        "",
        "error: command trian is unknown; did you mean train?\n",
    )


def test_the_command_of_classifiers_names_the_new_one(monkeypatch, capsys):
    words = "train_classifier is part of train since version 0.2: write python -m sde_gen.train objective=cross_entropy"
    assert script(monkeypatch, capsys, "train_classifier") == (2, "", f"error: {words}\n")
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("sde_gen.train_classifier", run_name="__main__")
    assert (stop.value.code, capsys.readouterr().err) == (2, f"error: {words}\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sde-gen tr", ["train"]),
        ("sde-gen sample guid", ["guidance=", "guidance@control_strength=", "guidance@threshold="]),
        ("sde-gen sample solver=heu", ["heun"]),
        ("sde-gen sample grid.t_max=", []),
        ("sde-gen list integ", ["integrator"]),
        ("sde-gen evaluate me", ["metrics="]),
        ("sde-gen nothing x", []),
    ],
)
def test_completion(line, expected):
    found = main.complete(line)
    assert [each for each in found if not each.startswith("guidance.")] == expected


def test_completion_and_lists_do_not_import_torch():
    code = "import sys; import sde_gen.cli.main; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["list", "solver"]])
def test_reader_that_stops_early_is_no_error(arguments):
    """As ``sde-gen --help | head`` does: the pipe is closed before anything is printed."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "from sde_gen.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_describes_settings_by_the_comments_of_the_yaml():
    text = """
defaults:
  - solver: heun   # method
n: 64              # number of samples
node:              # where
  root: null
  value: [1, 2]    # two
hydra:
  help: nothing    # to see
"""
    assert list(settings(text)) == [
        ("n", "64", "number of samples"),
        ("node", "", "where"),
        ("node.root", "null", ""),
        ("node.value", "[1, 2]", "two"),
    ]
    assert "  solver.middle: 0.3" in command_help("sample").splitlines()
    assert "solver.middle" not in command_help("sample", ["solver=heun"])
    classifier = command_help("train", ["objective=cross_entropy"]).splitlines()
    assert "  model.num_classes: ???" in classifier, "a file chooses files of other groups"
    assert any(line.startswith("  conditioning.dropout: 0.0 ") for line in classifier)
    assert "  guidance.rescale: 0.0" in command_help("sample", ["guidance=cfg"]).splitlines()
    assert {group.place for group in groups("verify")} == set()
    assert "threshold" in {group.place for group in groups("sample")}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_launchers_of_sweeps_can_pickle_a_command(module):
    command = pickle.loads(pickle.dumps(module.main.run_or_exit)).__self__
    assert command == module.main
    assert command.function is getattr(module, command.name)


@pytest.mark.parametrize(
    ("command", "word", "today"),
    [
        ("train", "team=replicated", "distributed=ddp"),
        ("train", "team=sharded", "distributed=fsdp"),
        ("train", "distributed=sharded", "distributed=fsdp"),
        ("train", "compiler=blocks", "compile=blocks"),
        ("train", "team._target_=x", "distributed._target_=x"),
        ("sample", "compiler=graphs", "compile=graphs"),
        ("train", "weighting=law", "weighting=time_density"),
        ("train", "time_sampler=information,uniform", "time_sampler=log1p_snr,uniform"),
        ("evaluate", "dequantisation=uniform", "dequantization=uniform"),
        ("sample", "film=true", "gif=true"),
        ("sample", "strip=8", "trajectory_frames=8"),
        ("evaluate", "metric.bpd.closer=null", "metric.bpd.diagnose_every=null"),
        ("evaluate", "metric.elbo_levels.ending.width=1", "metric.elbo_levels.data_term.width=1"),
    ],
)
def test_names_of_version_0_1_are_answered_with_those_of_today(command, word, today):
    GlobalHydra.instance().clear()
    with pytest.raises(ValueError, match=f"write {today}$") as found:
        validate_overrides(command, ["-m", "run=x", word])
    assert str(found.value).startswith(word)
    validate_overrides(command, ["-m", "run=x", today])


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_setting_of_guidance_of_version_0_1_is_answered_with_that_of_today(command):
    GlobalHydra.instance().clear()
    with pytest.raises(ValueError, match=r"^guidance\.told=false.*write guidance\.pass_label=false$"):
        validate_overrides(command, ["run=x", "guidance=classifier", "guidance.told=false"])
