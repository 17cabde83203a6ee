"""Hold a model of a stationary Gaussian process against its closed entropy and spectrum.

    python benchmarks/gaussian_series.py RUN [--windows 200] [--samples 8000] [--steps 20]

RUN is trained on data=autoregressive or data=gaussian_process. Negative log-likelihood of held-out windows in bits per
time, by the probability flow with the exact divergence, beside the closed entropy. Its standard error over the windows
is that of the difference to the true log-density of the same windows, whose mean is known. Null: a Gaussian fitted to
the training windows whose times are independent. Spectrum: relative deviation of the mean periodogram of samples from
the expected one, beside that of as many windows of the process (ceiling) and of white noise (null). Prints a table and
writes JSON.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks import machine
from sde_gen.cli import console
from sde_gen.cli.run import load_run
from sde_gen.data.stationary import StationaryProcess
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.ode import Adams
from sde_gen.sampler import Sampler

BATCH = 500


def true_log_prob(process: StationaryProcess, x: Tensor) -> Tensor:
    """Log-density of windows (B, 1, L) in nats."""
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(process.length, dtype=torch.float64), process.covariance()
    )
    found: Tensor = normal.log_prob(x[:, 0].double())
    return found


def deviation(process: StationaryProcess, x: Tensor) -> dict[str, float]:
    """Relative deviations of the mean periodogram of windows, over all frequencies, and the error of one of them."""
    power = torch.fft.rfft(x[:, 0].double()).abs().square() / process.length
    ratio = power.mean(0) / process.periodogram()
    error = (power.std(0) / len(x) ** 0.5 / process.periodogram()).mean()
    return {
        "largest": float((ratio - 1).abs().max()),
        "rms": float((ratio - 1).square().mean().sqrt()),
        "standard_error_of_a_frequency": float(error),
    }


def main() -> None:
    """Measure likelihood and spectrum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--windows", type=machine.rounds, default=200)
    parser.add_argument("--samples", type=machine.rounds, default=8000)
    parser.add_argument("--steps", type=machine.count, default=20)
    parser.add_argument("--ode-steps", type=machine.count, default=24)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": args.run, "checkpoint": None, "trust": [], "device": "cpu"}))
    process: StationaryProcess = instantiate(run.config.data, _convert_="all")
    splits = process.load()
    windows = splits.test.values[: args.windows]
    event, length, bits = splits.test.shape, process.length, math.log(2)
    begin = time.perf_counter()
    x = run.codec.encode(windows)
    nats = log_prob(
        run.denoiser,
        x,
        integrator=Adams(steps=args.ode_steps),
        divergence=Exact(),
        noise=PerSample(range(len(windows))),
    ).nats
    likelihood_seconds = time.perf_counter() - begin
    gap = (true_log_prob(process, windows) - (nats + run.codec.log_det(x))) / length / bits
    entropy = process.entropy() / length / bits
    train = splits.train.values
    mean, std = train.mean(0).double(), train.std(0).double()
    independent = torch.distributions.Normal(mean, std).log_prob(windows.double()).sum((1, 2))
    null = (true_log_prob(process, windows) - independent) / length / bits
    sampler, seeds = Sampler(steps=args.steps), spawn_seeds(0, args.samples)
    begin, parts = time.perf_counter(), []
    for first in range(0, args.samples, BATCH):
        part = seeds[first : first + BATCH]
        parts.append(run.codec.decode(sampler(run.denoiser, (len(part), *event), noise=PerSample(part))))
    sampling_seconds = time.perf_counter() - begin
    ceiling = replace(process, count=args.samples, seed=process.seed + 1).load().train.values
    noise = torch.randn(args.samples, *event, generator=torch.Generator().manual_seed(0))
    error = len(windows) ** -0.5
    found = {
        "process": OmegaConf.to_container(run.config.data),
        "trained_on": run.images,
        "bits_per_time": {
            "closed_entropy": entropy,
            **(
                {"closed_entropy_rate": process.entropy_rate() / bits}
                if hasattr(process, "entropy_rate")
                else {}
            ),
            "model": entropy + float(gap.mean()),
            "model_se": float(gap.std()) * error,
            "null_independent_gaussian": entropy + float(null.mean()),
            "null_se": float(null.std()) * error,
        },
        "spectrum": {
            "model": deviation(process, torch.cat(parts)),
            "ceiling_process": deviation(process, ceiling),
            "null_white_noise": deviation(process, noise * process.autocovariance()[0].sqrt().float()),
        },
        "windows": len(windows),
        "samples": args.samples,
        "evaluations": {"likelihood": args.ode_steps + 1, "sample": sampler.nfe},
        "seconds": {"likelihood": likelihood_seconds, "sampling": sampling_seconds},
    }
    console.print_summary(
        f"{type(process).__name__} of {length} times",
        ["", "bits per time", "largest deviation of the spectrum", "rms"],
        [
            ["closed", f"{entropy:.4f}", "", ""],
            *(
                [
                    name,
                    ""
                    if key is None
                    else f"{found['bits_per_time'][key]:.4f} +- {found['bits_per_time'][se]:.4f}",  # type: ignore[index]
                    *(f"{100 * found['spectrum'][row][which]:.1f} %" for which in ("largest", "rms")),  # type: ignore[index]
                ]
                for name, key, se, row in (
                    ("model", "model", "model_se", "model"),
                    ("ceiling: the process", None, None, "ceiling_process"),
                    ("null: independent, white", "null_independent_gaussian", "null_se", "null_white_noise"),
                )
            ),
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"gaussian_series_{run.folder.name}.json"
    path.write_text(json.dumps({**machine.about(torch.device("cpu")), **found}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
