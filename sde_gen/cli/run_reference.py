"""Runs that a run names, such as the autoencoder of a codec of latents: by folder and SHA-256 of their weights."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import pretrained
from sde_gen.cli.constructors import accepts
from sde_gen.data.codec import TrainedAutoencoder
from sde_gen.denoiser import NetworkAutoencoder, NetworkDenoiser, NoisyClassifier
from sde_gen.model import Autoencoder

if TYPE_CHECKING:
    from sde_gen.cli.run import Run

OF_MODELS = ("codec", "model")
"""Parts of a configuration that may name a run by ``run`` and ``sha256``, and that a trained model needs."""

NODES = (*OF_MODELS, "objective")
"""The same, and those that a training needs."""

BEFORE = "before"
"""Part of a configuration that names the run of the stage before, whose samples this one is given."""

PARTS = "parts"
"""Folder inside a run folder for the runs that it names, and the option with the folders where they lie now."""


AFTER = "after"
"""Setting of a run that is opened as a stage: the number of stages after it."""

MOST_STAGES = 16
"""Stages of a cascade that name each other, at most."""


class Role(NamedTuple):
    """Argument of a constructor that is taken from a run which its node names.

    Attributes:
        what: description for messages.
        trains: class of the model that the run holds.
        take: from the run to the argument.
    """

    what: str
    trains: type
    take: "Callable[[Run], Any]"


ROLES: Mapping[str, Role] = {
    "autoencoder": Role(
        "the autoencoder of the codec",
        NetworkAutoencoder,
        lambda run: TrainedAutoencoder(net=cast(Autoencoder, run.denoiser.net), codec=run.codec),
    ),
    "classifier": Role("the classifier of the perceptual term", NoisyClassifier, lambda run: run.denoiser),
    BEFORE: Role("the stage before", NetworkDenoiser, lambda run: run),
    "base": Role("the network that model=controlled controls", NetworkDenoiser, lambda run: run.denoiser.net),
}
"""By the name of a constructor's argument that is taken from a run, how it is taken."""


@dataclass(frozen=True, kw_only=True)
class RunReference:
    """A run that another run names.

    Arguments:
        node: part of the configuration that names it, such as ``codec``.
        argument: argument of that part's constructor, a key of :data:`ROLES`.
        run: its folder, absolute or relative to the folder of the run that names it or to the working directory.
        sha256: of its averaged weights, :attr:`~sde_gen.cli.run.Run.sha256`; None takes those of the newest checkpoint.
    """

    node: str
    argument: str
    run: str
    sha256: str | None = None

    @property
    def role(self) -> Role:
        """Return what is taken from the run."""
        return ROLES[self.argument]

    def find(self, beside: Path | None = None, parts: Sequence[str] = ()) -> tuple[Path, str | None]:
        """Return the run folder with the weights, and the name of their checkpoint, None for the newest.

        It is looked for in ``parts``, then inside the folder of the run that names it, then in its own place, then in a
        folder of its name beside that run.

        Arguments:
            beside: folder of the run that names it; None for names of the working directory alone.
            parts: further run folders, of any parts.

        Raises:
            ValueError: no such folder, or none with these weights; the message names the folder and what to do.
        """
        folders = [Path(part) for part in parts] if self.sha256 is not None else []
        folders += _places(self.run, beside)
        found = [folder for folder in folders if folder.is_dir()]
        if self.sha256 is None:
            if found:
                return found[0], None
        else:
            for folder in found:
                name = _checkpoint(folder, self.sha256)
                if name is not None:
                    return folder, name
        elsewhere = f"{self.node}.run=FOLDER" if self.sha256 is None else f"{PARTS}=[FOLDER]"
        if not found:
            raise ValueError(
                f"there is no run folder {self.run} of {self.role.what}; put it back in its place, or name its new one "
                f"with {elsewhere}"
            )
        raise ValueError(
            f"the weights of {self.role.what} in {', '.join(map(str, found))} have changed: expected those with "
            f"SHA-256 {str(self.sha256)[:16]}...; put them back, or name the folder where they lie now with {elsewhere}"
        )

    def open(
        self,
        *,
        device: str = "auto",
        beside: Path | None = None,
        parts: Sequence[str] = (),
        trust: Sequence[str] = (),
        precision: DictConfig | None = None,
        after: int = 0,
    ) -> "Run":
        """Rebuild the run, and the runs that it names itself.

        Arguments:
            device: device of its model.
            beside: folder of the run that names it.
            parts: further run folders, of any parts.
            trust: further packages whose classes the stored configuration may name.
            precision: format of the network's products; None for float32.
            after: stages after it that have been opened.

        Raises:
            ValueError: as :meth:`find`; or the run holds a model of another kind, or is damaged.
        """
        from sde_gen.cli.run import load_run  # only here: it opens the runs that a run names

        folder, name = self.find(beside, parts)
        given = {
            "run": str(folder),
            "checkpoint": name,
            "device": device,
            "trust": [*trust],
            PARTS: [*map(str, parts)],
            "precision": precision,
            AFTER: after,
        }
        return load_run(OmegaConf.create(given), self.role.trains)


