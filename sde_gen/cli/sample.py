"""Generate samples from a run: ``python -m sde_gen.sample run=runs/... solver=dpm_solver_pp steps=20``."""

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from sde_gen.checkpoint.manifest import brief
from sde_gen.cli import build, console, reports, threads, tuning
from sde_gen.cli.app import Command, as_list, cli_overrides, reject_unused, require_int
from sde_gen.cli.generation import GeneratedSamples, SampleGeneration, coupling
from sde_gen.cli.guidance_setup import (
    CONDITIONS,
    apply_guidance,
    choose_conditions,
    class_names,
    open_task,
    typed_conditions,
)
from sde_gen.cli.overrides import folder_name
from sde_gen.cli.run import Run, load_run
from sde_gen.data.codec import OutOfRange
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue
from sde_gen.inverse.task import Task, psnr
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import EffectiveSampleSize, Hook, Trajectory
from sde_gen.training.compile import Compiler
from sde_gen.utils.atomic import sweep, write, writing
from sde_gen.utils.images import attempt, save_folder, save_gif, save_panels, save_rows, save_samples

MAX_RESULTS_SHOWN = 8
"""Largest number of results of a task in its picture."""

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
    "gif",
    "format",
    "trajectory_frames",
    *TUNED_OPTIONS[:3],
    "settings",
    "n",
    "seed",
}
"""Options that always name the folder of samples, or change no sample."""

NOT_IN_ABOUT = {"data", "grid", "n", "out", "seed", "solver", "steps", "trust"}
"""Options that samples.json holds elsewhere, or that say where something lies."""

OF_TASKS = {"factor", "method", "noise_std"}
"""Options that have no effect without a task."""


def sample(config: DictConfig) -> None:
    """Sample, and save a picture, the numbers and, on request, the trajectory in the output folder."""
    if config.settings is not None:
        _use(config)
    require_int(config, "steps")
    if config.trajectory_frames > config.steps + 1:
        raise ValueError(
            f"trajectory_frames={config.trajectory_frames}: {config.steps} steps have {config.steps + 1} states to show"
        )
    queue = WorkQueue.init()
    try:
        with queue.propagate_failure():
            run = load_run(config)
            with threads.in_use(config, run) as threads_used:
                _sample(config, queue, run, threads_used)
    except PeerFailed:
        raise SystemExit(2) from None  # the process that failed has printed the reason


def _sample(config: DictConfig, queue: WorkQueue, run: Run, threads_used: str) -> None:
    """Generate the share of this process; the main process saves and reports."""
    task = open_task(config, run)
    model, cond = apply_guidance(config, run), choose_conditions(config, run)
    if task is not None and (config.n > config.batch_size or config.trajectory_frames):
        raise ValueError(
            "a task draws its n samples in one batch of at most batch_size, without trajectory_frames"
        )
    if task is not None and queue.size > 1:
        raise ValueError(
            f"a task draws its samples in one batch, which {queue.size} processes cannot share; "
            "start one without torchrun"
        )
    if task is not None:
        reject_unused("a task draws one batch, for which compiling does not pay", "compile")
    if config.format == "png" and (len(run.data_spec.shape) != 3 or run.data_spec.shape[0] not in (1, 3)):
        raise ValueError(
            f"format=png needs images with 1 or 3 channels; the data have shape {run.data_spec.shape}: leave it out"
        )
    sampler: Sampler = build.make(config.sampler)
    compiler: Compiler = build.make(config.compile)
    times = sampler.grid(run.denoiser.sde, sampler.steps)
    sampler.solver.check(run.denoiser, times)
    seeds = spawn_seeds(config.seed, config.n)
    make = sampler if task is None else task(sampler)
    effective = EffectiveSampleSize()

    def draw(index: range, hooks: list[Hook]) -> Tensor:
        part = slice(index.start, index.stop)
        denoiser = run.bind(_rows(cond, part), model)
        noise, shape = PerSample(seeds[part]), (len(index), *run.data_spec.shape)
        with compiler.no_recompile():  # the last batch, or one that samples have left, is not worth minutes
            return make(denoiser, shape, noise=noise, hooks=[*hooks, effective], device=run.device)

    @torch.no_grad()
    def call(size: int) -> None:
        t = torch.tensor(run.denoiser.sde.t_min, dtype=torch.float64)
        denoiser = run.bind(_rows(cond, slice(size)), model)
        denoiser(torch.zeros(size, *run.data_spec.shape, device=run.device), t)

    if config.out is None:
        config.out = _folder(config)
        for folder in Path(config.out).parent.glob("*/"):  # a killed call may have left temporary files
            sweep(folder)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    generated = SampleGeneration(
        draw=draw,
        net=run.denoiser.net,
        n=config.n,
        batch_size=config.batch_size,
        folder=Path(config.out),
        queue=queue,
        record_trajectory=config.gif or config.trajectory_frames > 0,
        splittable=task is None and not sampler.solver.batch_coupled,
        on_resize=lambda size: compiler.compile(run.denoiser.net, partial(call, size)),
    ).samples()
    if generated is not None:
        outside = OutOfRange.of(generated.x, run.codec, sigma=float(run.denoiser.sde.sigma(times[-1])))
        _save(
            config,
            run,
            task,
            generated,
            partial(_frames, config, run, model, generated.trajectory, cond),
            {
                **({"threads": threads_used} if run.device.type == "cpu" else {}),
                **_classes(cond.get("label"), class_names(config, run)),
                **_texts(config, run, cond),
                **_particles(effective, config.n),
                **({} if outside is None else {"out of range": str(outside)}),
            },
        )
        if outside is not None and outside.notable:
            warnings.warn(outside.advice, stacklevel=2)
        coupled = coupling(type(sampler.solver).__name__, config.n, config.batch_size)
        if sampler.solver.batch_coupled and coupled:
            console.console.print(f"- {coupled}", soft_wrap=True)


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


