"""Generate samples from a run: ``python -m sde_gen.sample run=runs/... solver=dpm_solver_pp steps=20``."""

import hashlib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sde_gen.cli import build, console, threads, tuning
from sde_gen.cli.app import as_list, door, given, refuse, require_int
from sde_gen.cli.generation import GeneratedSamples, SampleGeneration, coupling
from sde_gen.cli.guidance_setup import apply_guidance, choose_labels, class_names, open_task
from sde_gen.cli.overrides import folder_name
from sde_gen.cli.run import Run, load_run
from sde_gen.data.codec import OutOfRange
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue
from sde_gen.inverse.task import Task, psnr
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook, Trajectory
from sde_gen.training.compile import Compiler
from sde_gen.utils.atomic import sweep, writing
from sde_gen.utils.images import attempt, save_gif, save_panels, save_rows, save_samples

SHOWN = 8
"""Results of a task in its picture, at most."""

LISTED = 20
"""Classes in the table, at most."""

SETTINGS = "solver", "grid", "steps", "sampler.solver", "sampler.grid", "sampler.steps"
"""What a file of ``benchmark tune=true`` decides over."""

NAMED = {
    "run",
    "out",
    "device",
    "threads",
    "batch_size",
    "trust",
    "film",
    "strip",
    *SETTINGS[:3],
    "settings",
    "n",
    "seed",
}
"""What a folder is named by in any case, and what changes no sample."""


@door("sample")
def main(config: DictConfig) -> None:
    """Sample, and leave a picture, the numbers and, if asked, a film in the output folder."""
    if config.settings is not None:
        _use(config)
    require_int(config, "steps")
    if config.strip > config.steps + 1:
        raise ValueError(
            f"strip={config.strip}: {config.steps} steps have {config.steps + 1} moments to show"
        )
    crew = WorkQueue.init()
    try:
        with crew.propagate_failure():
            run = load_run(config)
            with threads.in_use(config, run) as said:
                _sample(config, crew, run, said)
    except PeerFailed:
        raise SystemExit(2) from None  # the process that failed has said why


def _sample(config: DictConfig, crew: WorkQueue, run: Run, said: str) -> None:
    """What this process does of the work; the leader saves and tells."""
    model, labels, task = apply_guidance(config, run), choose_labels(config, run), open_task(config, run)
    if task is not None and (config.n > config.batch_size or config.strip):
        raise ValueError("a task draws its n samples in one batch of at most batch_size, and leaves no strip")
    if task is not None and crew.size > 1:
        raise ValueError(
            f"a task draws its samples in one batch, which {crew.size} processes cannot share; "
            "start one without torchrun"
        )
    if task is not None:
        refuse("a task draws one batch, for which compiling does not pay", "compile")
    sampler: Sampler = build.make(config.sampler)
    compiler: Compiler = build.make(config.compile)
    times = sampler.grid(run.denoiser.sde, sampler.steps)
    sampler.solver.check(run.denoiser, times)
    seeds = spawn_seeds(config.seed, config.n)
    make = sampler if task is None else partial(task, sampler)

    def draw(rows: range, hooks: list[Hook]) -> Tensor:
        part = slice(rows.start, rows.stop)
        denoiser = _told(model, None if labels is None else labels[part], run)
        noise, shape = PerSample(seeds[part]), (len(rows), *run.data_spec.shape)
        with compiler.no_recompile():  # the last batch, or one that samples have left, is not worth minutes
            return make(denoiser, shape, noise=noise, hooks=hooks, device=run.device)

    @torch.no_grad()
    def call(size: int) -> None:
        t = torch.tensor(run.denoiser.sde.t_min, dtype=torch.float64)
        denoiser = _told(model, None if labels is None else labels[:size], run)
        denoiser(torch.zeros(size, *run.data_spec.shape, device=run.device), t)

    if config.out is None:
        config.out = _folder(config)
        for folder in Path(config.out).parent.glob("*/"):  # a killed call may have left many samples aside
            sweep(folder)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    drawn = SampleGeneration(
        draw=draw,
        net=run.denoiser.net,
        n=config.n,
        batch_size=config.batch_size,
        folder=Path(config.out),
        crew=crew,
        record_trajectory=config.film or config.strip > 0,
        splittable=task is None and not sampler.solver.batch_coupled,
        on_resize=lambda size: compiler.compile(run.denoiser.net, partial(call, size)),
    ).samples()
    if drawn is not None:
        outside = OutOfRange.of(drawn.x, run.codec, sigma=float(run.denoiser.sde.sigma(times[-1])))
        _save(
            config,
            run,
            task,
            drawn,
            partial(_strip, config, run, model, drawn.trajectory, labels),
            {
                **({"threads": said} if run.device.type == "cpu" else {}),
                **_classes(labels, class_names(config, run)),
                **({} if outside is None else {"out of range": str(outside)}),
            },
        )
        if outside is not None and outside.notable:
            warnings.warn(outside.advice, stacklevel=2)
        coupled = coupling(type(sampler.solver).__name__, config.n, config.batch_size)
        if sampler.solver.batch_coupled and coupled:
            console.console.print(f"- {coupled}", soft_wrap=True)


