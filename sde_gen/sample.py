"""Generate samples from a run: ``python -m sde_gen.sample run=runs/... solver=dpm_solver_pp steps=20``."""

import hashlib
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rich.progress
import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sde_gen import show, tuning
from sde_gen.denoiser import Denoiser
from sde_gen.door import check_counts, check_switches, door, given, refuse, several
from sde_gen.hooks import Hook, NFECounter, Progress, StopOnNaN, Trajectory
from sde_gen.noise import PerSample, sample_seeds
from sde_gen.picture import save_film, save_rows, save_samples
from sde_gen.run import Run, open_run
from sde_gen.sampler import Sampler
from sde_gen.steering import choose_labels, guided, open_task
from sde_gen.task import Task, psnr

SHOWN = 8
"""Results of a task in its picture, at most."""

SETTINGS = "solver", "grid", "steps", "sampler.solver", "sampler.grid", "sampler.steps"
"""What a file of ``benchmark tune=true`` decides over."""

NAMED = {
    "run",
    "out",
    "device",
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

LONGEST = 100
"""Letters of a folder's name before the rest becomes a hash; file systems take 255."""


@door("sample")
def main(config: DictConfig) -> None:
    """Sample, and leave a picture, the numbers and, if asked, a film in the output folder."""
    if config.settings is not None:
        _use(config)
    check_counts(config, "n", "steps", "batch_size")
    check_counts(config, "seed", "strip", least=0)
    check_switches(config, "film")
    if config.strip > config.steps + 1:
        raise ValueError(
            f"strip={config.strip}: {config.steps} steps have {config.steps + 1} moments to show"
        )
    run = open_run(config)
    model, labels, task = guided(config, run), choose_labels(config, run), open_task(config, run)
    if task is not None and (config.n > config.batch_size or config.strip):
        raise ValueError("a task draws its n samples in one batch of at most batch_size, and leaves no strip")
    sampler: Sampler = instantiate(config.sampler)
    sampler.solver.check(run.denoiser, sampler.grid(run.denoiser.sde, sampler.steps))
    seeds = sample_seeds(config.seed, config.n)
    draw = sampler if task is None else partial(task, sampler)
    if config.out is None:
        config.out = _folder(config)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    trajectory = Trajectory()
    batches = [seeds[start : start + config.batch_size] for start in range(0, config.n, config.batch_size)]
    with show.progress() as bar, NFECounter(run.denoiser.net) as counter:
        begin = time.perf_counter()
        samples = []
        for index, batch in enumerate(batches):
            row = bar.add_task(f"batch {index + 1} of {len(batches)}", total=config.steps, note="")
            hooks: list[Hook] = [StopOnNaN(), Progress(partial(_advance, bar, row))]
            if (config.film or config.strip) and index == 0:
                hooks.append(trajectory)
            chosen = None if labels is None else labels[index * config.batch_size :][: len(batch)]
            denoiser, shape = _told(model, chosen, run), (len(batch), *run.facts.shape)
            x = draw(denoiser, shape, noise=PerSample(batch), hooks=hooks, device=run.device)
            samples.append(x.cpu())
        seconds = time.perf_counter() - begin
    if config.strip:
        _strip(config, run, model, trajectory, labels)
    _save(config, run, task, torch.cat(samples), trajectory, counter.samples / config.n, seconds)


def _use(config: DictConfig) -> None:
    """Take solver, grid and steps from a file of ``benchmark tune=true``."""
    refuse(f"settings={config.settings} says solver, grid and steps", *SETTINGS)
    try:
        found = tuning.settings(Path(config.settings), tuple(several(config.trust)))
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
    whole = "-".join([what, f"n{config.n}", f"seed{config.seed}", *rest])
    name = re.sub(r"[^\w.=,+-]+", "_", whole, flags=re.ASCII)
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{_digest(whole.encode())}"
    return f"{config.run}/samples/{name}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _advance(bar: rich.progress.Progress, task: rich.progress.TaskID, done: int, steps: int) -> None:
    bar.update(task, completed=done, total=steps)


def _told(model: Denoiser, labels: Tensor | None, run: Run) -> Denoiser:
    return model if labels is None else model.bind(label=labels.to(run.device))


@torch.no_grad()
def _strip(
    config: DictConfig, run: Run, model: Denoiser, trajectory: Trajectory, labels: Tensor | None
) -> None:
    """Two rows for each of the first samples: the sample on its way, and what was predicted of its end."""
    last = len(trajectory.times) - 1
    moments = sorted({round(i * last / max(config.strip - 1, 1)) for i in range(config.strip)})
    rows: list[Tensor] = []
    for i in range(min(4, len(trajectory.states[0]))):
        x_t = torch.cat([trajectory.states[moment][i : i + 1] for moment in moments]).to(run.device)
        t = torch.tensor([trajectory.times[moment] for moment in moments], dtype=torch.float64)
        label = None if labels is None else labels[i].repeat(len(moments))
        prediction = _told(model, label, run)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)  # VE's noise would only show its range
        rows += [run.codec.decode_image(x_t / scale), run.codec.decode_image(prediction.x0)]
    save_rows(rows, Path(config.out) / "strip.png")


def _save(
    config: DictConfig,
    run: Run,
    task: Task | None,
    x: Tensor,
    trajectory: Trajectory,
    nfe: float,
    seconds: float,
) -> None:
    out = Path(config.out)
    picture, numbers, film = out / "samples.png", out / "samples.npz", out / "film.gif"
    if task is None:
        save_samples(run.codec.decode_image(x), picture)
    else:
        save_rows([_row(run, task, x)], picture)
    arrays: dict[str, Any] = {"model_space": x.numpy(), "data": run.codec.decode(x).numpy()}
    if task is not None:
        arrays["given"] = torch.cat([one.cpu() for one in task.given]).numpy()
    np.savez_compressed(numbers, **arrays)
    if config.film:
        frames = [
            *trajectory.states,
            x[: len(trajectory.states[0])],
        ]  # the last one without what noise is left
        save_film([run.codec.decode_image(frame) for frame in frames], film)
    show.table(
        f"samples of {run.folder}",
        {
            "images": f"{config.n}",
            "network evaluations per image": f"{nfe:g}",
            "seconds": f"{seconds:.2f}",
            "images/s": f"{config.n / seconds:.2f}",
            "trained on": f"{run.images:,} images",
            **({} if task is None else _quality(run, task, x)),
            "picture": str(picture),
            "numbers": str(numbers),
            **({"film": str(film)} if config.film else {}),
            **({"strip": str(out / "strip.png")} if config.strip else {}),
        },
    )


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


if __name__ == "__main__":
    main()
