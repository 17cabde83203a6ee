"""Generate samples from a run: ``python -m sde_gen.sample run=runs/... solver=dpm_solver_pp steps=20``."""

import hashlib
import warnings
from functools import partial
from pathlib import Path

import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sde_gen.checkpoint.manifest import brief
from sde_gen.cli import console, instantiate, threads, tuning
from sde_gen.cli.app import Command, as_list, cli_overrides, reject_unused, require_int
from sde_gen.cli.generation import SampleGeneration, coupling
from sde_gen.cli.guidance_setup import (
    CONDITIONS,
    class_names,
    typed_conditions,
)
from sde_gen.cli.override_syntax import folder_name
from sde_gen.cli.run import Run
from sde_gen.cli.run_defaults import take_task
from sde_gen.cli.sample_output import SampleOutput
from sde_gen.cli.stages import CascadeStage, open_stages
from sde_gen.cli.token_stage import TokenStage
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue
from sde_gen.inverse.task import Task
from sde_gen.noise import spawn_seeds
from sde_gen.solver.callbacks import EffectiveSampleSize, Hook
from sde_gen.training.compile import Compiler
from sde_gen.utils.atomic import sweep

MAX_CLASSES_LISTED = 20
"""Largest number of classes in the table."""

TUNED_OPTIONS = "solver", "grid", "steps", "sampler.solver", "sampler.grid", "sampler.steps"
"""Options that a file of ``benchmark tune=true`` sets."""

NOT_IN_SUFFIX = {
    "run",
    "out",
    "device",
    "threads",
    "batch_size",
    "trust",
    "parts",
    "gif",
    "format",
    "trajectory_frames",
    *TUNED_OPTIONS[:3],
    "settings",
    "n",
    "seed",
}
"""Options that always name the folder of samples, or change no sample."""


def sample(config: DictConfig) -> None:
    """Sample, and save a picture, the numbers and, on request, the trajectory in the output folder."""
    if config.settings is not None:
        _use(config)
    require_int(config, "steps")
    queue = WorkQueue.init()
    try:
        with queue.propagate_failure():
            stage = open_stages(config, HydraConfig.get().runtime.choices)
            if stage.run.of_codes:
                stage = TokenStage(stage.run, stage.config, stage.names)
            stage.check_options()
            take_task(stage.config, stage.run)
            if config.trajectory_frames > stage.config.steps + 1:
                raise ValueError(
                    f"trajectory_frames={config.trajectory_frames}: {stage.config.steps} steps have "
                    f"{stage.config.steps + 1} states to show"
                )
            with threads.in_use(stage.config, stage.run) as threads_used:
                _sample(stage, queue, threads_used)
    except PeerFailed:
        raise SystemExit(2) from None  # the process that failed has printed the reason


def _sample(stage: CascadeStage, queue: WorkQueue, threads_used: str) -> None:
    """Generate the share of this process; the main process saves and reports."""
    config, run = stage.config, stage.run
    task = stage.open_task()
    model, cond = stage.model, stage.cond
    _check_output(config, run, task, queue)
    sampler = stage.sampler
    compiler: Compiler = instantiate.make(config.compile)
    stage.check_solver()
    seeds = spawn_seeds(config.seed, config.n)
    make = sampler if task is None else task(sampler)
    effective = EffectiveSampleSize()

    def draw(index: range, hooks: list[Hook]) -> Tensor:
        with compiler.no_recompile():  # the last batch, or one that samples have left, is not worth minutes
            return stage.draw(index, seeds, [*hooks, effective], make)

    @torch.no_grad()
    def call(size: int) -> None:
        t = torch.tensor(run.denoiser.sde.t_min, dtype=torch.float64)
        denoiser = run.bind(_rows(cond, slice(size)), model)
        denoiser(torch.zeros(size, *run.event, device=run.device), t)

    if config.out is None:
        config.out = _folder(stage)
        for folder in Path(config.out).parent.glob("*/"):  # a killed call may have left temporary files
            sweep(folder)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    generated = SampleGeneration(
        draw=draw,
        nets=stage.nets,
        n=config.n,
        batch_size=config.batch_size,
        folder=Path(config.out),
        queue=queue,
        record_trajectory=config.gif or config.trajectory_frames > 0,
        splittable=task is None and not stage.batch_coupled,
        on_resize=lambda size: compiler.compile(run.denoiser.net, partial(call, size)),
    ).samples()
    if generated is None:
        return
    outside = stage.out_of_range(generated.x)
    details = {
        **({"threads": threads_used} if run.device.type == "cpu" else {}),
        **({"stages": ", ".join(str(one.folder) for one in stage.runs)} if stage.before else {}),
        **_classes(cond.get("label"), class_names(config, run)),
        **_texts(stage),
        **_particles(effective, config.n),
        **({} if outside is None else {"out of range": str(outside)}),
    }
    SampleOutput(config=config, run=run, task=task, model=model, cond=cond, generated=generated).write(
        details
    )
    if outside is not None and outside.notable:
        warnings.warn(outside.advice, stacklevel=2)
    coupled = stage.coupled_by and coupling(stage.coupled_by, config.n, config.batch_size)
    if coupled:
        console.console.print(f"- {coupled}", soft_wrap=True)


