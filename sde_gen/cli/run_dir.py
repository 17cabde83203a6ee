"""Default name of the run folder of a training: its data, initial weights and, in a sweep, the swept settings."""

import os
import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from sde_gen.cli.app import cli_overrides
from sde_gen.cli.data_spec import source_class
from sde_gen.cli.override_syntax import folder_name


def sweeping() -> bool:
    """Return whether this is one job of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def is_run_named() -> bool:
    """Return whether the user names the run folder."""
    return any(word.startswith("run=") for word in HydraConfig.get().overrides.task)


def _name_data(config: DictConfig) -> None:
    """Name the run folder by the data on the command line unless the user names it."""
    words = cli_overrides()
    places = sorted(source_class(config.data).places | {"name"})
    named = [config.data[key] for key in places if f"data.{key}" in words and key not in ("cache", "index")]
    parts = [
        "-".join(
            Path(os.path.abspath(place)).parts[-2:]
            if not Path(place).is_dir()
            else [Path(place).resolve().name]
        )
        for place in named
        if isinstance(place, str)
    ]
    if parts and not is_run_named():
        config.run = "-".join([config.run, *(re.sub(r"[^\w.-]+", "_", part) for part in parts)])


def _name_init(config: DictConfig) -> None:
    """Name the run folder by the weights that it begins from unless the user names it."""
    if config.get("init") is not None and not is_run_named():
        config.run += f"-from-{re.sub(r'[^A-Za-z0-9_.-]+', '_', Path(os.path.abspath(config.init)).stem)}"


def set_run_dir(config: DictConfig) -> None:
    """Name the run folder by data on the disk, and in a sweep by the settings that are swept."""
    _name_data(config)
    _name_init(config)
    hydra = HydraConfig.get()
    excluded = {"run", *hydra.job.config.override_dirname.exclude_keys}
    overrides = {
        word.lstrip("+~").partition("=")[0].rpartition("@")[2].replace("/", "."): word
        for word in hydra.overrides.task
    }
    if "run" not in overrides:
        excluded |= {"data", "sde", "model"}  # parts of the default name
    name = folder_name(sorted(word for key, word in overrides.items() if key not in excluded))
    if sweeping() and name:
        with open_dict(config):
            config.run = f"{config.run}-{name}"
