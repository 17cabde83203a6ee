"""Options that commands read themselves: their kinds, and numbers and texts as constructors expect them.

An option belongs to a command, such as ``n`` or ``run``; all other settings are arguments of constructors, which check
them against their own annotations.
"""

import reprlib
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from sde_gen.cli.config_files import EXTENSIBLE, choices, described, required
from sde_gen.cli.constructors import annotated, takes
from sde_gen.cli.option_kinds import (
    CAPTION,
    CLASS,
    CONVERSION,
    COUNTS,
    DEVICE,
    FORMAT,
    IMAGE,
    LOGGER,
    NAMES,
    NONNEGATIVE,
    NUMBER,
    PATH,
    RUNS,
    SEED,
    SWITCH,
    TEXT,
    VECTOR,
    OptionKind,
    listed,
    optional,
    whole,
)

RESERVED = {
    "_target_": TEXT,
    "_partial_": SWITCH,
    "_recursive_": SWITCH,
    "_convert_": CONVERSION,
    "_args_": None,
}
"""Keys of a node that Hydra reads."""

_PARTS = listed(PATH, "run folders")

_RUN = {
    "run": PATH,
    "threads": optional(whole(1)),
    "checkpoint": optional(TEXT),
    "trust": NAMES,
    "parts": _PARTS,
}

_DATA: dict[str, OptionKind] = {
    **{f"data.{name}": optional(PATH) for name in ("root", "path", "train", "test", "cache", "index")},
    "data.download": optional(SWITCH),
    "data.workers": optional(whole(0)),
}
"""Settings for where the data of a run lie now."""

_GUIDANCE: dict[str, OptionKind] = {
    "guidance.weak": PATH,
    "guidance.classifier": PATH,
    "guidance.pass_label": SWITCH,
}
"""Settings of guidance that the command resolves."""

OPTIONS: dict[str, dict[str, OptionKind]] = {
    "train": {
        "run": PATH,
        "init": optional(PATH),
        "parts": _PARTS,
        "freeze": listed(TEXT, "patterns of parameter names"),
        "threads": optional(whole(1)),
        "device": DEVICE,
        "loggers": listed(LOGGER, "names or of objects, each with a _target_"),
        "preview.n": whole(1),
        "quality.metrics": NAMES,
        "quality.n": whole(2),
        "quality.batch_size": whole(1),
    },
    "sample": {
        **_RUN,
        "run": RUNS,
        "n": whole(1),
        "steps": whole(1),
        "settings": optional(PATH),
        "label": optional(listed(CLASS, "classes")),
        "text": optional(listed(CAPTION, "texts")),
        "clip_skip": optional(whole(0, 64)),
        "vector": optional(VECTOR),
        "image": optional(listed(IMAGE, "files")),
        "control": optional(listed(PATH, "files")),
        "temperature": optional(NONNEGATIVE),
        "top_k": optional(whole(1)),
        "rows": optional(whole(1)),
        "size": optional(listed(whole(1, 2**16), "height and width")),
        "image_noise": NONNEGATIVE,
        "not_label": optional(CLASS),
        "not_text": optional(CAPTION),
        "not_vector": optional(listed(NUMBER, "finite numbers")),
        "mask": optional(PATH),
        "strength": optional(NONNEGATIVE),
        "a": optional(IMAGE),
        "b": optional(IMAGE),
        "noise_std": NONNEGATIVE,
        "factor": whole(1),
        "seed": SEED,
        "batch_size": whole(1),
        "device": DEVICE,
        "gif": SWITCH,
        "format": FORMAT,
        "trajectory_frames": whole(0),
        "out": optional(PATH),
        **_DATA,
        **_GUIDANCE,
    },
    "evaluate": {
        **_RUN,
        "metrics": NAMES,
        "split": TEXT,
        "n": optional(whole(1)),
        "seed": SEED,
        "batch_size": whole(1),
        "device": DEVICE,
        "out": PATH,
        "fresh": SWITCH,
        "steps": whole(1),
        "label": optional(listed(CLASS, "classes")),
        "draws": whole(1),
        "reference": PATH,
        "baselines": SWITCH,
        "cache": PATH,
        **_DATA,
        **_GUIDANCE,
    },
    "benchmark": {
        **_RUN,
        "solvers": NAMES,
        "steps": COUNTS,
        "n": whole(1),
        "seed": SEED,
        "device": DEVICE,
        "out": PATH,
        "reference.steps": whole(1),
        "reference.stochastic_steps": whole(1),
        "tune": SWITCH,
        "tuning.solvers": NAMES,
        "tuning.grids": NAMES,
        "tuning.nfe": COUNTS,
        "tuning.optimize": COUNTS,
        "tuning.against.solver": TEXT,
        "tuning.against.grid": TEXT,
    },
    "convert": {
        "file": optional(PATH),
        "run": optional(PATH),
        "checkpoint": optional(TEXT),
        "trust": NAMES,
        "parts": _PARTS,
        "settings": optional(PATH),
        "out": PATH,
    },
    "bundle": {
        "run": PATH,
        "checkpoint": optional(TEXT),
        "trust": NAMES,
        "parts": _PARTS,
        "out": PATH,
    },
    "soup": {
        "runs": listed(PATH, "run folders"),
        "rule": TEXT,
        "n": whole(2),
        "seed": SEED,
        "batch_size": whole(1),
        "trust": NAMES,
        "parts": _PARTS,
        "out": PATH,
        **_DATA,
    },
    "encode": {
        "run": PATH,
        "checkpoint": optional(TEXT),
        "trust": NAMES,
        "out": PATH,
        "flips": SWITCH,
        "batch_size": whole(1),
        "shard": whole(1),
        "device": DEVICE,
    },
    "compare": {"runs": listed(PATH, "run folders"), "out": PATH},
    "demo": {**_RUN, "device": DEVICE, "n": whole(1), "host": TEXT, "port": whole(1, 65535)},
    "verify": {
        "solvers": optional(listed(TEXT, "at least one name", least=1)),
        "sdes": optional(listed(TEXT, "at least one name", least=1)),
        "parametrizations": NAMES,
        "out": PATH,
    },
}
"""By command, all settings of its yaml that no constructor checks."""