def _use(config: DictConfig) -> None:
    """Take solver, grid and steps from a file of ``benchmark tune=true``."""
    refuse(f"settings={config.settings} says solver, grid and steps", *SETTINGS)
    try:
        found = tuning.settings(Path(config.settings), tuple(as_list(config.trust)))
    except yaml.YAMLError as error:
        raise ValueError(f"{config.settings} is no yaml; benchmark tune=true writes such files") from error
    with open_dict(config):
        config.solver, config.grid, config.steps = found


def _folder(config: DictConfig) -> str:
    """A folder named by all that decides over the samples, so that no call overwrites what another left."""
    chosen = HydraConfig.get().runtime.choices
    what = f"{chosen['solver']}-{chosen['grid']}-{config.steps}"
    if config.settings is not None:
        path = Path(config.settings)
        what = f"{path.stem}-{_digest(path.read_bytes())}"
    rest = sorted(word for key, word in given().items() if key not in NAMED)
    name = folder_name([what, f"n{config.n}", f"seed{config.seed}", *rest])
    return f"{config.run}/samples/{name}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _told(model: Denoiser, labels: Tensor | None, run: Run) -> Denoiser:
    return model if labels is None else model.bind(label=labels.to(run.device))


@torch.no_grad()
def _strip(
    config: DictConfig, run: Run, model: Denoiser, trajectory: Trajectory, labels: Tensor | None, path: Path
) -> None:
    """Two rows for each of the first samples: the sample on its way, and what was predicted of its end.

    Of vectors, whose samples make a picture together, there are two rows for the whole batch.
    """
    last = len(trajectory.times) - 1
    moments = sorted({round(i * last / max(config.strip - 1, 1)) for i in range(config.strip)})
    if len(run.data_spec.shape) == 1:
        _strip_of_clouds(run, model, trajectory, labels, moments, path)
        return
    rows: list[Tensor] = []
    for i in range(min(4, len(trajectory.states[0]))):
        x_t = torch.cat([trajectory.states[moment][i : i + 1] for moment in moments]).to(run.device)
        t = torch.tensor([trajectory.times[moment] for moment in moments], dtype=torch.float64)
        label = None if labels is None else labels[i].repeat(len(moments))
        prediction = _told(model, label, run)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)  # VE's noise would only show its range
        rows += [run.codec.decode_image(x_t / scale), run.codec.decode_image(prediction.x0)]
    save_rows(rows, path)


