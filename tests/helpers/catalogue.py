"""The yaml directory as the tests see it: every file of conf/<kind> is an instance to hold to the contract."""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[2] / "conf"


def names(kind: str) -> list[str]:
    """Names of the yaml files of a kind."""
    return sorted(path.stem for path in (CONF / kind).glob("*.yaml"))


def integrators() -> list[str]:
    """Names of the solvers that any denoiser can be given to: all but those of flow maps and generators."""
    return [name for name in names("solver") if make("solver", name).needs_denoiser]


def target(kind: str, name: str) -> Any:
    """The class of conf/<kind>/<name>.yaml."""
    return get_object(OmegaConf.load(CONF / kind / f"{name}.yaml")._target_)


def first(kind: str, *few: str) -> list[Any]:
    """The names of a kind as parameters, those but a few for slow runs."""
    return [pytest.param(name, marks=[] if name in few else pytest.mark.slow) for name in names(kind)]


_made: dict[tuple[str, str, str], Any] = {}


def make(kind: str, name: str, *, sde: str = "vp", **overrides: Any) -> Any:
    """Build the object of conf/<kind>/<name>.yaml; ``${sde}`` inside it refers to conf/sde/<sde>.yaml.

    A frozen dataclass is built once: nothing of a test stays in it, and hydra takes milliseconds to build one.
    """
    if (kind, name, sde) in _made and not overrides:
        return _made[kind, name, sde]
    config = _read(kind, name, sde)
    if overrides:
        config = OmegaConf.create({"sde": config.sde, kind: OmegaConf.merge(config[kind], overrides)})
    made = instantiate(config[kind], _convert_="all")
    if not overrides and dataclasses.is_dataclass(made) and made.__dataclass_params__.frozen:
        _made[kind, name, sde] = made
    return made


@cache
def _read(kind: str, name: str, sde: str) -> DictConfig:
    """The files, which take longer to read than most objects to build."""
    files = {"sde": CONF / "sde" / f"{sde}.yaml", kind: CONF / kind / f"{name}.yaml"}
    return OmegaConf.create({kind: OmegaConf.load(file) for kind, file in files.items()})
