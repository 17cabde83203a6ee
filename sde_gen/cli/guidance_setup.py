"""Set up conditions, guidance and tasks on given images from a configuration."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor

from sde_gen.checkpoint.manifest import brief
from sde_gen.cli import instantiate, run_reference
from sde_gen.cli.app import reject_unused
from sde_gen.cli.constructors import annotated
from sde_gen.cli.options import as_plain
from sde_gen.cli.run import Run, classes_of, load_classifier, load_run
from sde_gen.cli.run_data import moved_data, open_data
from sde_gen.cli.targets import import_object
from sde_gen.data.conditioning import Conditioning, Label, Several
from sde_gen.data.conditioning.base import PLURALS
from sde_gen.data.image_file import load_image
from sde_gen.denoiser import Denoiser
from sde_gen.guidance import Requirements
from sde_gen.inverse.task import Task
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.utils.types import Shape

CONDITIONS = frozenset({"label", "text", "vector", "image", "mask", "control"})
"""Options of the command that give conditions of the samples."""

TASK_OPTIONS = ("image", "mask", "a", "b", "method", "noise_std", "factor")
"""Options of the command that some tasks use."""


def apply_guidance(config: DictConfig, run: Run, *, after: bool = False) -> Denoiser:
    """Wrap the run's denoiser by ``config.control_strength``, ``config.guidance`` and ``config.threshold``, if any.

    Arguments:
        config: the configuration of the command.
        run: the run.
        after: whether a stage comes before, which may move away from conditions that this one has not.

    Raises:
        ValueError: the run was not trained for it, or the other model does not go with the run.
    """
    model: Denoiser = run.denoiser
    asked = [config.get(name) for name in ("control_strength", "guidance", "threshold")]
    nodes = [node for node in asked if node is not None]
    if not after and not any("null" in annotated(node) for node in nodes):
        reject_unused(
            "only guidance=cfg moves away from a condition", *(f"not_{name}" for name in CONDITIONS)
        )
    for node in nodes:
        model = _around(model, node, config, run)
    return model


def choose_conditions(config: DictConfig, run: Run) -> dict[str, Tensor]:
    """Return the conditioning inputs of the samples, for what the command line gives, or their defaults.

    A task has none where none is given.

    Raises:
        ValueError: a value does not fit, or none is given where one is needed.
    """
    needs, task = _requirements(config.get("guidance")), config.get("task")
    conditioning, class_names = prompted(config, run)
    typed = typed_conditions(config, CONDITIONS if task is None else CONDITIONS - {"image", "mask"})
    needed = needs.labels or needs.conditional_model
    missing = "the model or its guidance needs a condition here: give " + " or ".join(
        f"{name}=..." for name in conditioning.names
    )
    if task is not None and not typed:
        if conditioning.names and (needed or not supports_unconditional(run)):
            raise ValueError(missing)
        return conditioning.omitted(config.n)
    found = conditioning.prompt(typed, config.n, class_names=class_names)
    if needed and not typed and found.keys() <= conditioning.omitted(1).keys():
        raise ValueError(missing)
    level = config.get("image_noise")
    if level:
        seeds = spawn_seeds(config.seed, 2 * config.n)[config.n :]  # others than those of the samples
        found = conditioning.noised(found, level, PerSample(seeds))
    return found


def typed_conditions(config: DictConfig, names: Collection[str]) -> dict[str, Any]:
    """Return the conditions of the command line by name."""
    plain = {name: as_plain(config, name) for name in sorted(names) if name in config}
    return {name: value for name, value in plain.items() if value is not None}


def class_names(config: DictConfig, run: Run) -> tuple[str, ...]:
    """Names of the classes that ``config.label`` chooses from; empty where they have none."""
    return _classes(config, run)[1]


def prompted(config: DictConfig, run: Run) -> tuple[Conditioning, tuple[str, ...]]:
    """Return the run's conditioning, with the labels of a guiding classifier, and the names of the classes."""
    classes, names = _classes(config, run)
    conditioning = run.conditioning
    if "label" in conditioning.names or not _requirements(config.get("guidance")).labels:
        return conditioning, names
    label = Label(classes=classes)
    parts = {"run": conditioning, "classifier": label}
    return (Several(parts=parts, dropout=0.0) if conditioning.names else label), names