def references(config: Mapping[Any, Any], nodes: Sequence[str] = NODES) -> dict[str, RunReference]:
    """Return the runs that some parts of a configuration name, by the part.

    Raises:
        ValueError: a part needs a run, and names none.
    """
    found: dict[str, RunReference] = {}
    for key in nodes:
        node = config.get(key)
        if node is None:
            continue
        taken = (name for name in ROLES if accepts(node, name))
        argument = BEFORE if key == BEFORE else next(taken, None)
        if argument is None:
            continue
        run = None if OmegaConf.is_missing(node, "run") else node.get("run")
        if run:
            sha256 = node.get("sha256")
            found[key] = RunReference(node=key, argument=argument, run=str(run), sha256=sha256)
        elif OmegaConf.is_missing(node, argument):
            raise ValueError(f"{key}.run must name the run folder of {ROLES[argument].what}")
    return found


def arguments(config: Mapping[Any, Any], opened: "Mapping[str, Run]") -> dict[str, dict[str, Any]]:
    """Return by part of a configuration the constructor's argument that it takes from its opened run."""
    named = references(config, tuple(opened))
    return {key: {named[key].argument: named[key].role.take(run)} for key, run in opened.items()}


def open_runs(
    config: Mapping[Any, Any],
    *,
    device: str = "auto",
    beside: Path | None = None,
    parts: Iterable[str] = (),
    trust: Sequence[str] = (),
    nodes: Sequence[str] = NODES,
    precision: DictConfig | None = None,
    after: int = 0,
) -> "dict[str, Run]":
    """Open all runs that parts of a configuration name, by the part that names them.

    The other arguments, and the errors, are those of :meth:`RunReference.open`.
    """
    if after >= MOST_STAGES:
        raise ValueError(
            f"{beside} is after {after} stages or more that name each other: does one name itself?"
        )
    folders = [str(pretrained.resolve(str(part))) for part in parts]
    for folder in folders:
        if not Path(folder).is_dir():
            raise ValueError(f"{PARTS}=[{folder}]: there is no run folder {folder}")
    return {
        key: reference.open(
            device=device,
            beside=beside,
            parts=folders,
            trust=trust,
            precision=precision if key == BEFORE else None,
            after=after + 1 if key == BEFORE else 0,
        )
        for key, reference in references(config, nodes).items()
    }


def record(config: DictConfig, opened: "Mapping[str, Run]") -> None:
    """Write absolute folder and SHA-256 of the opened runs into the configuration of a training."""
    for key, run in opened.items():
        with open_dict(config):
            config[key].run, config[key].sha256 = os.path.abspath(run.folder), run.sha256


PLACES = tuple(f"{node}.run: " for node in NODES)
"""Beginnings of the lines about settings that say where a run lies, but not which run it is."""


def without_places(node: DictConfig) -> dict[str, Any]:
    """Return a part of a configuration without the folder of the run that it names, whose SHA-256 stays."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    named = "sha256" in plain and any(accepts(node, argument) for argument in ROLES)
    return {key: value for key, value in plain.items() if not (named and key == "run")}


def _places(run: str, beside: Path | None) -> list[Path]:
    """Return the folders that a name may mean."""
    path = pretrained.resolve(run)
    if beside is None:
        return [path]
    inside = [] if path.is_absolute() else [beside / path]
    return [*inside, path, beside.resolve().parent / path.name]


def _checkpoint(folder: Path, sha256: str) -> str | None:
    """Return the name of the newest checkpoint with these averaged weights; None if there is none."""
    for path in reversed(checkpoint.paths(folder / "checkpoints")):
        try:
            if manifest.part_digest(manifest.read(path).sha256, "ema") == sha256:
                return path.name
        except ValueError:
            continue  # damaged
    return None
