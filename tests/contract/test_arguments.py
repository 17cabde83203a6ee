"""Constructors reject arguments of another type than annotated, with a one-line error that names the setting."""

import inspect
import math
import re
import typing
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from sde_gen.cli import instantiate
from tests.helpers.catalogue import CONF, names

NO_KINDS = ("hydra", "recipe")
KINDS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NO_KINDS)
ELSEWHERE = {"noise_std": 0.1, "factor": 2}
"""Settings of commands that yaml files of methods refer to."""

FILLED = {("guidance", "clip"): {"low": -1.0, "high": 1.0}}
"""Values that the commands substitute for null."""


def files(kind: str) -> list[DictConfig]:
    """The files of a kind, each inside the configuration that its interpolations need."""
    found = []
    for name in names(kind):
        node = OmegaConf.merge(OmegaConf.load(CONF / kind / f"{name}.yaml"), FILLED.get((kind, name), {}))
        found.append(OmegaConf.create({"run": "runs/x", **ELSEWHERE, **chosen(), kind: node}))
    return found


CHOSEN = {
    "sde": "vp",
    "solver": "ddim",
    "integrator": "adams",
    "divergence": "exact",
    "dequantization": "uniform",
    "time_sampler": "uniform",
    "weighting": "simple",
    "step_sampler": "uniform",
    "pointwise_loss": "squared",
    "training_noise": "independent",
    "method": "dps",
    "features": "pixels",
    "codec": "affine",
    "model": "kl_autoencoder",
}


def leaves(node, at):
    """Every setting of a constructor inside a node: its key, and the annotation."""
    if isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from leaves(node._get_node(index), f"{at}[{index}]")
    if not isinstance(node, DictConfig):
        return
    hints = {}
    if "_target_" in node:
        target = get_object(node._target_)
        hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target)
        hints = {**typing.get_type_hints(target), **hints} if isinstance(target, type) else hints
    for key in node:
        child = node._get_node(key)
        if key in hints and not child._is_interpolation():
            yield f"{at}.{key}", hints[key]
        if not child._is_interpolation() and not child._is_missing():
            yield from leaves(child, f"{at}.{key}")


def wrong(hint) -> list[object]:
    """Values that are invalid for this annotation."""
    optional = type(None) in typing.get_args(hint)
    kinds = set(typing.get_args(hint) if optional else [hint]) - {type(None)}
    bad: list[object] = [] if optional else [None]
    if kinds == {int}:
        return [*bad, "abc", [24, 40], 1.5, 16.0, True, math.nan, math.inf, {"a": 1}, 10**30]
    if kinds == {float}:
        return [*bad, "abc", [0.1], True, math.nan, {"a": 1}]
    if kinds == {bool}:
        return [*bad, "abc", [True], 1, 0.5]
    if kinds == {str}:
        return [*bad, 1.5, ["a"], True]
    if kinds in ({tuple[int, ...]}, {tuple[int, int]}):
        return [*bad, 2, "abc", [1.5, 1.5], ["a", "b"], [None, None], [True, True], {"a": 1}]
    if kinds == {tuple[float, ...]}:
        return [*bad, 2.0, "abc", ["a"], [None], [math.nan]]
    if all(inspect.isclass(kind) and kind.__module__.startswith("sde_gen") for kind in kinds):
        return [*bad, "abc", 3, [1]]
    return bad if kinds != {typing.Any} else []


@cache
def chosen() -> dict[str, DictConfig]:
    """The files that others refer to; a configuration that is created of them copies them."""
    return {kind: OmegaConf.load(CONF / kind / f"{name}.yaml") for kind, name in CHOSEN.items()}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_of_another_type_is_rejected(kind: str) -> None:
    for whole in files(kind):
        instantiate.check(whole[kind])
        for key, hint in leaves(whole[kind], kind):
            parent, _, last = key.rpartition(".")
            missing = OmegaConf.is_missing(OmegaConf.select(whole, parent), last)
            before = "???" if missing else OmegaConf.select(whole, key)
            for value in wrong(hint):
                OmegaConf.update(whole, key, value, merge=False)
                with pytest.raises(ValueError, match=" must be ") as caught:
                    instantiate.check(whole[kind])
                line = str(caught.value)
                assert line.startswith(f"{key}="), (key, value, line)
                assert "\n" not in line
                assert len(line) < 300, line
            OmegaConf.update(whole, key, before, merge=False)


def test_invalid_trainings_are_rejected_before_data_are_read() -> None:
    """The whole configuration is checked; the message names the setting as the user types it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", ["data=emoji", "run=somewhere"])
    instantiate.check(whole)
    for setting, value, words in (
        ("engine.batch_size", 16.0, "a whole number; write 16"),
        ("engine.images", 1e2, "a whole number; write 100"),
        ("engine.seed", 1.5, "a whole number"),
        ("engine.validate", None, "a whole number"),
        ("engine.channels_last", "maybe", "true or false"),
        ("data.size", 8.5, "a whole number"),
        ("data.size", [24, 40], "a whole number"),
        ("optimizer.lr", "abc", "a finite number"),
        ("optimizer.lr", math.inf, "a finite number"),
        ("model.multipliers", 2, "a list of finite numbers"),
        ("time_sampler", "uniform", "an object of TimeSampler, such as "),
        ("preview.sampler.steps", 2.5, "a whole number"),
        ("parametrization.label", None, "an object of NoiseLabel, such as "),
    ):
        before = OmegaConf.select(whole, setting)
        OmegaConf.update(whole, setting, value, merge=False)
        with pytest.raises(ValueError, match=f"^{re.escape(setting)}=.* must be {words}"):
            instantiate.check(whole)
        OmegaConf.update(whole, setting, before, merge=False)
