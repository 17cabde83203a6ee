"""A run folder: what a training leaves, and what all other doors start from."""

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import build
from sde_gen.build import Facts
from sde_gen.codec import Codec
from sde_gen.data import Splits
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.door import several
from sde_gen.engine import checkpoint
from sde_gen.engine.precision import Float32, Precision, contexts
from sde_gen.engine.state import load_into
from sde_gen.guidance import NoisyClassifier

USED = ("ema",)
"""The part of a checkpoint that is read here."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained model, rebuilt from its checkpoint alone.

    Arguments:
        folder: the run folder.
        config: the configuration it was trained with.
        facts: facts of its data.
        denoiser: the network with its averaged weights, ready for evaluation.
        codec: between data and model space.
        images: training images it has seen.
        device: where it lies.
        precision: format of the network's products.
    """

    folder: Path
    config: DictConfig
    facts: Facts
    denoiser: NetworkDenoiser
    codec: Codec
    images: int
    device: torch.device
    precision: torch.dtype

    def labels(self, n: int) -> Tensor | None:
        """A class for each of n samples, all classes in turn; None for a network without classes."""
        return torch.arange(n) % self.facts.classes if build.conditional(self.config) else None

    def conditioned(self, labels: Tensor | None) -> Denoiser:
        """The denoiser given the labels, if it was trained with labels."""
        return (
            self.denoiser
            if labels is None or not build.conditional(self.config)
            else self.denoiser.bind(label=labels.to(self.device))
        )


def open_run(config: DictConfig) -> Run:
    """Rebuild the model of ``config.run``, its network called in ``config.precision`` if there is one, else in float32.

    Raises:
        ValueError: no such folder or checkpoint, a damaged one, or a configuration that is not to be trusted.
    """
    folder = Path(config.run)
    found, stored, facts = _open(folder, config.checkpoint, tuple(several(config.trust)))
    if "model" not in stored:
        raise ValueError(
            f"{folder} holds a classifier, which cannot sample; name the run folder of a score network"
        )
    where, asked = build.device(config.device), config.get("precision")
    precision: Precision = Float32() if asked is None else build.make(asked)
    dtype = precision.dtype(where)
    denoiser = build.denoiser(stored, facts, context=contexts(where, dtype))
    load_into(denoiser.net, found.ema, what=f"the checkpoint in {folder}")
    return Run(
        folder=folder,
        config=stored,
        facts=facts,
        denoiser=denoiser.to(where).eval().requires_grad_(False),
        codec=build.codec(stored, facts),
        images=found.images,
        device=where,
        precision=dtype,
    )


def open_classifier(folder: Path, run: Run) -> NoisyClassifier:
    """Rebuild the classifier of a run folder, to be used beside a run.

    Raises:
        ValueError: as :func:`open_run`; or it was trained on other data, another process or another codec.
    """
    found, stored, facts = _open(folder, None, ())
    if "encoder" not in stored:
        raise ValueError(f"{folder} holds no classifier; train one with python -m sde_gen.train_classifier")
    for kind in ("sde", "codec"):
        if stored[kind] != run.config[kind]:
            raise ValueError(
                f"the classifier in {folder} was trained with {kind}={stored[kind]}, the run with {run.config[kind]}; "
                "both need the same"
            )
    ours, theirs = ((one.shape, one.levels) for one in (run.facts, facts))
    if ours != theirs or run.facts.classes not in (0, facts.classes):  # 0: the run's data say no classes
        raise ValueError(f"the classifier in {folder} was trained on {facts}, the run on {run.facts}")
    classifier = build.classifier(stored, facts)
    load_into(classifier.net, found.ema, what=f"the checkpoint in {folder}")
    return classifier.to(run.device).eval().requires_grad_(False)


def classes_of(folder: Path) -> int:
    """Number of classes that the run folder's data have, as its newest checkpoint says; 0 if it says nothing."""
    found = checkpoint.paths(folder / "checkpoints")
    facts = checkpoint.about(found[-1]).get("facts") if found else None
    return _facts(facts, folder).classes if facts else 0


def _open(
    folder: Path, name: str | None, trust: tuple[str, ...]
) -> tuple[checkpoint.Saved, DictConfig, Facts]:
    """Find a checkpoint, and what it was trained with."""
    if not folder.is_dir():
        raise ValueError(
            f"there is no run folder {folder}; train one with python -m sde_gen.train, or name another with run=..."
        )
    found = _find(folder, name)
    about = found.about
    if not {"config", "facts"} <= about.keys():
        raise ValueError(
            f"the checkpoint in {folder} says no configuration: it was not written by the door train, "
            "and only the code that trained it can rebuild it"
        )
    config = about["config"]
    build.check_targets(config, trust)
    network = isinstance(config, dict) and config.get("model", config.get("encoder"))
    if not isinstance(network, dict):
        raise ValueError(f"the checkpoint in {folder} names no network: it was not written by the door train")
    return found, OmegaConf.create(config), _facts(about["facts"], folder)


def _facts(told: Any, folder: Path) -> Facts:
    try:
        facts = Facts(**{**told, "shape": tuple(map(operator.index, told["shape"]))})
        for number in (facts.classes, facts.levels or 0):
            operator.index(number)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"the checkpoint in {folder} tells of facts of the data that are none ({error})"
        ) from error
    return facts


def open_data(run: Run) -> Splits:
    """Load the data that a run was trained on.

    Raises:
        ValueError: the data are missing, or no longer what they were.
    """
    if "data" not in run.config:
        raise ValueError(f"{run.folder} was converted without data; convert it again with data=...")
    splits: Splits = build.make(run.config.data).load()
    if splits.train.shape != run.facts.shape or splits.train.levels != run.facts.levels:
        raise ValueError(
            f"the data have shape {splits.train.shape} and {splits.train.levels} levels, "
            f"but the run was trained on shape {run.facts.shape} and {run.facts.levels} levels"
        )
    return splits


def _find(folder: Path, name: str | None) -> checkpoint.Saved:
    store = folder / "checkpoints"
    if name is None:
        found = checkpoint.latest(store, USED)
        if found is None:
            raise ValueError(
                f"{folder} has no checkpoint; is it a run folder, and did its training come that far?"
            )
        return found
    path = checkpoint.best_path(store) if name == "best" else store / str(name)
    if path is None or not path.is_dir():
        known = ", ".join(path.name for path in checkpoint.paths(store)) or "none"
        raise ValueError(f"{folder} has no checkpoint {name}; there are: {known}")
    return checkpoint.load(path, USED)