def _folder(config: DictConfig) -> str:
    """Return a folder named by all options on which the samples depend, so that no call overwrites other samples."""
    chosen = HydraConfig.get().runtime.choices
    what = f"{chosen['solver']}-{chosen['grid']}-{config.steps}"
    if config.settings is not None:
        path = Path(config.settings)
        what = f"{path.stem}-{_digest(path.read_bytes())}"
    rest = sorted(word for key, word in cli_overrides().items() if key not in NOT_IN_SUFFIX)
    name = folder_name([what, f"n{config.n}", f"seed{config.seed}", *rest])
    return f"{config.run}/samples/{name}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _rows(cond: dict[str, Tensor], index: slice) -> dict[str, Tensor]:
    return {key: value[index] for key, value in cond.items()}


@torch.no_grad()
def _frames(
    config: DictConfig,
    run: Run,
    model: Denoiser,
    trajectory: Trajectory,
    cond: dict[str, Tensor],
    path: Path,
) -> None:
    """Save two rows for each of the first samples: intermediate states, and the clean samples predicted from them.

    Vectors, whose samples make one picture, get two rows for the whole batch.
    """
    last = len(trajectory.times) - 1
    indices = sorted(
        {round(i * last / max(config.trajectory_frames - 1, 1)) for i in range(config.trajectory_frames)}
    )
    if len(run.data_spec.shape) == 1:
        _frames_of_point_clouds(run, model, trajectory, cond, indices, path)
        return
    rows: list[Tensor] = []
    for i in range(min(4, len(trajectory.states[0]))):
        x_t = torch.cat([trajectory.states[index][i : i + 1] for index in indices]).to(run.device)
        t = torch.tensor([trajectory.times[index] for index in indices], dtype=torch.float64)
        repeated = {key: value[[i] * len(indices)] for key, value in cond.items()}
        prediction = run.bind(repeated, model)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)  # VE's noise would only show its range
        rows += [run.codec.decode_image(x_t / scale), run.codec.decode_image(prediction.x0)]
    save_rows(rows, path)


def _frames_of_point_clouds(
    run: Run,
    model: Denoiser,
    trajectory: Trajectory,
    cond: dict[str, Tensor],
    indices: list[int],
    path: Path,
) -> None:
    states, ends = [], []
    for index in indices:
        x_t = trajectory.states[index].to(run.device)
        t = torch.tensor(trajectory.times[index], dtype=torch.float64)
        prediction = run.bind(_rows(cond, slice(len(x_t))), model)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)
        states.append(run.codec.decode_image(x_t / scale))
        ends.append(run.codec.decode_image(prediction.x0))
    save_panels([states, ends], path)


def _texts(config: DictConfig, run: Run, cond: dict[str, Tensor]) -> dict[str, str]:
    """Return the texts of the samples for the table, or that the samples have no conditions."""
    if run.conditioning.names and not typed_conditions(config, CONDITIONS) and not cond:
        return {"conditions": "none, the unconditional model"}
    text = typed_conditions(config, {"text"}).get("text", [])
    listed = as_list(config.text) if text else []
    if not listed or "text" not in run.conditioning.names:
        return {}
    return {"text": brief("; ".join(map(str, listed))) + (", in turn" if len(listed) > 1 else "")}


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


