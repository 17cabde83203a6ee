"""The files of ``conf/``: names to choose from, the groups of a command, and the nodes that it needs."""

import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import aliases

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""The configuration: inside the package in a wheel, beside it in a checkout."""

PRETRAINED = PACKAGE / "pretrained"
"""The trained models that come with the package: a folder each."""

MAX_NAMES_LISTED = 40
"""Names that an error lists, at most."""

EXTENSIBLE = {"evaluate": {"metric"}, "train": {"logging"}}
"""By command, nodes that take further entries by any name."""

LINE = re.compile(
    r"^(?P<indent> *)(?P<item>- )?(?P<key>[\w@./]+): *(?P<value>(?:[^#\s].*?)?)(?: *# (?P<comment>.*))?$"
)
"""A line of a yaml file: ``key: value  # comment``."""


def printable(text: str) -> str:
    """Return a text with a space for every line break and control character, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class Group(NamedTuple):
    """A group of files of which a command takes one.

    Arguments:
        name: folder in conf.
        place: key of the node that the file fills.
        choice: name of the default file, ``null`` for none.
        description: the comment behind it.
    """

    name: str
    place: str
    choice: str
    description: str

    @property
    def key(self) -> str:
        """The name on the command line."""
        return self.name if self.name == self.place else f"{self.name}@{self.place}"

    @property
    def fixed(self) -> bool:
        """Return whether the file fills a node of its name, beside those of other files, and is not chosen."""
        return self.place == f"{self.place.rpartition('.')[0]}.{self.choice}"


def kinds() -> list[str]:
    """Names of the groups of files, and ``pretrained``."""
    return sorted([*(path.name for path in CONF.iterdir() if path.is_dir()), PRETRAINED.name])


def names(kind: str) -> list[str]:
    """Names to choose from in conf/<kind>, or of the pretrained models."""
    if kind == PRETRAINED.name:
        return sorted(path.parent.name for path in PRETRAINED.glob("*/card.yaml"))
    return sorted(path.stem for path in (CONF / kind).glob("*.yaml"))


def load(kind: str, name: str) -> DictConfig:
    """Read conf/<kind>/<name>.yaml.

    Raises:
        ValueError: there is no such file; the message names the nearest.
    """
    if name not in names(kind):
        raise ValueError(f"{kind}={name} is unknown; {suggest_name(kind, name)}")
    return _read(CONF / kind / f"{name}.yaml")


def suggest_name(kind: str, word: str) -> str:
    """Return a hint for a file of a group: its name here, if it is one of another project, or the nearest names."""
    known = names(kind)
    found = aliases.counterpart(kind, word, known)
    if found is None:
        return suggest(word, known)
    return f"did you mean {found}?" if found else f"it has no counterpart; there are {', '.join(known)}"


def suggest_setting(command: str, word: str, known: Sequence[str]) -> str:
    """Return a hint for a setting: its name here, if it is one of another project, or the nearest names."""
    found = aliases.setting(word, [*known, *choices(command)])
    return suggest(word, known) if found is None else f"did you mean {found}?"


def suggest(word: str, known: Sequence[str]) -> str:
    """Return a hint: the names most like the word, or all of them.

    Of settings such as ``optimizer.lr`` the last part counts first: it is what one remembers.
    """
    last = [key for key in known if key.rpartition(".")[2] == word.rpartition(".")[2]]
    close = difflib.get_close_matches(word, last or known, n=3, cutoff=0 if last else 0.5)
    if not close:
        ends = difflib.get_close_matches(word, [key.rpartition(".")[2] for key in known], n=3, cutoff=0.7)
        close = [key for key in known if key.rpartition(".")[2] in ends][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(known)}" if len(known) <= MAX_NAMES_LISTED else "--help lists what there is"


@functools.cache
def groups(command: str) -> tuple[Group, ...]:
    """List the groups of a command, in their order in its yaml."""
    found = []
    for line in (CONF / f"{command}.yaml").read_text().splitlines():
        match = LINE.match(line)
        if match and match["item"]:
            name, _, place = match["key"].partition("@")
            found.append(Group(name, place or name, match["value"], match["comment"] or ""))
    return tuple(found)


def choices(command: str) -> dict[str, str | None]:
    """Return the groups of a command: by the key of the node that a file fills, the default."""
    return {
        group.place: None if group.choice == "null" else group.choice
        for group in groups(command)
        if group.name != "recipe"
    }


@functools.cache
def required(command: str) -> tuple[str, ...]:
    """Return the nodes that a command requires; the others may be null."""
    chosen = [place for place, default in choices(command).items() if default is not None]
    found = {*EXTENSIBLE.get(command, ()), *chosen, *_mappings(_read(CONF / f"{command}.yaml"), "")}
    return tuple(sorted(found, key=lambda key: (key.count("."), key)))


@functools.cache
def described(command: str) -> frozenset[str]:
    """Return the nodes of which a command builds objects."""
    raw = _read(CONF / f"{command}.yaml")
    own = [key for key in _mappings(raw, "") if "_target_" in OmegaConf.select(raw, key)]
    return frozenset([*choices(command), *own])


def _mappings(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not (prefix == "" and key == "hydra"):
            yield f"{prefix}{key!s}"
            yield from _mappings(child, f"{prefix}{key!s}.")


def _read(path: Path) -> DictConfig:
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config