def open_task(config: DictConfig, run: Run) -> Task | None:
    """Build the task with its images; None if there is none.

    Raises:
        ValueError: an image is missing, broken or does not fit, or a setting is given that the task does not use.
    """
    node = config.get("task")
    _check_task_options(node, run)
    if not any(type(config.get(key)) is int for key in ("image", "a", "b")) or node is None:
        reject_unused("the data are read for a held-out image alone, image=INDEX", "data")
    if node is None:
        return None
    if len(run.data_spec.shape) != 3 or run.data_spec.levels is None:
        raise ValueError(f"tasks work on images; the data of {run.folder} have shape {run.data_spec.shape}")
    arguments = set(annotated(node))
    if "method" in arguments and not instantiate.make(config.method).uses_solver:
        reject_unused("the method provides its own solver", "solver")
    settings = OmegaConf.to_container(node, resolve=True)
    assert isinstance(settings, dict)
    given: dict[str, Any] = {"event": run.event}
    if run.codec.of_latents and "method" in arguments and "mask" not in arguments:
        raise ValueError(
            f"the task measures pixels, and {run.folder} is a model of latents, for which there are inpaint, "
            "interpolate and vary"
        )
    if "mask" in arguments:
        if config.mask is None:
            raise ValueError("the task needs mask=FILE, an image that is white where the other is known")
        given["mask"] = run.codec.mask(_load(str(config.mask), [(1, *run.data_spec.shape[1:])], run)[0] > 127)
    images = [key for key in ("image", "a", "b") if key in arguments]
    instantiate.check(node, **given, **dict.fromkeys(images))
    rest = {key: value for key, value in settings.items() if key not in (*given, *images)}
    make = hydra.utils.instantiate({**rest, "_partial_": True})
    blank: Task = make(**given, **dict.fromkeys(images, torch.zeros(1, *run.event)))
    shapes = [run.data_spec.shape] if run.codec.of_latents else blank.shapes
    task: Task = make(**given, **{key: _image(key, config, shapes, run) for key in images})
    return task


def _around(model: Denoiser, node: DictConfig, config: DictConfig, run: Run) -> Denoiser:
    """Wrap the model by a guidance, with the further models that it needs."""
    name = node._target_.rpartition(".")[2]
    needs = _requirements(node)
    given: dict[str, Any] = {}
    conditioning = run.conditioning
    if needs.conditional_model and not conditioning.names:
        raise ValueError(
            f"{name} needs a run trained with conditions, such as conditioning=label; {run.folder} was trained without"
        )
    passed = bool(needs.label_argument and node.get(needs.label_argument, False))
    if passed and "label" not in conditioning.names:
        raise ValueError(
            f"guidance.{needs.label_argument}=true: {run.folder} was trained without labels; leave it out"
        )
    if "null" in annotated(node):
        given |= _of_cfg(node, config, run)
    dropped = given.get("drop", conditioning.keys)
    if needs.unconditional_model and not passed and not all(map(conditioning.drops, dropped)):
        what = " and ".join(PLURALS.get(name, name) for name in conditioning.names)
        raise ValueError(
            f"{name} needs predictions without {what}; {run.folder} was trained with conditioning.dropout=0, "
            f"always with {what}: train one with conditioning.dropout=0.1"
            + (
                f", or pass it the label with guidance.{needs.label_argument}=true"
                if needs.label_argument
                else ""
            )
        )
    if needs.weak_model:
        given["weak"] = _load_weak_model(node.weak, config, run).denoiser
    if needs.data_range:
        given |= _range(node, run)
    if needs.classifier:
        given["classifier"] = load_classifier(Path(node.classifier), run)
    rest = {key: value for key, value in node.items() if key not in given}
    instantiate.check(node, **given)
    built: Denoiser = hydra.utils.instantiate(rest)(denoiser=model, **given)
    return built


def _load_weak_model(folder: str, config: DictConfig, run: Run) -> Run:
    """Load a weaker model of the same data."""
    weak = load_run(
        OmegaConf.create(
            {
                "run": folder,
                "checkpoint": None,
                **{key: config[key] for key in ("trust", "device", "precision", "parts")},
            }
        )
    )
    names = run.data.class_names or weak.data.class_names
    for what, found, expected in (
        ("data", weak.data_spec, run.data_spec),
        ("names of classes", weak.data.class_names or names, names),
        ("codec", *(run_reference.without_places(one.config.codec) for one in (weak, run))),
        ("conditioning", _inputs(weak), _inputs(run)),
    ):
        if found != expected:
            raise ValueError(
                f"the weak model in {folder} has other {what} than {run.folder}: {brief(found)}, not {brief(expected)}"
            )
    return weak


