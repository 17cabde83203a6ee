"""Further callbacks of a training: a class derived from Callback, and nothing else, in a line."""

import re

import pytest
from omegaconf import OmegaConf

from sde_gen.cli.loggers import make_loggers
from sde_gen.training import JSONL, Callback


class Counts(Callback):
    """A callback of somebody's own."""

    def __init__(self, path):
        self.path = path


def nodes(*entries):
    return OmegaConf.create({"loggers": list(entries)}).loggers


def test_callbacks_of_any_package_are_made(tmp_path):
    mine = {"_target_": f"{__name__}.Counts", "path": "x"}
    found = make_loggers(nodes({"_target_": "sde_gen.training.JSONL", "path": str(tmp_path / "more")}, mine))
    assert [type(one) for one in found] == [JSONL, Counts]
    assert make_loggers(nodes()) == []


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "os.system"}, "os.system is no callback"),
        ({"_target_": "builtins.dict"}, "builtins.dict is no callback"),
        ({"_target_": "sde_gen.solver.Heun"}, "sde_gen.solver.Heun is no callback"),
        ({"_target_": "sde_gen.training.TensorBord"}, "there is no class sde_gen.training.TensorBord"),
        ({"_target_": "nothing.X"}, "there is no class nothing.X"),
        ({"_target_": "sde_gen.training.JSONL"}, "missing 1 required"),
        ({"_target_": "sde_gen.training.JSONL", "path": 3}, "path=3 must be a path"),
        ({"_target_": "sde_gen.training.JSONL", "_partial_": True}, "_partial_=true"),
    ],
)
def test_anything_else_is_refused_before_it_is_called(node, words, monkeypatch, capfd):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("called"))
    with pytest.raises(ValueError, match=rf"^loggers\[1\].*{re.escape(words)}") as found:
        make_loggers(nodes({"_target_": f"{__name__}.Counts", "path": "x"}, node))
    message = str(found.value)
    assert "\n" not in message
    if "missing" not in words and "path=3" not in words:
        assert "sde_gen.training.Callback" in message
        assert "{_target_: sde_gen.training.TensorBoard, folder: tb}" in message
    assert capfd.readouterr().err == ""
