"""Resume a training from its last checkpoint."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import diff_config
from sde_gen.checkpoint.state_dict import finite, from_tensors, load_into, to_tensors
from sde_gen.distributed.strategy import Strategy


def resume(
    folder: Path,
    *,
    net: nn.Module,
    ema_model: nn.Module,
    adam: torch.optim.Optimizer,
    strategy: Strategy,
    about: dict[str, Any],
    batch_size: int,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    load_objective: Callable[[Mapping[str, Tensor]], None] = lambda tensors: None,
) -> int | None:
    """Load the last checkpoint, if there is one, and warn if it was written with other settings.

    Arguments:
        folder: the folder of checkpoints.
        net: the network.
        ema_model: the network with EMA weights.
        adam: the optimizer.
        strategy: the strategy, which may shard these.
        about: current settings as plain data.
        batch_size: images per step.
        upgrade: function that renames settings of earlier versions in the checkpoint.
        load_objective: function that restores the state of the objective.

    Returns:
        Images seen, or None without a checkpoint.

    Raises:
        ValueError: the checkpoint is of another network, batch size or choice of parameters to train, or contains
            non-finite values.
    """
    saved = checkpoint.latest(folder, strategy=strategy)
    if saved is None:
        return None
    what = f"the checkpoint in {folder.parent}"
    if saved.images % batch_size:
        raise ValueError(
            f"{what} has seen {saved.images:,} images, which is not a multiple of batch_size={batch_size}; "
            "keep its batch size or choose another run folder"
        )
    _check_trained(saved.about.get("trained"), about.get("trained"), what)
    load_into(net, saved.net, what=what, strategy=strategy)
    load_into(ema_model, saved.ema, what=what, strategy=strategy)
    from_tensors(adam, saved.optimizer, strategy)
    load_objective({name: tensor[()] for name, tensor in saved.objective.items()})
    _check_finite(folder, saved.images, net, ema_model, adam, strategy)
    stored = upgrade(saved.about)
    known = {key: value for key, value in about.items() if key in stored}  # earlier versions stored less
    same = dict.fromkeys(("command", "validation", "metrics"))  # no settings
    changed = diff_config({**stored, **same}, {**known, **same})
    if changed:
        bits = any(line.startswith("execution.") for line in changed)
        warnings.warn(
            f"{what} was written with other settings: {'; '.join(changed)}"
            + ("; with another number of threads or memory format the last bits may differ" if bits else ""),
            stacklevel=4,
        )
    return saved.images


def _check_trained(stored: Any, now: Any, what: str) -> None:
    """Raise an error for a training of other parameters: the states of the optimizer are numbered."""
    if stored != now:
        names = [
            "all parameters"
            if not isinstance(each, list)
            else f"{len(each)} parameters ({', '.join(map(str, each[:2]))}, ...)"
            for each in (stored, now)
        ]
        raise ValueError(
            f"{what} trains other parameters: {names[0]}, now {names[1]}; give freeze=... and adapter=... as they "
            "were, or choose another run folder"
        )


def _check_finite(
    folder: Path,
    images: int,
    net: nn.Module,
    ema_model: nn.Module,
    adam: torch.optim.Optimizer,
    strategy: Strategy,
) -> None:
    parts = {
        "weights": net.state_dict(),
        "averaged weights": ema_model.state_dict(),
        "numbers of the optimizer": to_tensors(adam),
    }
    bad = [name for name, tensors in parts.items() if not finite(tensors.values(), strategy)]
    if bad:
        *older, newest = checkpoint.paths(folder) or [folder]
        go_on = f"delete it to go on from {older[-1]}, or choose" if older else "choose"
        raise ValueError(
            f"the checkpoint {newest} at {images:,} images holds {' and '.join(bad)} that are not finite; "
            f"{go_on} another run folder"
        )


def plain(about: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as it is loaded from JSON.

    Raises:
        ValueError: they are not JSON-serializable.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(about))
    except TypeError as error:
        raise ValueError(f"about={about} must be plain data that JSON can represent ({error})") from error
    return copy