def _inputs(run: Run) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return keys and settings of the conditioning, which are equal where two networks take the same inputs."""
    return run.conditioning.keys, run.conditioning.stored()


def _of_cfg(node: DictConfig, config: DictConfig, run: Run) -> dict[str, Any]:
    """Return what classifier-free guidance drops, and the conditions in the place of the dropped ones.

    Raises:
        ValueError: the network has no such condition, or a negative one does not fit.
    """
    known = run.conditioning.keys
    chosen = node.get("drop") if "drop" in node else node.get("scales")
    drops = tuple(filter(run.conditioning.drops, known)) or known
    drop = drops if chosen is None else tuple(str(key) for key in chosen)
    unknown = [key for key in drop if key not in known]
    if unknown:
        raise ValueError(
            f"{node._target_.rpartition('.')[2]} drops {', '.join(unknown)}; the network of {run.folder} is given "
            f"{', '.join(known) or 'nothing'}"
        )
    negative = typed_conditions(config, {f"not_{name}" for name in CONDITIONS})
    typed = {name.removeprefix("not_"): value for name, value in negative.items()}
    conditioning = run.conditioning
    if typed and "image" in known and not conditioning.drops("image"):
        images = typed_conditions(config, {"image", "mask"})  # the same image beside both texts
        conditioning = conditioning if images else conditioning.of(typed)  # the stage before draws it
        typed = {**images, **typed}
    null = {
        **run.conditioning.omitted(1),
        **(conditioning.prompt(typed, 1, class_names=run.data.class_names) if typed else {}),
    }
    null = {key: value.to(run.device) for key, value in null.items()}
    together = {key: run.conditioning.together(key) for key in drop}
    if "drop" in node:
        own = {} if run.config.get("sampling") is None else {"output": run.denoiser.parametrization}
        return {
            **own,
            "null": null,
            "drop": tuple(dict.fromkeys(key for keys in together.values() for key in keys)),
        }
    return {"null": null, "together": together}


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
    """Return number and names of the classes of the run's data; without labels, those of the guiding classifier."""
    node = config.get("guidance")
    if run.data_spec.classes or not _requirements(node).classifier:
        return run.data_spec.classes, run.data.class_names
    return classes_of(Path(node.classifier))


def _requirements(node: DictConfig | None) -> Requirements:
    """Return what the class of a guidance declares; nothing without one."""
    target = None if node is None else import_object(node._target_)
    found: Requirements = getattr(target, "requires", Requirements())
    return found


def supports_unconditional(run: Run) -> bool:
    """Return whether the network was trained to predict without conditions too."""
    return all(map(run.conditioning.drops, run.conditioning.keys))


def _check_task_options(node: DictConfig | None, run: Run) -> None:
    """Raise ValueError for settings of tasks that neither this one nor the network uses."""
    used = set(run.conditioning.names) if node is None else set(annotated(node))
    instead = (
        "no task is chosen; choose one, such as task=inpaint" if node is None else "the task does not use it"
    )
    reject_unused(instead, *(key for key in TASK_OPTIONS if key not in used))


def _image(key: str, config: DictConfig, shapes: Sequence[Shape], run: Run) -> Tensor:
    """Load the image of a file, or a held-out one by its index, in model space with shape (1, *event)."""
    return run.codec.encode(load_levels(key, config, shapes, run).unsqueeze(0)).to(run.device)


def load_levels(key: str, config: DictConfig, shapes: Sequence[Shape], run: Run) -> Tensor:
    """Load the image of a file, or a held-out one by its index, in levels of the data.

    Arguments:
        key: option of the command that names it.
        config: the configuration of the command.
        shapes: shapes that it may have.
        run: the run.

    Raises:
        ValueError: it is missing, broken, or has another shape.
    """
    value = config[key]
    if value is None:
        raise ValueError(f"the task needs {key}=FILE, or {key}=0, 1, ... for an image held out of training")
    if isinstance(value, ListConfig):
        raise ValueError(f"{key}={list(value)}: the task takes one image; give one file, or one index")
    if isinstance(value, int):
        images = open_data(run, moved_data(config)).test.values
        if not 0 <= value < len(images):
            raise ValueError(f"{key}={value}: the held-out images of {run.folder} are 0 to {len(images) - 1}")
        levels: Tensor = images[value]
        return levels
    if run.data_spec.levels is None:
        raise ValueError(f"{key}={value}: the data of {run.folder} are no images of levels")
    return torch.round(_load(value, shapes, run).double() * (run.data_spec.levels - 1) / 255)


def _load(path: str, shapes: Sequence[Shape], run: Run) -> Tensor:
    """Load the image of a file, composed with the background of the run's data where it is transparent."""
    data = run.config.get("data") or {}
    return load_image(Path(path), *shapes, background=data.get("background", "white"))