def _strip_of_clouds(
    run: Run,
    model: Denoiser,
    trajectory: Trajectory,
    labels: Tensor | None,
    moments: list[int],
    path: Path,
) -> None:
    states, ends = [], []
    for moment in moments:
        x_t = trajectory.states[moment].to(run.device)
        t = torch.tensor(trajectory.times[moment], dtype=torch.float64)
        prediction = _told(model, None if labels is None else labels[: len(x_t)], run)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)
        states.append(run.codec.decode_image(x_t / scale))
        ends.append(run.codec.decode_image(prediction.x0))
    save_panels([states, ends], path)


def _classes(labels: Tensor | None, names: tuple[str, ...]) -> dict[str, str]:
    """The classes of the samples with their names, for people; nothing without labels."""
    if labels is None:
        return {}
    numbers = list(dict.fromkeys(labels.tolist()))
    listing = ", ".join(f"{one} ({names[one]})" if names else f"{one}" for one in numbers[:LISTED])
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return {"classes": listing + more + (", in turn" if len(numbers) > 1 else "")}


def _save(
    config: DictConfig,
    run: Run,
    task: Task | None,
    drawn: GeneratedSamples,
    save_strip: Callable[[Path], None],
    details: dict[str, str],
) -> None:
    """Leave the numbers, then what can be made of pictures, and tell."""
    out, x = Path(config.out), drawn.x
    numbers = out / "samples.npz"
    arrays: dict[str, Any] = {"model_space": x.numpy(), "data": run.codec.decode(x).numpy()}
    if task is not None:
        arrays["given"] = torch.cat([one.cpu() for one in task.given]).numpy()
    with writing(numbers) as file:
        np.savez_compressed(file, **arrays)
    pictures: dict[str, tuple[Path, Callable[[Path], None]]] = {
        "picture": (out / "samples.png", partial(_picture, run, task, x)),
    }
    if config.film:
        pictures["film"] = out / "film.gif", partial(_film, run, drawn)
    if config.strip:
        pictures["strip"] = out / "strip.png", save_strip
    made = {what: str(path) for what, (path, save) in pictures.items() if attempt(partial(save, path), path)}
    console.print_table(
        f"samples of {run.folder}",
        {
            "images": f"{config.n}",
            **details,
            "network evaluations per image": f"{drawn.nfe:g}",
            "seconds": f"{drawn.seconds:.2f}",
            "images/s": f"{config.n / drawn.seconds:.2f}",
            "trained on": f"{run.images:,} images",
            **({} if task is None else _quality(run, task, x)),
            "numbers": str(numbers),
            **made,
        },
    )


def _picture(run: Run, task: Task | None, x: Tensor, path: Path) -> None:
    if task is None:
        save_samples(run.codec.decode_image(x), path)
    else:
        save_rows([_row(run, task, x)], path)


def _film(run: Run, drawn: GeneratedSamples, path: Path) -> None:
    """The way of the first batch; its last frame is without what noise is left."""
    states = drawn.trajectory.states
    save_gif([run.codec.decode_image(frame) for frame in [*states, drawn.x[: len(states[0])]]], path)


def _row(run: Run, task: Task, x: Tensor) -> Tensor:
    """What was given, results, and for random ones twice their standard deviation, in levels of 255."""
    decode = run.codec.decode_image
    images = decode(x)
    row = [*(decode(one.cpu()) for one in task.given), images[:SHOWN]]
    if task.draws and len(x) > 1:
        row.append((2 * images.float().std(0, keepdim=True)).clamp(max=255).to(torch.uint8))
    return torch.cat(row)


def _quality(run: Run, task: Task, x: Tensor) -> dict[str, str]:
    """Peak signal-to-noise ratio of the results and of their mean, where the truth is known."""
    if task.truth is None:
        return {}
    images, truth = run.codec.decode_image(x), run.codec.decode_image(task.truth.cpu())
    found = psnr(images, truth)
    error = f" +- {float(found.std() / len(x) ** 0.5):.2f}" if len(x) > 1 else ""
    mean = psnr(images.double().mean(0, keepdim=True), truth)
    return {"PSNR": f"{float(found.mean()):.2f}{error} dB", "PSNR of the mean": f"{float(mean):.2f} dB"}
