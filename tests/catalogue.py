"""The yaml directory as the tests see it: every file of conf/<kind> is an instance to hold to the contract."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parent.parent / "conf"


def names(kind: str) -> list[str]:
    """Names of the yaml files of a kind."""
    return sorted(path.stem for path in (CONF / kind).glob("*.yaml"))


def make(kind: str, name: str, *, sde: str = "vp", **overrides: Any) -> Any:
    """Build the object of conf/<kind>/<name>.yaml; ``${sde}`` inside it refers to conf/sde/<sde>.yaml."""
    config = OmegaConf.create({"sde": OmegaConf.load(CONF / "sde" / f"{sde}.yaml")})
    config[kind] = OmegaConf.merge(OmegaConf.load(CONF / kind / f"{name}.yaml"), overrides)
    return instantiate(config[kind])
