"""Steer a run from a configuration: labels, guidance, and tasks on given images."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import build
from sde_gen.denoiser import Denoiser
from sde_gen.door import refuse, several
from sde_gen.picture import load_image
from sde_gen.run import Run, classes_of, open_classifier, open_data, open_run
from sde_gen.task import Task

OF_TASKS = ("image", "mask", "a", "b", "method", "noise_std", "factor")
"""Settings of the door that some tasks ask for."""


def guided(config: DictConfig, run: Run) -> Denoiser:
    """The run's denoiser inside ``config.guidance``, and that inside ``config.threshold``, where there are any.

    Raises:
        ValueError: the run was not trained for it, or the other model does not go with the run.
    """
    model: Denoiser = run.denoiser
    for node in (config.get("guidance"), config.get("threshold")):
        if node is not None:
            model = _around(model, node, config, run)
    return model


def choose_labels(config: DictConfig, run: Run) -> Tensor | None:
    """One class per sample: those of ``config.label``, or all of them, in turn; None where nobody asks for classes.

    A task that is told no class asks for none.

    Raises:
        ValueError: there are no such classes, or none is given where one is needed.
    """
    guidance, task = config.get("guidance") or {}, config.get("task")
    told = build.conditional(run.config)
    if config.label is None:
        if task is not None and told and (set(guidance) & {"drop", "classifier"} or not _dropped(run)):
            raise ValueError("the model or its guidance needs a class here: give label=...")
        every = torch.arange(config.n) % max(_classes(config, run), 1)
        return every if task is None and (told or "classifier" in set(guidance)) else None
    if not told and "classifier" not in set(guidance):
        raise ValueError(
            f"label={config.label}: the run was trained without classes; train one with conditioning=class"
        )
    asked, classes = several(config.label), _classes(config, run)
    if not asked or any(
        not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < classes for one in asked
    ):
        raise ValueError(f"label={config.label}: the classes are 0 to {classes - 1}")
    return torch.tensor(asked).repeat(-(-config.n // len(asked)))[: config.n]


def open_task(config: DictConfig, run: Run) -> Task | None:
    """Build the task with the images it asks for; None if there is none.

    Raises:
        ValueError: an image is missing, broken or does not fit, or a setting is given that the task does not ask for.
    """
    node = config.get("task")
    _refuse_idle(node)
    if node is None:
        return None
    if len(run.facts.shape) != 3 or run.facts.levels is None:
        raise ValueError(f"tasks work on images; the data of {run.folder} have shape {run.facts.shape}")
    asked: set[Any] = set(node)  # "in" would leave out what is still missing
    if "method" in asked and "solver" in config.method and "inner" not in config.method.solver:
        refuse("the method walks by itself", "solver")
    given: dict[str, Any] = {"event": run.facts.shape}
    for key in ("image", "a", "b"):
        if key in asked:
            given[key] = _image(key, config[key], run)
    if "mask" in asked:
        if config.mask is None:
            raise ValueError("the task needs mask=FILE, an image that is white where the other is known")
        given["mask"] = load_image(Path(str(config.mask))).float().mean(0) > 127
    settings = OmegaConf.to_container(node, resolve=True)
    assert isinstance(settings, dict)
    rest = {key: value for key, value in settings.items() if key not in given}
    build.check(node, **given)
    task: Task = instantiate({**rest, "_partial_": True})(**given)
    return task


def _around(model: Denoiser, node: DictConfig, config: DictConfig, run: Run) -> Denoiser:
    """One guidance around the model, with the further models it asks for."""
    name = node._target_.rpartition(".")[2]
    asked: set[Any] = set(node)
    given: dict[str, Any] = {}
    if "drop" in asked and not build.conditional(run.config):
        raise ValueError(f"{name} needs a run trained with conditioning=class; {run.folder} knows no classes")
    told = bool(node.get("told", False))
    if told and not build.conditional(run.config):
        raise ValueError(f"guidance.told=true: {run.folder} knows no classes to be told; leave it out")
    if asked & {"drop", "classifier"} and not told and not _dropped(run):
        raise ValueError(
            f"{name} asks the model without a class too; {run.folder} was trained with conditioning.dropout=0 "
            "and knows no such thing: train one with conditioning.dropout=0.1"
            + (", or tell it the class too with guidance.told=true" if "told" in asked else "")
        )
    if "weak" in asked:
        given["weak"] = _weak(node.weak, config, run).denoiser
    if "classifier" in asked:
        given["classifier"] = open_classifier(Path(node.classifier), run)
    rest = {key: value for key, value in node.items() if key not in given}
    build.check(node, **given)
    built: Denoiser = instantiate(rest)(denoiser=model, **given)
    return built


def _weak(folder: str, config: DictConfig, run: Run) -> Run:
    """The run of a weaker model of the same data."""
    weak = open_run(
        OmegaConf.create(
            {
                "run": folder,
                "checkpoint": None,
                **{key: config[key] for key in ("trust", "device", "precision")},
            }
        )
    )
    for what, found, expected in (
        ("data", weak.facts, run.facts),
        ("codec", weak.config.codec, run.config.codec),
        ("conditioning", build.conditional(weak.config), build.conditional(run.config)),
    ):
        if found != expected:
            raise ValueError(
                f"the weak model in {folder} has other {what} than {run.folder}: {found}, not {expected}"
            )
    return weak


def _classes(config: DictConfig, run: Run) -> int:
    """Number of classes of the run's data; where they say none, of the classifier's that guides."""
    folder = (config.get("guidance") or {}).get("classifier")
    return run.facts.classes or (0 if folder is None else classes_of(Path(folder)))


def _dropped(run: Run) -> bool:
    """Whether the network knows what to do without a class."""
    return not build.conditional(run.config) or run.config.conditioning.dropout > 0


def _refuse_idle(node: DictConfig | None) -> None:
    """Raise ValueError for settings of tasks that this one does not ask for."""
    asked = set() if node is None else set(node)
    instead = "choose a task, such as task=inpaint" if node is None else "this task does not ask for it"
    refuse(instead, *(key for key in OF_TASKS if key not in asked))


def _image(key: str, value: str | int | None, run: Run) -> Tensor:
    """A file's image, or a held-out one by its index, in model space with shape (1, *event)."""
    if value is None:
        raise ValueError(f"the task needs {key}=FILE, or {key}=0, 1, ... for an image held out of training")
    if isinstance(value, int):
        images = open_data(run).test.values
        if not 0 <= value < len(images):
            raise ValueError(f"{key}={value}: the held-out images of {run.folder} are 0 to {len(images) - 1}")
        levels = images[value]
    else:
        assert run.facts.levels is not None, "checked before"
        levels = torch.round(load_image(Path(value)).double() * (run.facts.levels - 1) / 255)
    return run.codec.encode(levels.unsqueeze(0)).to(run.device)
