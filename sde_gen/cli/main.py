"""The console script ``sde-gen``: all commands under one name, lists of names and shell completion."""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from sde_gen import __version__
from sde_gen.cli import options, renamed
from sde_gen.cli.config_files import PRETRAINED, groups, kinds, names, printable, suggest
from sde_gen.cli.help import print_page

COMMANDS = {
    "train": "train a score network, a classifier or an autoencoder, or continue a training",
    "sample": "generate samples from a run",
    "evaluate": "compute likelihoods of held-out data, and the quality of samples",
    "benchmark": "compare solvers on a run",
    "compare": "compare runs: settings, curves, metrics and samples",
    "encode": "encode data with a trained autoencoder",
    "bundle": "pack a run with the runs that it names into one folder",
    "soup": "average the weights of several runs",
    "convert": "convert networks of other projects, and runs for them",
    "demo": "open a web page to sample from a run",
    "verify": "measure the order and the bias of solvers against exact answers",
}
"""Commands of modules in sde_gen.cli, with their descriptions."""

COMPLETION = """_sde_gen() {
    COMPREPLY=($(sde-gen --complete "${COMP_LINE:0:$COMP_POINT}"))
}
complete -o nospace -o bashdefault -o default -F _sde_gen sde-gen"""


def main() -> None:
    """Run the command that the first argument names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        before, sys.argv = sys.argv, [f"{sys.argv[0]} {name}", *rest]
        try:
            importlib.import_module(f"sde_gen.cli.{name}").main()
        finally:
            sys.argv = before
    elif name == "list":
        print_names(rest)
    elif name in ("-h", "--help"):
        print_page(usage())
    elif name == "--version":
        print(f"sde_gen {__version__}")
    elif name == "completion":
        print(COMPLETION)
    elif name == "--complete":
        print("\n".join(complete(rest[0] if rest else "")))
    else:
        if name in renamed.COMMANDS:
            _exit_with_error(f"{name} is part of train since version 0.2: write {renamed.COMMANDS[name]}")
        _exit_with_error(f"command {name} is unknown; {suggest(name, [*COMMANDS, 'list'])}")


def usage() -> str:
    """Return the help text that lists the commands."""
    lines = ["Usage: sde-gen COMMAND [key=value ...]", ""]
    lines += [f"  {name:<18}{description}" for name, description in COMMANDS.items()]
    lines += [
        f"  {'list [GROUP]':<18}print the names of a group, such as solver; without it the groups",
        f'  {"completion":<18}print the completion for bash and zsh: eval "$(sde-gen completion)"',
        "",
        "sde-gen COMMAND --help lists the settings of a command, sde-gen --version the version.",
    ]
    return "\n".join(lines)


def print_names(arguments: Sequence[str]) -> None:
    """Print the files of some groups, or the groups."""
    if not arguments:
        print_page("\n".join(kinds()))
    for kind in arguments:
        if kind not in kinds():
            _exit_with_error(f"group {kind} is unknown; {suggest(kind, kinds())}")
        print_page("\n".join(_described() if kind == PRETRAINED.name else names(kind)))


def _described() -> list[str]:
    """Lines of the pretrained models: their names with descriptions."""
    from sde_gen.cli import pretrained  # only here: it imports PyTorch

    cards = {name: pretrained.Card.read(pretrained.FOLDER / name) for name in pretrained.names()}
    return [f"{pretrained.PREFIX}{name:<24} {card.summary()}" for name, card in cards.items()]


def _exit_with_error(message: str) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    raise SystemExit(2)


def complete(line: str) -> list[str]:
    """Return completions of the last word of a command line; behind ``=`` of the value alone."""
    words = line.split(" ")[1:]
    if len(words) < 2:
        return _starting([*COMMANDS, "list", "completion"], words[-1] if words else "")
    command, last = words[0], words[-1]
    if command == "list":
        return _starting(kinds(), last)
    if command not in COMMANDS:
        return []
    key, equals, value = last.partition("=")
    by_key = {group.key: group for group in groups(command) if not group.fixed}
    if equals:
        return _starting(names(by_key[key].name), value) if key in by_key else []
    return _starting([f"{each}=" for each in (*by_key, *options.OPTIONS[command])], last)


def _starting(candidates: Sequence[str], start: str) -> list[str]:
    return sorted(candidate for candidate in candidates if candidate.startswith(start))
