"""Generate samples from a run: ``python -m sde_gen.sample run=runs/... solver=dpm_solver_pp steps=20``."""

import hashlib
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import rich.progress
import torch
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sde_gen import show, tuning
from sde_gen.door import check_counts, check_switches, door, given, refuse, several
from sde_gen.hooks import Hook, NFECounter, Progress, StopOnNaN, Trajectory
from sde_gen.noise import PerSample, sample_seeds
from sde_gen.picture import save_film, save_rows, save_samples
from sde_gen.run import Run, open_run
from sde_gen.sampler import Sampler

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
    sampler: Sampler = instantiate(config.sampler)
    sampler.solver.check(run.denoiser, sampler.grid(run.denoiser.sde, sampler.steps))
    seeds = sample_seeds(config.seed, config.n)
    labels = _labels(config.label, config.n, run)
    if config.out is None:
        config.out = _folder(config)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    trajectory = Trajectory()
    batches = [seeds[start : start + config.batch_size] for start in range(0, config.n, config.batch_size)]
    with show.progress() as bar, NFECounter(run.denoiser.net) as counter:
        begin = time.perf_counter()
        samples = []
        for index, batch in enumerate(batches):
            task = bar.add_task(f"batch {index + 1} of {len(batches)}", total=config.steps, note="")
            hooks: list[Hook] = [StopOnNaN(), Progress(partial(_advance, bar, task))]
            if (config.film or config.strip) and index == 0:
                hooks.append(trajectory)
            chosen = None if labels is None else labels[index * config.batch_size :][: len(batch)]
            denoiser, shape = run.conditioned(chosen), (len(batch), *run.facts.shape)
            x = sampler(denoiser, shape, noise=PerSample(batch), hooks=hooks, device=run.device)
            samples.append(x.cpu())
        seconds = time.perf_counter() - begin
    if config.strip:
        _strip(config, run, trajectory, labels)
    _save(config, run, torch.cat(samples), trajectory, counter.samples / config.n, seconds)


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


def _labels(label: int | Sequence[int] | None, n: int, run: Run) -> Tensor | None:
    """One class per sample: those asked for, or all of them, in turn; None for a network without classes."""
    every = run.labels(n)
    if label is None:
        return every
    if every is None:
        raise ValueError(
            f"label={label}: the run was trained without classes; train one with conditioning=class"
        )
    asked = several(label)
    if not asked or any(not isinstance(one, int) or not 0 <= one < run.facts.classes for one in asked):
        raise ValueError(f"label={label}: the classes are 0 to {run.facts.classes - 1}")
    return torch.tensor(asked).repeat(-(-n // len(asked)))[:n]


@torch.no_grad()
def _strip(config: DictConfig, run: Run, trajectory: Trajectory, labels: Tensor | None) -> None:
    """Two rows for each of the first samples: the sample on its way, and what was predicted of its end."""
    last = len(trajectory.times) - 1
    moments = sorted({round(i * last / max(config.strip - 1, 1)) for i in range(config.strip)})
    rows: list[Tensor] = []
    for i in range(min(4, len(trajectory.states[0]))):
        x_t = torch.cat([trajectory.states[moment][i : i + 1] for moment in moments]).to(run.device)
        t = torch.tensor([trajectory.times[moment] for moment in moments], dtype=torch.float64)
        label = None if labels is None else labels[i].repeat(len(moments))
        prediction = run.conditioned(label)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)  # VE's noise would only show its range
        rows += [run.codec.decode_image(x_t / scale), run.codec.decode_image(prediction.x0)]
    save_rows(rows, Path(config.out) / "strip.png")


def _save(
    config: DictConfig, run: Run, x: Tensor, trajectory: Trajectory, nfe: float, seconds: float
) -> None:
    out = Path(config.out)
    picture, numbers, film = out / "samples.png", out / "samples.npz", out / "film.gif"
    save_samples(run.codec.decode_image(x), picture)
    np.savez_compressed(numbers, model_space=x.numpy(), data=run.codec.decode(x).numpy())
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
            "picture": str(picture),
            "numbers": str(numbers),
            **({"film": str(film)} if config.film else {}),
            **({"strip": str(out / "strip.png")} if config.strip else {}),
        },
    )


if __name__ == "__main__":
    main()
