"""Checks of a training against the checkpoints in its run folder: prediction type, data, and a finished budget."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import diff_config
from sde_gen.cli import build, run_reference
from sde_gen.cli.data_spec import DataSpec, check_classes, data_identity
from sde_gen.cli.renamed import upgrade, upgrade_about
from sde_gen.cli.run_dir import is_run_named
from sde_gen.data import DataIdentity, Splits

NOT_TRAINING = (
    *("run", "device", "loggers", "preview", "quality", "compile", "distributed", "recipe", "threads"),
    *(
        f"engine.{name}"
        for name in (
            "images",
            "log_every",
            "preview_every",
            "checkpoint_every",
            "metrics_every",
            "keep",
            "validate",
            "accumulation",
        )
    ),
)
"""Prefixes of settings that do not change a finished training."""


def check_compatible(folder: Path, config: DictConfig) -> None:
    """Raise an error if the weights have another prediction type, process or codec."""
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        old = upgrade(checkpoint.about(path).get("config"))
        if not isinstance(old, dict):
            continue  # damaged, or of another origin: the trainer reports it
        new = json.loads(json.dumps(OmegaConf.to_container(config, resolve=True)))
        kinds = ("sde", "parametrization", "codec", "adapter")
        changed = [
            line
            for kind in kinds
            if kind in old or kind != "adapter"  # which an earlier version did not have
            for line in diff_config(old.get(kind), new.get(kind), kind)
            if not line.startswith(run_reference.PLACES)
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a training with other settings ({'; '.join(changed)}); its weights would have "
                "another prediction: choose another folder with run=..., or give the old settings"
            )
        return


def check_data(folder: Path, config: DictConfig, splits: Splits) -> list[str]:
    """Raise an error for a training that would train nothing, or train a network on other classes.

    Returns:
        The settings changed since a training in the folder that is finished, on which its result does not depend.

    Raises:
        ValueError: the training in the folder has reached its budget with other settings or data; the data have other
            classes now; or the folder, which the user did not name, holds a training on other data.
    """
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        about = checkpoint.about(path)
        if not isinstance(about.get("config"), dict):
            continue  # damaged, or of another origin: the trainer reports it
        about = upgrade_about(about)
        old, now = DataIdentity.read(about.get("data")), data_identity(config, splits)
        changed = old.differences(now)
        unused: list[str] = []
        if int(path.name) >= config.engine.images:
            unused = _check_finished(folder, config, about["config"], changed, int(path.name))
        data_spec = about.get("facts")
        conditional = "label" in build.conditioning(config, DataSpec.of(splits)).names
        if conditional and isinstance(data_spec, dict):
            check_classes(splits, int(data_spec.get("classes", 0)), old.class_names, folder)
        if changed and old.places != now.places and not is_run_named():
            raise ValueError(
                f"{folder} holds a training on other data ({_listing(old.places)}, now {_listing(now.places)}: "
                f"{'; '.join(changed)}): give this training a separate folder with run=..., or run={folder} to go on "
                "there with these data"
            )
        return unused
    return []


def _check_finished(
    folder: Path, config: DictConfig, old: dict[str, Any], changed: list[str], images: int
) -> list[str]:
    """Raise ValueError where the command changes a finished training; return the changes that it does not use."""
    new = _known(json.loads(json.dumps(OmegaConf.to_container(config, resolve=True))), old)
    if not changed:  # then it does not matter how they were found
        old, new = (
            {key: value for key, value in settings.items() if key != "data"} for settings in (old, new)
        )
    every = diff_config(old, new)
    lines = [line for line in every if not line.startswith((*NOT_TRAINING, *run_reference.PLACES))]
    if lines or changed:
        raise ValueError(
            f"the training in {folder} is finished: it has seen {images:,} images, and engine.images is "
            f"{config.engine.images:,}. Nothing would be trained with the changed settings "
            f"({'; '.join([*changed, *lines])}): give another folder with run=... for a new training, or a larger "
            "engine.images to go on with this one"
        )
    return [line for line in every if not line.startswith(("run:", "engine.images:"))]


def _known(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Select the settings that an old configuration has too; an earlier version had fewer."""
    return {
        key: _known(value, old[key]) if isinstance(value, dict) and isinstance(old[key], dict) else value
        for key, value in new.items()
        if key in old
    }


def _listing(places: Mapping[str, str]) -> str:
    return ", ".join(f"data.{key}={place}" for key, place in places.items()) or "not on the disk"
