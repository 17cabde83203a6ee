"""Overrides on the command line: checked and made readable before Hydra composes the configuration."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sde_gen.cli import options, renamed
from sde_gen.cli.config_files import (
    CONF,
    EXTENSIBLE,
    choices,
    load,
    names,
    required,
    suggest_name,
    suggest_setting,
)
from sde_gen.cli.constructors import annotated
from sde_gen.cli.override_syntax import OverrideWord, quoted


def with_list(key: str, argv: Sequence[str]) -> list[str]:
    """Return a command line whose words without ``=`` are the list of a setting.

    Raises:
        ValueError: the setting is given too.
    """
    words = [word for word in argv if "=" not in word and not word.startswith("-")]
    rest = [word for word in argv if word not in words]
    if words and any(word.startswith(f"{key}=") for word in rest):
        raise ValueError(f"{words[0]} and {key}=...: give {key} once, as words or as a list")
    return [*rest, f"{key}=[{','.join(map(quoted, words))}]"] if words else rest


def validate_overrides(command: str, argv: Sequence[str]) -> list[str]:
    """Report mistakes in overrides before Hydra does, and rewrite the others as Hydra reads them.

    Digits in the place of a path become text, ``group=null`` chooses nothing from a group, and a sweep names its jobs
    by what is swept.

    Arguments:
        command: name of the command.
        argv: the command line without the program.

    Returns:
        The command line for Hydra.

    Raises:
        ValueError: an override is wrong; the message names it, and what was probably meant.
    """
    arguments = get_args_parser().parse_args(argv)
    if any(
        (
            arguments.config_name,
            arguments.config_path,
            arguments.config_dir,
            arguments.help,
            arguments.hydra_help,
        )
    ):
        return list(argv)  # another configuration than ours, or only a question
    argv, overrides = (
        [*argv, *(more := _implied(command, arguments.overrides))],
        [*arguments.overrides, *more],
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        command_line = _CommandLine(
            command, [OverrideWord.of(word) for word in overrides], arguments.multirun
        )
        written = dict(zip(overrides, command_line.rewritten(), strict=True))
        return [written.get(word, word) for word in argv] + command_line.of_sweep()


def _implied(command: str, words: Sequence[str]) -> list[str]:
    """Return guidance=cfg where a setting of it is given, and no guidance is chosen by default or by a word."""
    keys = {word.partition("=")[0] for word in words}
    own = {f"guidance.{key!s}" for key in load("guidance", "cfg") if not str(key).startswith("_")}
    if "guidance" in keys or not keys & own or choices(command).get("guidance", "cfg") is not None:
        return []
    return ["guidance=cfg"]


class _CommandLine:
    """All overrides of a call."""

    def __init__(self, command: str, words: list[OverrideWord], sweep: bool) -> None:
        self.command, self.words, self.sweep = command, words, sweep
        self.first: list[Any] = [None, None]  # overrides, and the configuration composed of them

    def rewritten(self) -> list[str]:
        """Return the overrides for Hydra, in their order."""
        for word in self.words:
            _check_renamed(word, self.command)
        self.words = [self._choose(word) for word in self.words]
        for word in self.words:
            self._check_element(word)
        texts = self._texts()
        self.words = [self._quote(word) if word.place in texts else word for word in self.words]
        for word in self.words:
            if word.parsed is None:
                raise ValueError(
                    f"{word.given} cannot be read"
                    + (word.how_to_quote() if "=" in word.given else ": write key=value")
                )
            if word.swept and not self.sweep:
                raise ValueError(
                    f"{word.given} is a sweep: write {word.key}=[{word.value}] for a list, "
                    f"-m to run once for each, or {word.for_shell()} for a text with commas"
                )
        config = self._composed()
        self._check_keys(config)
        return [word.given for word in self.words]

    def _check_element(self, word: OverrideWord) -> None:
        """Raise an error for ``loggers.0=...`` or ``loggers[0]=...`` where the list has no such element."""
        found = re.match(r"(.*?[A-Za-z_])(?:\.(\d+)|\[(\d*)\]|(\d+))(?:\.|$)", word.place)
        if found is None:
            return
        listed = OmegaConf.select(compose(self.command, self._choices()), found[1])
        index = found[2]
        if isinstance(listed, ListConfig) and not (index is not None and int(index) < len(listed)):
            raise ValueError(f"{word.given}: {found[1]} is a list, given whole: '{found[1]}=[...]'")

    def of_sweep(self) -> list[str]:
        """Return settings of Hydra for a sweep: jobs are named by the swept settings alone."""
        if not self.sweep:
            return []
        fixed = sorted({word.place for word in self.words if not word.swept})
        return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(fixed)}]"]

    def _choose(self, word: OverrideWord) -> OverrideWord:
        """Check the choice of a file from a group; null, for those that may be left out, is an empty choice."""
        if word.group is None or word.parsed is None or word.prefix == "~" or word.group.startswith("hydra"):
            return word
        known, place = names(word.group), word.place
        default = choices(self.command).get(place)
        written = []
        for value in word.values():
            if isinstance(value, dict):
                return word
            if value is None and default is None:
                written.append("[]")
            elif value is None:
                raise ValueError(
                    f"{word.given}: {self.command} needs one of {word.group}; there are {', '.join(known)}"
                )
            elif value == []:
                written.append("[]")
            elif (text := value.text if isinstance(value, QuotedString) else str(value)) not in known:
                raise ValueError(f"{word.key}={text} is unknown; {suggest_name(word.group, text)}")
            else:
                written.append(text)
        return word.with_value(",".join(written)) if "[]" in written else word

    def _texts(self) -> set[str]:
        """Return settings whose values are texts, though their digits may look like numbers."""
        readable = [word.once() for word in self.words if word.parsed is not None]
        config = self.first[1] = _compose(self.command, readable)
        self.first[0] = readable
        if config is None:
            config = _compose(self.command, self._choices())
        found = {key for key, kind in options.OPTIONS[self.command].items() if kind.text}
        return found | (set() if config is None else set(_text_arguments(config)))

    def _quote(self, word: OverrideWord) -> OverrideWord:
        """Write a text so that Hydra takes it for one."""
        if word.parsed is None:
            return word if self.sweep or word.value[:1] in ("'", '"') else word.with_value(quoted(word.value))
        if word.prefix == "~" or all(isinstance(value, str | QuotedString | None) for value in word.values()):
            return word
        if re.search(r"[\[\](){}'\"$]", word.value):
            return word  # lists, functions, interpolations
        parts = word.value.split(",") if word.swept else [word.value]
        return word.with_value(
            ",".join(part if part.strip().lower() == "null" else quoted(part.strip()) for part in parts)
        )

    def _composed(self) -> DictConfig:
        """Compose the configuration of the first job."""
        words = [word.once() for word in self.words]
        if words == self.first[0] and isinstance(self.first[1], DictConfig):
            return self.first[1]
        try:
            return compose(self.command, words)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            base = compose(self.command, self._choices())
            for word in self.words:
                self._explain(word, base)
            raise ValueError(str(error).splitlines()[0]) from error

    def _choices(self) -> list[str]:
        """Return the overrides that choose a file and do not depend on others."""
        chosen = [word for word in self.words if word.group is not None and word.parsed is not None]
        return [word.once() for word in chosen if _compose(self.command, [word.once()]) is not None]

    def _explain(self, word: OverrideWord, base: DictConfig) -> None:
        if "=" not in word.given and word.prefix != "~":
            raise ValueError(f"{word.given!r} is not an override; write key=value")
        if word.key.startswith("hydra"):
            return
        known = list(keys(base))
        if word.group is not None and not word.prefix:
            if _compose(self.command, [word.once()]) is None:
                raise ValueError(
                    f"{self.command} takes no {word.key}: it cannot be changed for a trained run; "
                    "--help lists what to choose"
                )
        elif word.prefix == "+" and word.place in known:
            raise ValueError(f"{word.given}: there is {word.place} already; write it without +")
        elif word.prefix in ("", "~") and word.place not in known:
            raise ValueError(
                f"there is no setting {word.key!r}; {suggest_setting(self.command, word.key, known)}"
            )

    def _check_keys(self, config: DictConfig) -> None:
        """Raise an error for added settings that nothing reads, and for deleted ones that something needs."""
        if not any(word.prefix for word in self.words):
            return
        base = compose(self.command, [word for word in self._choices() if word[0] not in "+~"])
        before, after = set(keys(base, hidden=True)), set(keys(config, hidden=True))
        free = EXTENSIBLE.get(self.command, set())
        for key in sorted(after - before):
            parent, _, name = key.rpartition(".")
            if parent not in free and not options.is_taken(config, parent, name):
                raise ValueError(
                    f"{self._source(key)}: nothing reads {key}; {suggest_setting(self.command, key, list(keys(base)))}"
                )
        for key in sorted(before - after):
            parent, _, name = key.rpartition(".")
            if parent and parent not in after:
                continue  # it went with the whole
            node = OmegaConf.select(config, parent) if parent else config
            optional = key in choices(self.command) and key not in required(self.command)
            if (
                parent not in free
                and not optional
                and not (isinstance(node, DictConfig) and "_target_" in node)
            ):
                raise ValueError(f"{self._source(key)}: {self.command} needs {key}")

    def _source(self, key: str) -> str:
        """Return the override that set or deleted a key."""
        return next(
            (word.given for word in self.words if word.prefix and f"{key}.".startswith(f"{word.place}.")), key
        )


def _check_renamed(word: OverrideWord, command: str) -> None:
    """Raise an error for a former name of a group, a choice or a setting; the message has today's."""
    root, dot, rest = word.key.partition(".")
    old, at, package = root.partition("@")
    group = renamed.KEYS.get(old, old)
    key = f"{group}{at}{renamed.KEYS.get(package, package)}{dot}{rest}"
    for former, current in renamed.OPTIONS.get(command, {}).items():
        if f"{key}.".startswith(f"{former}."):
            key = current + key.removeprefix(former)
    value = word.value
    if not dot:
        choices = renamed.CHOICES.get(old) or renamed.CHOICES.get(group, {})
        value = ",".join(choices.get(part, part) for part in value.split(","))
    if (key, value) != (word.key, word.value):
        raise ValueError(f"{word.given} was renamed: write {word.prefix}{key}={value}")


def _compose(command: str, words: list[str]) -> DictConfig | None:
    try:
        return compose(command, words)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None


def _text_arguments(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Arguments of constructors that are texts or paths, and no numbers."""
    for key in config:
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not (
            child._is_missing() or child._is_none() or child._is_interpolation()
        ):
            for name, kinds in annotated(child).items():
                if kinds & {str, Path} and not kinds & {int, float, Any}:
                    yield f"{prefix}{key!s}.{name}"
            yield from _text_arguments(child, f"{prefix}{key!s}.")


def keys(config: DictConfig, prefix: str = "", *, hidden: bool = False) -> Iterator[str]:
    """Names of all settings; those that Hydra reads, such as ``_target_``, are hidden."""
    for key in config:
        if str(key).startswith("_") and not hidden:
            continue
        name = f"{prefix}{key!s}"
        yield name
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not (
            child._is_missing() or child._is_none() or child._is_interpolation()
        ):
            yield from keys(child, f"{name}.", hidden=hidden)
