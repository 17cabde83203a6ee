"""Cached Hydra composition: results that depend only on conf/ are computed once per test session.

A command composes its configuration three times, and nearly all of that is reading the same forty files, listing which
of them a choice of groups names, and merging these. Words of the command line are parsed once each, and copies of nodes
copy what differs between nodes alone. A command runs what its check of the words has composed of the same words.
Other overrides of settings, and every error, are Hydra's own each time.
"""

import copy
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import Overrides
from hydra._internal.hydra import Hydra
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.base import Metadata

from sde_gen.cli.config_files import CONF

UNCHANGED = ("pkg://hydra.conf", f"file://{CONF}", "structured://")
"""Folder of the files that no test changes."""


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra keep the files, the lists of files and the merged files of conf/."""
    kept: dict[object, bytes] = {}
    load, listed = ConfigRepository.load_config, defaults_list._create_defaults_list
    mode, composed, merged, parse = (
        Hydra.get_mode,
        ConfigLoaderImpl._load_configuration_impl,
        ConfigLoaderImpl._compose_config_from_defaults_list,
        OverridesParser.parse_rule,
    )

    def once(key: object, of: Callable[[], object]) -> Any:
        if key not in kept:
            kept[key] = pickle.dumps(of())
        return pickle.loads(kept[key])  # a copy, ten times as fast as one by deepcopy

    def load_config(repo: ConfigRepository, config_path: str) -> Any:
        if not _unchanged(repo.sources):
            return load(repo, config_path)
        return once(config_path, lambda: load(repo, config_path))

    def create_list(repo: IConfigRepository, name: str | None, overrides: Overrides, **how: bool) -> Any:
        if not _unchanged(repo.get_sources()) or overrides.append_group_defaults:
            return listed(repo, name, overrides, **how)
        settings = overrides.config_overrides
        key = repr((name, overrides.override_choices, overrides.deletions, how))
        found, after = once(key, lambda: (listed(repo, name, overrides, **how), vars(overrides)))
        vars(overrides).update({**after, "config_overrides": settings})
        return found

    def merge(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        if not _unchanged(repo.get_sources()):
            return merged(loader, defaults, repo)
        key = tuple((one.config_path, one.parent, one.package, one.is_self, one.primary) for one in defaults)
        config: DictConfig = once(key, lambda: merged(loader, defaults, repo))
        return config

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        if any("hydra" in word for word in overrides) or not _unchanged(hydra.config_loader.get_sources()):
            return mode(hydra, config_name, overrides)
        return once(("mode", config_name), lambda: mode(hydra, config_name, []))

    def load_composed(
        loader: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> Any:
        def of() -> Any:
            return composed(loader, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)

        if any("hydra" in word for word in overrides) or not _unchanged(loader.get_sources()):
            return of()
        key = (config_name, *overrides, run_mode, validate_sweep_overrides, os.getcwd())
        found = once(key, of)
        found.hydra.job.name = JobRuntime.instance().get(
            "name"
        )  # what called, a command or its check of words
        return found

    def parse_rule(parser: OverridesParser, text: str, rule: str) -> Any:
        return once((text, rule), lambda: parse(parser, text, rule))

    def caching_repository(repo: CachingConfigRepository, delegate: IConfigRepository) -> None:
        repo.delegate, repo.cache = copy.copy(delegate), {}  # its list of sources is replaced, never changed

    patch.setattr(Hydra, "get_mode", get_mode)
    patch.setattr(ConfigLoaderImpl, "_load_configuration_impl", load_composed)
    patch.setattr(OverridesParser, "parse_rule", parse_rule)
    patch.setattr(CachingConfigRepository, "__init__", caching_repository)
    patch.setattr(Metadata, "__deepcopy__", _copied, raising=False)
    patch.setattr(ConfigRepository, "load_config", load_config)
    patch.setattr(defaults_list, "_create_defaults_list", create_list)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge)


def _copied(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """A deep copy: of the fields, types and names, only these two are ever changed in place."""
    found = object.__new__(type(metadata))
    found.__dict__.update(metadata.__dict__)
    found.flags = copy.copy(metadata.flags)
    found.resolver_cache = copy.deepcopy(metadata.resolver_cache, memo)
    return found


def _unchanged(sources: list[ConfigSource]) -> bool:
    return all(f"{source.scheme()}://{source.path}".startswith(UNCHANGED) for source in sources)
