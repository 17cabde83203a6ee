"""Check of a control against the run of the network that it controls."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint.manifest import brief
from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import Run
from sde_gen.data import Splits

SAME = ("sde", "parametrization", "codec")
"""Parts of a configuration that a control shares with the network that it controls."""


def check_base(config: DictConfig, base: Run, splits: Splits) -> None:
    """Raise an error where a control is trained with another process, or on other data, than its network was.

    Arguments:
        config: the configuration of the training of the control.
        base: the run of the network.
        splits: the data.

    Raises:
        ValueError: process, prediction type, codec, shape or vocabulary are others.
    """
    spec = DataSpec.of(splits)
    if (spec.shape, spec.levels) != (base.data_spec.shape, base.data_spec.levels):
        raise ValueError(
            f"the network in {base.folder} was trained on data of shape {base.data_spec.shape} with "
            f"{base.data_spec.levels} levels; these have shape {spec.shape} with {spec.levels}: give the same data"
        )
    for name in SAME:
        mine, former = (OmegaConf.to_container(part[name], resolve=True) for part in (config, base.config))
        if _known(mine) != _known(former):
            raise ValueError(
                f"the network in {base.folder} was trained with {name}={brief(former)}, the control has "
                f"{brief(mine)}: give {name}=... as it was"
            )
    learned = base.conditioning.stored()
    mine = build.conditioning(config, spec).fit(splits.train).stored()
    if learned and learned not in (mine, *mine.values()):
        raise ValueError(
            f"the network in {base.folder} reads other conditions than those of conditioning=...: give the control the "
            "same data and conditions beside its hint, such as conditioning=text_control beside conditioning=text"
        )


def _known(part: Any) -> Any:
    """Return the settings of a part that the data do not determine."""
    return {key: value for key, value in part.items() if value != "???"}
