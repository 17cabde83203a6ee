"""Options that commands read themselves: their kinds, and numbers and texts as constructors expect them.

An option belongs to a command, such as ``n`` or ``run``; all other settings are arguments of constructors, which check
them against their own annotations.
"""

import math
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from sde_gen.cli.config_files import EXTENSIBLE, choices, described, required
from sde_gen.cli.constructors import annotated, takes

MANY = 10**8
"""Samples, steps and images of a call, at most."""

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class OptionKind:
    """Kind of an option.

    Arguments:
        what: the same in words.
        accepts: whether a value is one.
        text: whether digits are meant as text, as in the name of a folder.
    """

    what: str
    accepts: Callable[[Any], bool]
    text: bool = False


def whole(least: int, most: int = MANY) -> OptionKind:
    """Return the kind of whole numbers in a range."""
    return OptionKind(
        f"a whole number of at least {least} and at most {most:,}",
        lambda value: type(value) is int and least <= value <= most,
    )


def optional(kind: OptionKind) -> OptionKind:
    """Return the kind of the same values or null."""
    return OptionKind(f"{kind.what}, or null", lambda value: value is None or kind.accepts(value), kind.text)


def listed(kind: OptionKind, plural: str, least: int = 0) -> OptionKind:
    """Return the kind of lists of a least length, or of their only element alone."""

    def accepts(value: Any) -> bool:
        if isinstance(value, list):
            return len(value) >= least and all(map(kind.accepts, value))
        return kind.accepts(value)

    return OptionKind(f"a list of {plural}", accepts)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MANY and math.isfinite(value)


def _is_vector(value: Any) -> bool:
    """Return whether a value is a number, a list of numbers, or a list of lists of as many numbers."""
    if not isinstance(value, list) or not value:
        return _is_number(value)
    nested = [each if isinstance(each, list) else [each] for each in value]
    same = len({(isinstance(each, list), len(row)) for each, row in zip(value, nested, strict=True)}) == 1
    return same and all(_is_number(number) for row in nested for number in row)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


TEXT = OptionKind("text", _is_text, text=True)
PATH = OptionKind("a path", _is_text, text=True)
DEVICE = OptionKind("the name of a device, such as auto, cpu or cuda:1", _is_text, text=True)
SWITCH = OptionKind("true or false", lambda value: isinstance(value, bool))
NOISE = OptionKind("a finite number of at least 0", lambda value: _is_number(value) and value >= 0)
NUMBER = OptionKind("a finite number", _is_number)
CAPTION = OptionKind("text", lambda value: isinstance(value, str) and "\0" not in value, text=True)
VECTOR = OptionKind("a list of finite numbers, or a list of such lists", _is_vector)
CLASS = OptionKind("a class", lambda value: type(value) is int or _is_text(value))
IMAGE = OptionKind(
    "a file, or the index of a held-out image", lambda value: type(value) is int or _is_text(value)
)
OBJECT = OptionKind(
    "an object", lambda value: isinstance(value, dict) and isinstance(value.get("_target_"), str)
)
CONVERSION = OptionKind(
    "none, partial, object or all", lambda value: value in ("none", "partial", "object", "all")
)
LOGGER = OptionKind("a name, or an object", lambda value: _is_text(value) or OBJECT.accepts(value))
FORMAT = OptionKind("npz or png", lambda value: value in ("npz", "png"))
SEED = whole(0, LARGEST_SEED)
NAMES, COUNTS = listed(TEXT, "names"), listed(whole(1), f"whole numbers from 1 to {MANY:,}")

RESERVED = {
    "_target_": TEXT,
    "_partial_": SWITCH,
    "_recursive_": SWITCH,
    "_convert_": CONVERSION,
    "_args_": None,
}
"""Keys of a node that Hydra reads."""

_RUN = {"run": PATH, "threads": optional(whole(1)), "checkpoint": optional(TEXT), "trust": NAMES}

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
        "n": whole(1),
        "steps": whole(1),
        "settings": optional(PATH),
        "label": optional(listed(CLASS, "classes")),
        "text": optional(listed(CAPTION, "texts")),
        "vector": optional(VECTOR),
        "image": optional(listed(IMAGE, "files")),
        "not_label": optional(CLASS),
        "not_text": optional(CAPTION),
        "not_vector": optional(listed(NUMBER, "finite numbers")),
        "mask": optional(PATH),
        "a": optional(IMAGE),
        "b": optional(IMAGE),
        "noise_std": NOISE,
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
        "settings": optional(PATH),
        "out": PATH,
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
    """Refuse options of the wrong kind, and objects that are missing; whole floats such as 1e5 become integers.

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
