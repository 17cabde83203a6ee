"""Commands in the test's own process, as their command lines call them."""

import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from torch import nn

from sde_gen.checkpoint import StoredCheckpoint
from sde_gen.cli import (
    benchmark,
    bundle,
    compare,
    convert,
    encode,
    evaluate,
    run,
    sample,
    soup,
    threads,
    train,
    verify,
)
from sde_gen.training.autotune import Autotune

threads.Autotune = partial(Autotune, budget=0.0)  # type: ignore[misc, assignment]
"""Commands of tests try every memory format once, not for a second; for the choice see unit/training/test_autotune."""


def _compare_once(
    make: partial[nn.Module],
    node: DictConfig,
    found: StoredCheckpoint,
    what: str,
    compare: Any = run._compare,
) -> None:
    """Compare a checkpoint once with a network on the meta device; the network with memory is compared each time."""
    key = (found.sha256["ema"], pickle.dumps(make.args[0]), repr(make.args[1:]))
    if key not in _COMPARED:
        compare(make, node, found, what)
        _COMPARED.add(key)


_COMPARED: set[tuple[str, bytes, str]] = set()
run._compare = _compare_once  # type: ignore[assignment]

COMMANDS: dict[str, Callable[[], None]] = {
    "train": train.main,
    "sample": sample.main,
    "evaluate": evaluate.main,
    "benchmark": benchmark.main,
    "bundle": bundle.main,
    "compare": compare.main,
    "verify": verify.main,
    "convert": convert.main,
    "encode": encode.main,
    "soup": soup.main,
}
TINY = [
    "model.width=8",
    "model.blocks=1",
    "model.attention_levels=[]",
    "engine.images=256",
    "engine.log_every=64",
    "engine.checkpoint_every=128",
    "engine.preview_every=256",
    "engine.validate=16",
    "preview.n=4",
    "preview.sampler.steps=2",
]
"""A training of four steps."""


def enter(name: str, *arguments: object) -> None:
    """Call a command as its command line would."""
    GlobalHydra.instance().clear()
    before = sys.argv
    sys.argv = [f"sde_gen.{name}", *map(str, arguments)]
    try:
        COMMANDS[name]()
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()


def mistake(capfd: pytest.CaptureFixture[str], name: str, *arguments: object) -> str:
    """Error of a command: one line, no traceback, exit status 2."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        enter(name, *arguments)
    out, err = capfd.readouterr()
    assert stop.value.code == 2
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]
