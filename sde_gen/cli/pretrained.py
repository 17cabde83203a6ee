"""Pretrained models of the package: run folders with a model card, in sde_gen/pretrained."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import line
from sde_gen.cli import config_files
from sde_gen.utils import atomic

FOLDER = config_files.PRETRAINED
"""Folder of the models, one run folder each."""

PREFIX = "pretrained/"
"""Prefix of their names on the command line."""

CARD = "card.yaml"

WEIGHTS = "ema.safetensors"

LARGEST_CARD, LARGEST_WEIGHTS = 2**16, 8 * 10**6
"""Maximum sizes of a card and of the weights in bytes."""

COPIES = Path("runs") / "pretrained"
"""Folder for writable copies of the models."""

PATHS = ("run", "guidance.weak", "guidance.classifier")
"""Settings of commands that name a run folder."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured figure of a model.

    Arguments:
        metric: name of the metric, as ``evaluate`` takes it.
        mean: its value, over all draws where there are several.
        standard_error: its standard error.
        unit: its unit.
        images: number of images, of samples in a draw.
        split: split of the data, with which samples are compared.
        nfe: network evaluations per image.
        command: the command that measured it.
        name: name of the number, such as FD-EffLite0@300; empty where it is that of the metric.
        draws: the values of independent draws of samples.
        baselines: by name, value and standard error of images in place of samples.
    """

    metric: str
    mean: float
    standard_error: float
    unit: str
    images: int
    split: str
    nfe: float
    command: str
    name: str = ""
    draws: Sequence[float] = ()
    baselines: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Mapping[str, Any], command: str) -> "Figure":
        """Read a file of ``evaluate``, rounded to five digits.

        Arguments:
            report: content of the file, of a metric of the density or of samples.
            command: the command that wrote it.

        Raises:
            ValueError: it holds no such metric, or no standard error.
        """
        try:
            samples, settings = "draws" in report, report["settings"]
            images = report["draws"][0]["samples"] if samples else report["images"]
            nfe = report[f"network_evaluations_per_{'sample' if samples else 'image'}"]
            name = report["name"] if samples else ""
            draws = [each["quantities"][name]["value"] for each in report.get("draws", ())]
            baselines = {
                what: next(iter(each["quantities"].values()))
                for what, each in report.get("baselines", {}).items()
            }
            return cls(
                metric=report["metric"],
                mean=_rounded(report["mean"]),
                standard_error=_rounded(report["standard_error"]),
                unit=report.get("unit", ""),
                images=images,
                split=settings["reference"] if samples else settings.get("split", "test"),
                nfe=_rounded(nfe),
                command=command,
                name=name,
                draws=[_rounded(value) for value in draws],
                baselines={
                    what: [_rounded(one["value"]), _rounded(one["standard_error"])]
                    for what, one in baselines.items()
                },
            )
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"the file of {report.get('metric')} holds no figure with standard error ({error!r}); take more images"
            ) from error

    @property
    def title(self) -> str:
        """Return the name of the number."""
        return self.name or self.metric


def _rounded(number: float) -> float:
    """Round to five significant digits."""
    return float(f"{number:.5g}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A model card.

    Arguments:
        name: name of the model.
        description: one line.
        data: data set, its source and license.
        process: class of the process.
        network: class of the network, and its number of parameters.
        images: training images seen.
        command: the command that trained it.
        figures: measured figures of these weights.
        license: license of the weights.
        sha256: checksum of the file of weights.
    """

    name: str
    description: str
    data: str
    process: str
    network: str
    images: int
    command: str
    figures: Sequence[Figure]
    license: str
    sha256: str

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """Read the card of a folder.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        path = folder / CARD
        try:
            stored = yaml.safe_load(atomic.read_regular(path, LARGEST_CARD))
            figures = [Figure(**each) for each in stored.pop("figures")]
            return cls(**stored, figures=figures)
        except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is no model card ({line(str(error), 100)})") from error

    def write(self, folder: Path) -> None:
        """Write the card of a folder."""
        optional = ("name", "draws", "baselines")
        figures = [
            {key: value for key, value in asdict(each).items() if key not in optional or value}
            for each in self.figures
        ]
        text = yaml.safe_dump({**asdict(self), "figures": figures}, sort_keys=False)
        atomic.write(folder / CARD, text)

    def with_figures(self, figures: Sequence[Figure]) -> "Card":
        """Return the card with further figures, which replace those of the same name."""
        new = {each.title for each in figures}
        return replace(self, figures=[*(each for each in self.figures if each.title not in new), *figures])

    def summary(self) -> str:
        """Return the description and the first figure in one line."""
        found = [f"{each.mean:.3f} +- {each.standard_error:.3f} {each.unit}" for each in self.figures[:1]]
        return ", ".join([self.description, *found])


def names() -> list[str]:
    """Return the names of the pretrained models."""
    return config_files.names(FOLDER.name)


def folder(name: str) -> Path:
    """Return the run folder of a pretrained model after verifying its weights.

    Arguments:
        name: its name, with or without ``pretrained/``.

    Raises:
        ValueError: there is no such model, or its card has another checksum than its weights.
    """
    bare = name.removeprefix(PREFIX)
    if bare not in names():
        raise ValueError(f"there is no pretrained model {bare}; {config_files.suggest(bare, names())}")
    found = FOLDER / bare
    verify(found)
    return found


def verify(model: Path) -> Card:
    """Verify the weights of a run folder against its card.

    Raises:
        ValueError: the checksums differ, or one of the two is missing.
    """
    card = Card.read(model)
    paths = checkpoint.paths(model / "checkpoints")
    if not paths:
        raise ValueError(f"{model} has no weights; install the package again")
    try:
        found = hashlib.sha256(atomic.read_regular(paths[-1] / WEIGHTS, LARGEST_WEIGHTS)).hexdigest()
    except OSError as error:
        raise ValueError(manifest.unreadable(paths[-1], error)) from error
    if found != card.sha256:
        raise ValueError(
            f"the card of {model.name} is of other weights: it has SHA-256 {str(card.sha256)[:12]}..., the file "
            f"{found[:12]}...; install the package again"
        )
    return card


def is_name(path: Any) -> bool:
    """Return whether a setting names a pretrained model and not a folder."""
    return isinstance(path, str) and path.startswith(PREFIX) and not Path(path).is_dir()


def copy(name: str) -> Path:
    """Copy a model to runs/pretrained unless it exists there; return that folder.

    Raises:
        ValueError: there is no such model, or the folder holds another.
    """
    source = folder(name)
    target = COPIES / source.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic.folder(target) as made:
                shutil.copytree(source, made, dirs_exist_ok=True)
        except OSError:
            if not target.exists():  # else another process was faster
                raise
    if verify(target).sha256 != Card.read(source).sha256:
        raise ValueError(
            f"{target} holds other weights than the model {source.name} of this version: move it to another name"
        )
    return target


def resolve(path: str) -> Path:
    """Return the folder of a pretrained model if the path names one, else the path."""
    return folder(path) if is_name(path) else Path(path)


def replace_names(config: DictConfig) -> None:
    """Replace names of pretrained models in settings by writable copies, which receive the results.

    Raises:
        ValueError: as :func:`copy`; or a training would write to the copy.
    """
    if "engine" in config and OmegaConf.select(config, "run", throw_on_missing=False) is not None:
        run = str(config.run)
        if is_name(run) or (Path(run) / CARD).exists():
            raise ValueError(
                f"run={run} is a pretrained model, which stays as it is: begin from its weights with init={run}"
            )
    for key in PATHS:
        value = OmegaConf.select(config, key, throw_on_missing=False)
        if is_name(value):
            OmegaConf.update(config, key, str(copy(value)))