def _check_output(config: DictConfig, run: Run, task: Task | None, queue: WorkQueue) -> None:
    """Check the options of a task, and the format of the output.

    Raises:
        ValueError: a task has no such output, or the data are no images.
    """
    if task is not None:
        if config.n > config.batch_size or config.trajectory_frames:
            raise ValueError(
                "a task draws its n samples in one batch of at most batch_size, without trajectory_frames"
            )
        if queue.size > 1:
            raise ValueError(
                f"a task draws its samples in one batch, which {queue.size} processes cannot share; "
                "start one without torchrun"
            )
        reject_unused("a task draws one batch, for which compiling does not pay", "compile")
    if config.format == "png" and (len(run.data_spec.shape) != 3 or run.data_spec.shape[0] not in (1, 3)):
        raise ValueError(
            f"format=png needs images with 1 or 3 channels; the data have shape {run.data_spec.shape}: leave it out"
        )


def _use(config: DictConfig) -> None:
    """Set solver, grid and steps by a file of ``benchmark tune=true``."""
    reject_unused(f"settings={config.settings} sets solver, grid and steps", *TUNED_OPTIONS)
    try:
        found = tuning.settings(Path(config.settings), tuple(as_list(config.trust)))
    except yaml.YAMLError as error:
        raise ValueError(
            f"{config.settings} is not a YAML file; benchmark tune=true writes such files"
        ) from error
    with open_dict(config):
        config.solver, config.grid, config.steps = found


def _folder(stage: CascadeStage) -> str:
    """Return a folder named by all options on which the samples depend, so that no call overwrites other samples."""
    config = stage.config
    what = stage.what
    if config.settings is not None:
        path = Path(config.settings)
        what = f"{path.stem}-{_digest(path.read_bytes())}"
    rest = sorted(word for key, word in cli_overrides().items() if key not in NOT_IN_SUFFIX)
    rest += [f"after-{run.folder.name}-{run.sha256[:8]}" for run in stage.runs[:-1]]
    name = folder_name([what, f"n{config.n}", f"seed{config.seed}", *rest])
    return f"{config.run}/samples/{name}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _rows(cond: dict[str, Tensor], index: slice) -> dict[str, Tensor]:
    return {key: value[index] for key, value in cond.items()}


def _texts(stage: CascadeStage) -> dict[str, str]:
    """Return the texts of the samples for the table, or that the samples have no conditions."""
    config, run = stage.config, stage.run
    typed = typed_conditions(config, {"text"}).get("text", [])
    listed = as_list(config.text) if typed else []
    if listed and "text" in run.conditioning.names:
        return {"text": brief("; ".join(map(str, listed))) + (", in turn" if len(listed) > 1 else "")}
    if stage.before is not None:
        return _texts(stage.before)
    if run.conditioning.names and not typed_conditions(config, CONDITIONS) and not stage.cond:
        return {"conditions": "none, the unconditional model"}
    return {}


def _classes(labels: Tensor | None, names: tuple[str, ...]) -> dict[str, str]:
    """Return the classes of the samples with their names for the table; nothing without labels."""
    if labels is None:
        return {}
    numbers = list(dict.fromkeys(labels.tolist()))
    listing = ", ".join(
        f"{label} ({names[label]})" if names else f"{label}" for label in numbers[:MAX_CLASSES_LISTED]
    )
    rest = f" and {len(numbers) - MAX_CLASSES_LISTED} more" if len(numbers) > MAX_CLASSES_LISTED else ""
    return {"classes": listing + rest + (", in turn" if len(numbers) > 1 else "")}


def _particles(effective: EffectiveSampleSize, n: int) -> dict[str, str]:
    """Return the effective sample size for the table; nothing without particles. Warn where it is small."""
    size = effective.smallest
    if size is None:
        return {}
    if EffectiveSampleSize.collapsed(size, n):
        warnings.warn(
            f"the effective sample size is {size:.1f} of {n} particles in the worst step: the results descend from few "
            "particles, and are no samples of the posterior; give a larger n (and batch_size), more steps, or a "
            "larger method.solver.gamma",
            stacklevel=2,
        )
    return {"effective sample size": f"{size:.1f} of {n}, in the worst step"}


main = Command(name="sample", function=sample)
