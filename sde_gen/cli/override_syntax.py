"""Syntax of overrides: one override as Hydra parses it, quotes around texts, and folder names made of overrides."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from sde_gen.cli.config_files import CONF

MAX_NAME_LENGTH = 100
"""Letters of a folder name before the rest becomes a hash; file systems take 255."""


def folder_name(words: Iterable[str]) -> str:
    """Return a folder name of some overrides that needs no quotes in the next command.

    It has letters, digits and ``_ . + -`` only. Where others were left out, or the name would be long, it ends in a
    hash of all the words, so that no two settings share a folder.
    """
    whole = "-".join(words)
    name = re.sub(r"[^\w.+-]+", "_", whole, flags=re.ASCII).strip("_")
    if len(name) > MAX_NAME_LENGTH or re.search(r"[^\w.=+-]", whole, flags=re.ASCII):
        name = f"{name[:MAX_NAME_LENGTH]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return name


@dataclass(frozen=True)
class OverrideWord:
    """An override of the command line.

    Arguments:
        given: the word as it was given.
        parsed: the override as Hydra parses it; None where it cannot.
    """

    given: str
    parsed: Override | None

    @classmethod
    def of(cls, word: str) -> "OverrideWord":
        """Parse a word of the command line."""
        try:
            return cls(word, OverridesParser.create().parse_override(word))
        except HydraException:
            return cls(word, None)

    @property
    def prefix(self) -> str:
        """Prefix of the override, such as ``+``; empty for most."""
        return self.given[: len(self.given) - len(self.given.lstrip("+~"))]

    @property
    def key(self) -> str:
        """Key of the override, with its package: ``solver@reference.solver``."""
        return self.given.lstrip("+~").partition("=")[0]

    @property
    def place(self) -> str:
        """Place in the configuration."""
        return self.key.rpartition("@")[2].replace("/", ".")

    @property
    def group(self) -> str | None:
        """Group of files of which one is chosen."""
        group = self.key.partition("@")[0]
        return group if (CONF / group).is_dir() and group else None

    @property
    def value(self) -> str:
        """Value of the override as it was given."""
        return self.given.partition("=")[2]

    @property
    def swept(self) -> bool:
        """True for a sweep over several values."""
        return self.parsed is not None and self.parsed.is_sweep_override()

    def values(self) -> list[Any]:
        """Return its value; of a sweep one value for each job."""
        assert self.parsed is not None
        return list(self.parsed.sweep_iterator()) if self.swept else [self.parsed._value]

    def with_value(self, value: str) -> "OverrideWord":
        """Return the override of the same key with another value."""
        return OverrideWord.of(f"{self.prefix}{self.key}={value}")

    def once(self) -> str:
        """Return the override with the first of its values."""
        if self.parsed is None or not self.swept:
            return self.given
        return f"{self.parsed.get_key_element()}={next(self.parsed.sweep_string_iterator())}"

    def for_shell(self) -> str:
        """Return the override with its value as a text, quoted for Hydra and for the shell."""
        return f"""'{self.prefix}{self.key}="{self.value}"'"""

    def how_to_quote(self) -> str:
        """Return advice on the quotes of a value that Hydra cannot parse."""
        return (
            ": a value with any of = , ( ) [ ] { } : needs quotes for the shell and quotes for Hydra: "
            f"{self.for_shell()}"
        )


def quoted(text: str) -> str:
    """Quote a text for Hydra's grammar, in which a backslash counts before a quote only."""
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    end = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{escaped[len(escaped) - end :]}'"
