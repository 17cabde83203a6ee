"""Steer a run from a configuration: labels, guidance, and tasks on given images."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.app import as_list, refuse
from sde_gen.cli.run import Run, classes_of, load_classifier, load_run, moved_data, open_data
from sde_gen.data.image_file import load_image
from sde_gen.denoiser import Denoiser
from sde_gen.inverse.task import Task
from sde_gen.utils.types import Shape

TASK_OPTIONS = ("image", "mask", "a", "b", "method", "noise_std", "factor")
"""TrainingConfig of the door that some tasks ask for."""


def apply_guidance(config: DictConfig, run: Run) -> Denoiser:
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
        if (
            task is not None
            and told
            and (set(guidance) & {"drop", "classifier"} or not _supports_unconditional(run))
        ):
            raise ValueError("the model or its guidance needs a class here: give label=...")
        every = torch.arange(config.n) % max(_classes(config, run)[0], 1)
        return every if task is None and (told or "classifier" in set(guidance)) else None
    if not told and "classifier" not in set(guidance):
        raise ValueError(
            f"label={config.label}: the run was trained without classes; train one with conditioning=class"
        )
    classes, names = _classes(config, run)
    asked = [_number(one, names) for one in as_list(config.label)]
    if not asked or any(not 0 <= one < classes for one in asked):
        listing = f" ({', '.join(names)})" if names else ""
        raise ValueError(f"label={config.label}: the classes are 0 to {classes - 1}{listing}")
    return torch.tensor(asked).repeat(-(-config.n // len(asked)))[: config.n]


def class_names(config: DictConfig, run: Run) -> tuple[str, ...]:
    """Names of the classes that ``config.label`` chooses from; empty where they have none."""
    return _classes(config, run)[1]


def _number(label: Any, names: tuple[str, ...]) -> int:
    """The number of a class that is given by its number or its name; -1 where there is no such class."""
    if isinstance(label, int) and not isinstance(label, bool):
        other = names.index(str(label)) if str(label) in names else label
        if other != label:
            warnings.warn(
                f"label={label} is the class of this number, not the one of this name, which is number {other}; "
                f"a name is quoted twice: label=\"'{label}'\"",
                stacklevel=3,
            )
        return label
    return names.index(label) if label in names else -1


def open_task(config: DictConfig, run: Run) -> Task | None:
    """Build the task with the images it asks for; None if there is none.

    Raises:
        ValueError: an image is missing, broken or does not fit, or a setting is given that the task does not ask for.
    """
    node = config.get("task")
    _refuse_idle(node)
    if not any(type(config.get(key)) is int for key in ("image", "a", "b")):
        refuse("the data are read for a held-out image alone, image=INDEX", "data")
    if node is None:
        return None
    if len(run.data_spec.shape) != 3 or run.data_spec.levels is None:
        raise ValueError(f"tasks work on images; the data of {run.folder} have shape {run.data_spec.shape}")
    asked: set[Any] = set(node)  # "in" would leave out what is still missing
    if "method" in asked and "solver" in config.method and "inner" not in config.method.solver:
        refuse("the method walks by itself", "solver")
    settings = OmegaConf.to_container(node, resolve=True)
    assert isinstance(settings, dict)
    given: dict[str, Any] = {"event": run.data_spec.shape}
    if "mask" in asked:
        if config.mask is None:
            raise ValueError("the task needs mask=FILE, an image that is white where the other is known")
        given["mask"] = _load(str(config.mask), [(1, *run.data_spec.shape[1:])], run)[0] > 127
    images = [key for key in ("image", "a", "b") if key in asked]
    build.check(node, **given, **dict.fromkeys(images))
    rest = {key: value for key, value in settings.items() if key not in (*given, *images)}
    make = instantiate({**rest, "_partial_": True})
    blank: Task = make(**given, **dict.fromkeys(images, torch.zeros(1, *run.data_spec.shape)))
    task: Task = make(**given, **{key: _image(key, config, blank.shapes, run) for key in images})
    return task


def _around(model: Denoiser, node: DictConfig, config: DictConfig, run: Run) -> Denoiser:
    """One guidance around the model, with the further models it asks for."""
    name = node._target_.rpartition(".")[2]
    asked: set[Any] = set(node)
    given: dict[str, Any] = {}
    if "drop" in asked and not build.conditional(run.config):
        raise ValueError(f"{name} needs a run trained with conditioning=class; {run.folder} knows no classes")
    told = bool(node.get("pass_label", False))
    if told and not build.conditional(run.config):
        raise ValueError(f"guidance.pass_label=true: {run.folder} knows no classes to be told; leave it out")
    if asked & {"drop", "classifier"} and not told and not _supports_unconditional(run):
        raise ValueError(
            f"{name} asks the model without a class too; {run.folder} was trained with conditioning.dropout=0 "
            "and knows no such thing: train one with conditioning.dropout=0.1"
            + (", or tell it the class too with guidance.pass_label=true" if "pass_label" in asked else "")
        )
    if "weak" in asked:
        given["weak"] = _load_weak_model(node.weak, config, run).denoiser
    if {"low", "high"} <= asked:
        given |= _range(node, run)
    if "classifier" in asked:
        given["classifier"] = load_classifier(Path(node.classifier), run)
    rest = {key: value for key, value in node.items() if key not in given}
    build.check(node, **given)
    built: Denoiser = instantiate(rest)(denoiser=model, **given)
    return built


def _load_weak_model(folder: str, config: DictConfig, run: Run) -> Run:
    """The run of a weaker model of the same data."""
    weak = load_run(
        OmegaConf.create(
            {
                "run": folder,
                "checkpoint": None,
                **{key: config[key] for key in ("trust", "device", "precision")},
            }
        )
    )
    names = run.data.class_names or weak.data.class_names
    for what, found, expected in (
        ("data", weak.data_spec, run.data_spec),
        ("names of classes", weak.data.class_names or names, names),
        ("codec", weak.config.codec, run.config.codec),
        ("conditioning", build.conditional(weak.config), build.conditional(run.config)),
    ):
        if found != expected:
            raise ValueError(
                f"the weak model in {folder} has other {what} than {run.folder}: {found}, not {expected}"
            )
    return weak


def _range(node: DictConfig, run: Run) -> dict[str, float]:
    """Smallest and largest value of the data in model space, where they are not given.

    Raises:
        ValueError: the data are continuous, so that the codec has none.
    """
    given: dict[str, float] = {key: node[key] for key in ("low", "high") if node[key] is not None}
    if len(given) < 2 and run.data_spec.levels is None:
        raise ValueError(
            f"the data of {run.folder} are continuous and have no smallest and largest value: give low= and high= of "
            f"{node._target_.rpartition('.')[2]} in model space, such as guidance.low=-1 guidance.high=1"
        )
    if len(given) == 2:
        return given
    middles = run.codec.middles()
    return {"low": float(middles[0]), "high": float(middles[-1]), **given}


def _classes(config: DictConfig, run: Run) -> tuple[int, tuple[str, ...]]:
    """Number and names of the classes of the run's data; where they say none, of the classifier's that guides."""
    folder = (config.get("guidance") or {}).get("classifier")
    if run.data_spec.classes or folder is None:
        return run.data_spec.classes, run.data.class_names
    return classes_of(Path(folder))


def _supports_unconditional(run: Run) -> bool:
    """Whether the network knows what to do without a class."""
    return not build.conditional(run.config) or run.config.conditioning.dropout > 0


def _refuse_idle(node: DictConfig | None) -> None:
    """Raise ValueError for settings of tasks that this one does not ask for."""
    asked = set() if node is None else set(node)
    instead = "choose a task, such as task=inpaint" if node is None else "this task does not ask for it"
    refuse(instead, *(key for key in TASK_OPTIONS if key not in asked))


def _image(key: str, config: DictConfig, shapes: Sequence[Shape], run: Run) -> Tensor:
    """A file's image, or a held-out one by its index, in model space with one of the shapes behind a first axis."""
    value = config[key]
    if value is None:
        raise ValueError(f"the task needs {key}=FILE, or {key}=0, 1, ... for an image held out of training")
    if isinstance(value, int):
        images = open_data(run, moved_data(config)).test.values
        if not 0 <= value < len(images):
            raise ValueError(f"{key}={value}: the held-out images of {run.folder} are 0 to {len(images) - 1}")
        levels = images[value]
    else:
        assert run.data_spec.levels is not None, "checked before"
        levels = torch.round(_load(value, shapes, run).double() * (run.data_spec.levels - 1) / 255)
    return run.codec.encode(levels.unsqueeze(0)).to(run.device)


def _load(path: str, shapes: Sequence[Shape], run: Run) -> Tensor:
    """A file's image, laid on the background of the run's data where it is transparent."""
    data = run.config.get("data") or {}
    return load_image(Path(path), *shapes, background=data.get("background", "white"))
