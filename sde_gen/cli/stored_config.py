"""The configuration with which a training continues: that of the run folder, and what the command line changes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import pretrained, trusted
from sde_gen.cli.app import cli_overrides
from sde_gen.cli.initialization import open_source
from sde_gen.cli.renamed import upgrade_about

OF_THE_COMMAND = ("run", "device", "loggers", "logging", "parts", "preview")
"""Parts that the command line decides, and no stored configuration."""

OF_WEIGHTS = ("model", "sde", "parametrization", "codec", "conditioning")
"""Parts without which weights have another prediction."""


def with_stored(config: DictConfig) -> DictConfig:
    """Take from the run folder that ``run=...`` names what the command line does not set.

    Arguments:
        config: the composed configuration of a training.

    Returns:
        The configuration itself where no run is named, none is stored, or a recipe is chosen.

    Raises:
        ValueError: the stored configuration is not to be trusted.
    """
    overrides = cli_overrides()
    if "run" not in overrides or "recipe" in overrides:
        return config
    changed = {key.replace("/", ".") for key, word in overrides.items() if not word.startswith("~")}
    chosen = {key for key in changed if isinstance(OmegaConf.select(config, key), DictConfig)}
    stored = _stored(Path(config.run), {str(key) for key in config} - chosen)
    return _merged(config, stored, changed) if stored else config


def with_initial(config: DictConfig) -> DictConfig:
    """Take from the training of the weights that ``init=...`` names what the command line does not set.

    These are the network, its process, prediction type, codec and conditioning; shape and classes are those of the
    data.

    Returns:
        The configuration itself where no weights are named, a file holds them, or a recipe is chosen.

    Raises:
        ValueError: there are no weights, or their configuration is not to be trusted.
    """
    overrides = cli_overrides()
    resumed = "run" in overrides and checkpoint.paths(Path(config.run) / "checkpoints")
    init = config.get("init")
    if init is None or resumed or "recipe" in overrides or not pretrained.resolve(init).is_dir():
        return config
    stored = open_source(init).config
    changed = {key.replace("/", ".") for key, word in overrides.items() if not word.startswith("~")}
    chosen = {key for key in changed if isinstance(OmegaConf.select(config, key), DictConfig)}
    parts = trusted.check({key: stored.get(key) for key in OF_WEIGHTS if key not in chosen})
    return _merged(config, {key: _of_any_data(part) for key, part in parts.items()}, changed)


def _of_any_data(part: Any) -> Any:
    """Leave open in a part of a configuration what the data determine."""
    if not isinstance(part, dict):
        return part
    free = {"shape": "???", "classes": "???", "levels": "???", "num_classes": 0}
    return {key: free.get(key, value) for key, value in part.items()}


def _merged(config: DictConfig, stored: Mapping[str, Any], changed: set[str]) -> DictConfig:
    """Replace parts of a configuration by stored ones, but for the places that the command line changed."""
    merged = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(merged, DictConfig)
    with open_dict(merged):
        for key, value in stored.items():
            merged[key] = value
        merged.logging = OmegaConf.to_container(
            config.logging
        )  # beside the run folder, which may get another name
        for place in sorted(changed | set(_dependent(config, changed)), key=lambda place: place.count(".")):
            if place.partition(".")[0] in stored:
                OmegaConf.update(merged, place, _value(config, place), merge=False, force_add=True)
    return merged


def _stored(folder: Path, keys: set[str]) -> dict[str, Any]:
    """The parts of these names in the configuration of the newest readable checkpoint."""
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        stored = upgrade_about(checkpoint.about(path)).get("config")
        if not isinstance(stored, dict):
            continue  # damaged, or of another origin: the trainer reports it
        if "engine" not in stored:
            return {}  # a converted network, which was trained elsewhere
        found = trusted.check({key: stored.get(key) for key in keys - set(OF_THE_COMMAND)})
        if "data" in found:
            found["data"] = trusted.reading(found["data"])
        found |= _plain(stored, keys)
        preview = _preview(stored.get("preview"))
        return {**found, "preview": preview} if preview and "preview" in keys else found
    return {}


def _plain(stored: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    """The stored names of initial weights and of frozen parameters."""
    init, freeze = stored.get("init"), stored.get("freeze")
    found: dict[str, Any] = {"init": init} if isinstance(init, str) and "${" not in init else {}
    if isinstance(freeze, list) and all(isinstance(each, str) and "${" not in each for each in freeze):
        found["freeze"] = freeze
    return {key: value for key, value in found.items() if key in keys}


def _preview(node: Any) -> dict[str, Any] | None:
    """The stored settings of previews; None where they are not those of a training."""
    sampler = node.get("sampler") if isinstance(node, dict) else None
    if not isinstance(sampler, dict) or sampler.get("_target_") != "sde_gen.sampler.Sampler":
        return None
    parts = trusted.check({key: sampler.get(key) for key in ("solver", "grid")})
    plain = {key: sampler[key] for key in ("_target_", "steps", "denoise_final") if key in sampler}
    whole = all(
        isinstance(value, int | str) and "${" not in str(value) for value in (*plain.values(), node.get("n"))
    )
    return {"n": node["n"], "sampler": {**plain, **parts}} if whole and len(parts) == 2 else None


def _dependent(node: DictConfig, changed: set[str], prefix: str = "") -> Iterator[str]:
    """The places of interpolations that name one of the changed settings, or something above or below it."""
    for key in node:
        child: Any = node._get_node(key)
        place = f"{prefix}{key!s}"
        if child._is_interpolation():
            name = str(child._value()).removeprefix("${").removesuffix("}")
            if any(
                f"{name}.".startswith(f"{each}.") or f"{each}.".startswith(f"{name}.") for each in changed
            ):
                yield place
        elif isinstance(child, DictConfig) and not (child._is_none() or child._is_missing()):
            yield from _dependent(child, changed, f"{place}.")


def _value(config: DictConfig, place: str) -> Any:
    """A value without interpolations."""
    value = OmegaConf.select(config, place)
    return (
        OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    )