def check(config: DictConfig, command: str) -> None:
    """Check the kinds of options, and that no object is missing; whole floats such as 1e5 become integers.

    Arguments:
        config: the composed configuration of a command.
        command: its name.

    Raises:
        ValueError: a setting is wrong; the message names it.
        MissingMandatoryValue: one that must be given is not.
    """
    for key in required(command):
        _check_node(config, command, key)
    for key in choices(command):
        _check_choice(config, key)
    check_nodes(config)
    for key, kind in OPTIONS[command].items():
        _check_option(config, key, kind)


def check_nodes(config: DictConfig) -> None:
    """Check what Hydra reads of the nodes that describe objects; whole floats become integers where one is expected.

    Raises:
        ValueError: such as ``_partial_=text``; the message names it.
    """
    for node in _nodes(config):
        _check_reserved(node)
        _convert(node)


def _check_node(config: DictConfig, command: str, key: str) -> None:
    """Check that a node holds settings by name, and a _target_ where the command builds an object of it."""
    parent, _, name = key.rpartition(".")
    if parent in EXTENSIBLE.get(command, set()) and name not in OmegaConf.select(config, parent):
        return
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig):
        raise ValueError(
            f"{key}={shown(node)}: {command} needs the settings that stand there, such as {key}.NAME=..."
        )
    if "_target_" not in node and key in described(command):
        raise ValueError(f"{key}={shown(node)}: it has no _target_, the class of which it holds the settings")


def _check_choice(config: DictConfig, key: str) -> None:
    """Check that the node of a group describes an object, or is null."""
    node = OmegaConf.select(config, key)
    if node is not None and not (isinstance(node, DictConfig) and "_target_" in node):
        raise ValueError(
            f"{key}={shown(node)}: choose a file, such as --help lists, or null where nothing need be chosen"
        )


def _check_reserved(node: DictConfig) -> None:
    """Check the keys of a node that Hydra reads."""
    for key, kind in RESERVED.items():
        if key in node and kind is not None and not kind.accepts(node[key]):
            raise ValueError(f"{node._get_full_key(key)}={shown(node[key])}: expected {kind.what}")


def _check_option(config: DictConfig, key: str, kind: OptionKind) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig) or not (name in node or OmegaConf.is_missing(node, name)):
        return  # of a group that is not chosen
    value = as_plain(node, name)
    value = [_exact(one) for one in value] if isinstance(value, list) else _exact(value)
    if not kind.accepts(value):
        raise ValueError(f"{key}={shown(value)}: expected {kind.what}")
    if not node._get_node(name)._is_interpolation():  # type: ignore[union-attr]
        node[name] = value


def as_plain(node: DictConfig, key: str) -> Any:
    """Return a value without OmegaConf's containers, interpolations resolved."""
    value = node[key]
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True)
    return value


def _exact(value: Any) -> Any:
    """Return a float that is a whole number as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _nodes(config: Any) -> Iterator[DictConfig]:
    """All nodes that describe an object."""
    if isinstance(config, DictConfig) and not config._is_none() and not config._is_missing():
        if "_target_" in config:
            yield config
        for key in config:
            yield from _nodes(config._get_node(key))
    elif isinstance(config, ListConfig) and not config._is_none() and not config._is_missing():
        for index in range(len(config)):
            yield from _nodes(config._get_node(index))


def _convert(node: DictConfig) -> None:
    """Make whole floats integers where the constructor expects integers."""
    for key, kinds in annotated(node).items():
        child = node._get_node(key) if key in node else None
        if int not in kinds or float in kinds or child is None or child._is_interpolation():
            continue
        value = node[key]
        if isinstance(value, ListConfig) and any(isinstance(one, float) for one in value):
            node[key] = [_exact(one) for one in value]
        elif isinstance(value, float):
            node[key] = _exact(value)


def shown(value: Any) -> str:
    """Format a value as the user would write it, in one line of limited length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value)
    if isinstance(value, list) and len(value) <= 6:
        return f"[{', '.join(map(shown, value))}]"
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 60
    text = brief.repr(value)
    return text[1:-1] if isinstance(value, str) else text


def is_taken(config: DictConfig, parent: str, name: str) -> bool:
    """Return whether the object that a node describes takes a setting, as an argument or in one that is a mapping."""
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return False
    if "_target_" in node:
        return name in RESERVED or takes(node, name)
    outer, _, argument = parent.rpartition(".")
    around = OmegaConf.select(config, outer) if outer else None
    return isinstance(around, DictConfig) and "_target_" in around and takes(around, argument)
