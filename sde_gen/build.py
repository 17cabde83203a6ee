"""The composition root: the one place where a configuration becomes objects that meet."""

import re
from dataclasses import dataclass
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from sde_gen._typing import Shape
from sde_gen.codec import Codec
from sde_gen.denoiser import NetworkDenoiser


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the data says and no configuration can: it fills the keys that a yaml leaves as ``???``.

    Arguments:
        shape: event shape of the data, such as (C, H, W).
        levels: number of integer levels, None for continuous data.
        classes: number of classes, 0 for data without labels.
    """

    shape: Shape
    levels: int | None
    classes: int

    def fill(self, config: DictConfig) -> dict[str, Any]:
        """The facts that this node asks for."""
        return {key: value for key, value in vars(self).items() if key in config and OmegaConf.is_missing(config, key)}


def codec(config: DictConfig, facts: Facts) -> Codec:
    """Build the map between data and model space."""
    built: Codec = instantiate(config.codec, **facts.fill(config.codec))
    return built


def denoiser(config: DictConfig, facts: Facts) -> NetworkDenoiser:
    """Build the network, its process and the meaning of its output; the process is made once."""
    sde = instantiate(config.sde)
    shared = {"sde": sde} if "sde" in config.parametrization else {}
    return NetworkDenoiser(
        net=instantiate(config.model, _convert_="all", **facts.fill(config.model)),
        sde=sde,
        parametrization=instantiate(config.parametrization, **shared),
    )


def check_targets(config: Any, trust: tuple[str, ...] = ()) -> None:
    """Refuse to instantiate from a stored configuration anything but our own classes.

    A run folder may come from somebody else, and a ``_target_`` may name any function of any module.

    Arguments:
        config: a configuration, or a part of one.
        trust: further packages whose objects may be built, such as your own.

    Raises:
        ValueError: a ``_target_`` lies outside sde_gen and the trusted packages.
    """
    packages = "|".join(re.escape(name) for name in ("sde_gen", *trust))
    if isinstance(config, dict):
        if "_target_" in config:
            target = str(config["_target_"])
            home = getattr(get_object(target), "__module__", "") if re.match(rf"({packages})\.", target) else ""
            if not re.match(rf"({packages})(\.|$)", home or ""):
                raise ValueError(
                    f"the run's configuration asks for {target!r}, which is not part of sde_gen; "
                    f"if you trust that package, add trust=[{target.partition('.')[0]}]"
                )
        for value in config.values():
            check_targets(value, trust)
    elif isinstance(config, list):
        for value in config:
            check_targets(value, trust)