def _save(
    config: DictConfig,
    run: Run,
    task: Task | None,
    generated: GeneratedSamples,
    save_frames: Callable[[Path], None],
    details: dict[str, str],
) -> None:
    """Save the numbers, then the pictures, and report."""
    out, x = Path(config.out), generated.x
    numbers = out / "samples.npz"
    arrays: dict[str, Any] = {"model_space": x.numpy(), "data": run.codec.decode(x).numpy()}
    if task is not None:
        arrays["given"] = torch.cat([image.cpu() for image in task.inputs]).numpy()
    with writing(numbers) as file:
        np.savez_compressed(file, **arrays)
    folders = {"images": out / "images"} if config.format == "png" else {}
    for folder in folders.values():
        save_folder(run.codec.decode_image(x), folder)
    quality = {} if task is None else _quality(run, task, x)
    _save_about(config, run, generated, {**details, **quality})
    pictures: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "picture": (out / "samples.png", partial(_picture, run, task, x)),
    }
    if config.gif:
        pictures["animation"] = out / "trajectory.gif", partial(_animation, run, generated)
    if config.trajectory_frames:
        pictures["trajectory"] = out / "trajectory.png", save_frames
    made = {what: path for what, (path, save) in pictures.items() if attempt(partial(save, path), path)}
    console.print_table(
        f"samples of {run.folder}",
        {
            "images": f"{config.n}",
            **details,
            "network evaluations per image": f"{generated.nfe:g}",
            "seconds": f"{generated.seconds:.2f}",
            "images/s": f"{config.n / generated.seconds:.2f}",
            "trained on": f"{run.images:,} images",
            **quality,
        },
        {"numbers": numbers, **folders, **made},
    )
    reports.after_samples(out, run.folder)


def _save_about(config: DictConfig, run: Run, generated: GeneratedSamples, details: dict[str, str]) -> None:
    """Save how the samples were drawn, and what that cost."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    about = {
        "n": config.n,
        "seed": config.seed,
        "nfe": generated.nfe,
        "seconds": generated.seconds,
        "images_per_second": config.n / generated.seconds,
        "trained_on_images": run.images,
        "command": reports.command_line("sample"),
        "details": details,
        "settings": {
            key: value
            for key, value in settings.items()
            if value is not None and key not in NOT_IN_ABOUT and (config.get("task") or key not in OF_TASKS)
        },
        "versions": build.versions(),
    }
    write(Path(config.out) / "samples.json", json.dumps(about, indent=1))


def _picture(run: Run, task: Task | None, x: Tensor, path: Path) -> None:
    if task is None:
        save_samples(run.codec.decode_image(x), path)
    else:
        save_rows([_row(run, task, x)], path)


def _animation(run: Run, generated: GeneratedSamples, path: Path) -> None:
    """Save the trajectory of the first batch; its last frame is denoised."""
    states = generated.trajectory.states
    save_gif([run.codec.decode_image(frame) for frame in [*states, generated.x[: len(states[0])]]], path)


def _row(run: Run, task: Task, x: Tensor) -> Tensor:
    """Return inputs, results, and twice the standard deviation of random results, in levels of 255."""
    decode = run.codec.decode_image
    images = decode(x)
    row = [*(decode(image.cpu()) for image in task.inputs), images[:MAX_RESULTS_SHOWN]]
    if task.is_random and len(x) > 1:
        row.append((2 * images.float().std(0, keepdim=True)).clamp(max=255).to(torch.uint8))
    return torch.cat(row)


def _quality(run: Run, task: Task, x: Tensor) -> dict[str, str]:
    """Return the peak signal-to-noise ratio of the results and of their mean, where the reference is known."""
    if task.reference is None:
        return {}
    images, truth = run.codec.decode_image(x), run.codec.decode_image(task.reference.cpu())
    found = psnr(images, truth)
    error = f" +- {float(found.std() / len(x) ** 0.5):.2f}" if len(x) > 1 else ""
    mean = psnr(images.double().mean(0, keepdim=True), truth)
    return {"PSNR": f"{float(found.mean()):.2f}{error} dB", "PSNR of the mean": f"{float(mean):.2f} dB"}


main = Command(name="sample", function=sample)
