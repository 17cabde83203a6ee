"""``--help`` of a command: its groups and settings, described by the comments of its yaml."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import yaml  # type: ignore[import-untyped]

from sde_gen.cli.config_files import CONF, LINE, groups, names

OVERRIDE = re.compile(r"^ *- override /(\w+)@_global_\S*: (\w+)$", re.MULTILINE)
"""A line of a file that chooses the file of another group."""

COLUMN = 34
"""Column at which descriptions begin."""

FOOTER = """Set a value with key=value, choose a file with group=name, sweep with -m group=name1,name2.
--cfg job prints the composed configuration, --info defaults-tree where its parts come from, --version the version."""


class HelpEntry(NamedTuple):
    """A line of a yaml file.

    Arguments:
        key: place in the configuration.
        value: default as it is written.
        description: the comment behind it.
    """

    key: str
    value: str
    description: str


def settings(text: str, prefix: str = "") -> Iterator[HelpEntry]:
    """Iterate over the values of a yaml file with their comments; nodes of Hydra and defaults are left out."""
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match or match["item"]:
            continue
        depth, key = len(match["indent"]), match["key"]
        parents = [(indent, name) for indent, name in parents if indent < depth]
        path = ".".join([*(name for _, name in parents), key])
        value, description = match["value"].strip(), match["comment"] or ""
        if not value:
            parents.append((depth, key))
        if path.partition(".")[0] in ("hydra", "defaults") or key.startswith("_"):
            continue
        if value or description:
            yield HelpEntry(prefix + path, value, description)


def command_help(command: str, argv: Sequence[str] = ()) -> str:
    """Describe a command: header and examples, groups, settings, and settings of the chosen files.

    Arguments:
        command: name of the command.
        argv: its command line; files that it chooses are described in the place of the default ones.
    """
    text = (CONF / f"{command}.yaml").read_text()
    chosen = dict(word.partition("=")[::2] for word in argv if "=" in word)
    own = groups(command)
    for group in own:
        path = CONF / group.name / f"{chosen.get(group.key)}.yaml"
        text_of_choice = path.read_text() if path.is_file() else ""
        chosen = {**dict(OVERRIDE.findall(text_of_choice)), **chosen}
    lines = [yaml.safe_load(text)["hydra"]["help"]["header"].rstrip(), ""]
    if own:
        lines += ["Groups (group=name; --help group=name lists the settings of that file)"]
        for group in (group for group in own if not group.fixed):
            choices = " ".join(names(group.name)) + (" null" if group.choice == "null" else "")
            description = f"{group.description}: {choices}" if group.description else choices
            lines += _entry(f"{group.key}={group.choice}", description)
        lines.append("")
    lines.append("Settings (key=value)")
    for setting in settings(text):
        lines += _entry(f"{setting.key}: {setting.value}".rstrip(), setting.description)
    inside = []
    for group in own:
        path = CONF / group.name / f"{chosen.get(group.key, chosen.get(group.name, group.choice))}.yaml"
        if path.is_file() and group.name != "recipe":
            prefix = f"{group.place}."
            inside += [each for each in settings(path.read_text(), prefix) if not each.value.startswith("${")]
    if inside:
        lines += ["", "Settings of the chosen files"]
        for setting in inside:
            lines += _entry(f"{setting.key}: {setting.value}", setting.description)
    return "\n".join([*lines, "", FOOTER])


def print_page(text: str) -> None:
    """Print a text to a reader who may stop early, such as ``head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with open(os.devnull, "a") as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())  # what is left is flushed at exit


def _entry(name: str, description: str) -> list[str]:
    """Lines of a name and its description, in two columns."""
    width = max(shutil.get_terminal_size((110, 24)).columns, COLUMN + 30)
    wrapped = textwrap.wrap(description, width - COLUMN) if description else []
    name = f"  {name}"
    if not wrapped:
        return [name]
    if len(name) >= COLUMN:
        return [name, *(" " * COLUMN + line for line in wrapped)]
    return [name.ljust(COLUMN) + wrapped[0], *(" " * COLUMN + line for line in wrapped[1:])]
