"""Compare L_simple, L_hybrid and L_vlb of improved DDPM by the bound of respaced chains, and their gradient noise.

    python -m benchmarks.improved_ddpm [--out FOLDER] [--steps 25 50 100 1000] [--n 128] [--batches 64] [WORD ...]

Trains one network per loss by ``sde-gen train`` with WORDs, such as data=fashion_mnist engine.images=200000: L_simple
predicts the noise alone, the others the variance, too. Per network, number of steps and variance: the bound in bits per
dimension on n held-out images, with its standard error over images. The null is a network of random weights with the
variance of the posterior (nu = 0); the fixed variances nu = 0 and nu = 1 stand beside the learned one. Per network of
L_vlb and of L_hybrid: the simple noise scale B = tr(S) / |G|^2 of L_vlb (McCandlish et al., 2018, arXiv:1812.06162,
appendix A), S the covariance of the gradient of one sample and G its mean, for uniform steps and for steps by the
second moment of their losses; the smaller, the less noise. Source of the comparison: Nichol and Dhariwal, 2021,
arXiv:2102.09672, tables 1 and 2, figures 3 and 6. All parts go on where they were interrupted. Prints tables and writes
improved_ddpm.json.
"""

import argparse
import copy
import importlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.evaluation.metric import ChainBound
from sde_gen.evaluation.metric.data_term import LastStepLevels
from sde_gen.grid import DDPMLinspace
from sde_gen.noise import IID, spawn_seeds
from sde_gen.objective import VariationalBound
from sde_gen.objective.step_sampler import SecondMoment, StepSampler, UniformSteps
from sde_gen.utils import atomic

CHAIN = 1000
"""Steps of the chain of the training."""

LOSSES = {
    "simple": ("sde=ddpm_cosine", "model=adm", "parametrization=eps", "time_sampler=uniform"),
    "hybrid": ("objective=hybrid",),
    "vlb": ("objective=vlb",),
}
"""Words of the command by loss."""


def train(folder: Path, words: Sequence[str]) -> Run:
    """Train a run, or go on with it, and open it."""
    before, sys.argv = sys.argv, ["sde-gen train", *words, f"run={folder}"]
    GlobalHydra.instance().clear()
    try:
        importlib.import_module("sde_gen.cli.train").main()
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()
    return load_run(
        OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "parts": [], "device": "cpu"})
    )


def bound(run: Run, values: Tensor, steps: int, nu: float | None) -> dict[str, float]:
    """Return the bound of a chain of some steps in bits per dimension, with its standard error over images."""
    metric = ChainBound(grid=DDPMLinspace(chain=CHAIN), steps=steps - 1, nu=nu, data_term=LastStepLevels())
    seeds = spawn_seeds(0, len(values))
    parts = [
        metric(run.denoiser, values[start : start + 32], run.codec, seeds[start : start + 32]).value
        for start in range(0, len(values), 32)
    ]
    bits = torch.cat(parts)
    return {"bits": float(bits.mean()), "se": float(bits.std() / len(bits) ** 0.5)}


class NoiseScale(NamedTuple):
    """tr(S) / |G|^2 in samples, and its standard error by the jackknife over batches."""

    value: float
    se: float


def noise_scale(
    run: Run, values: Tensor, sampler: StepSampler, *, batches: int, size: int, seed: int = 0
) -> NoiseScale:
    """Return the noise scale of the gradient of L_vlb, from batches with independent times and noise.

    With the gradients g_k of K batches of b samples: tr(S) = b V, where V is the sum of their variances, and
    |G|^2 = |mean g|^2 - V / K, both without bias.
    """
    objective = VariationalBound(codec=run.codec, step_sampler=sampler)
    model = copy.deepcopy(run.denoiser).requires_grad_(True)
    weights = list(model.net.parameters())
    generator = torch.Generator().manual_seed(seed)
    gradients = []
    for _ in range(batches):
        rows = torch.randint(len(values), (size,), generator=generator)
        noise = IID(generator)
        loss = objective(model, run.codec.encode(values[rows], noise), noise=noise).per_sample.mean()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).double())
    table = torch.stack(gradients)
    return scale_of(table @ table.mT, size)


def scale_of(products: Tensor, size: int) -> NoiseScale:
    """Return the noise scale from the scalar products (K, K) of the gradients of batches of ``size`` samples."""

    def scale(p: Tensor) -> float:
        count = len(p)
        mean = float(p.mean())
        variance = (float(p.diagonal().mean()) - mean) * count / (count - 1)
        return size * variance / (mean - variance / count)

    count = len(products)
    left_out = [scale(products[kept][:, kept]) for kept in (torch.arange(count) != k for k in range(count))]
    spread = torch.tensor(left_out).double()
    se = float(((count - 1) / count * (spread - spread.mean()).square().sum()).sqrt())
    return NoiseScale(scale(products), se)


def warmed(run: Run, values: Tensor, sampler: SecondMoment, *, rounds: int, size: int = 100) -> SecondMoment:
    """Return a sampler that has seen losses of every step, of the network as it is."""
    objective = VariationalBound(codec=run.codec, step_sampler=sampler)
    times, generator = (
        objective.times(run.denoiser.sde, torch.device("cpu")),
        torch.Generator().manual_seed(1),
    )
    for index in torch.arange(CHAIN).repeat(rounds).split(size):
        rows = torch.randint(len(values), (len(index),), generator=generator)
        x0 = run.codec.encode(values[rows], IID(generator))
        draw = objective.draw(run.denoiser.sde, x0, IID(generator))
        draw = draw._replace(t=times[index], density=torch.ones_like(draw.density))
        sampler.observe(CHAIN, index, objective.loss(run.denoiser, x0, draw).per_sample)
    return sampler


def random_weights(run: Run) -> Run:
    """Return a run with a network of random weights."""
    other = copy.deepcopy(run.denoiser)
    generator = torch.Generator().manual_seed(0)
    for weight in other.net.parameters():
        weight.data.normal_(0, 0.02, generator=generator)
    return replace(run, denoiser=other)


class Table:
    """Rows of results in a file, written after each, so that an interrupted script goes on."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, about
        old = json.loads(path.read_text()) if path.exists() else {}
        self.rows: list[dict[str, Any]] = old.get("rows", [])

    def row(self, key: dict[str, Any], compute: Any) -> dict[str, Any]:
        """Return the row of a key, computed unless it is there."""
        for found in self.rows:
            if {name: found.get(name) for name in key} == key:
                return found
        made = {**key, **compute()}
        self.rows.append(made)
        atomic.write(self.path, json.dumps({**self.about, "rows": self.rows}, indent=1).encode())
        return made


@torch.no_grad()
def bounds(table: Table, runs: dict[str, Run], values: Tensor, steps: Sequence[int]) -> None:
    """Fill the table of the bounds, and print it."""
    models = {**runs, "random weights": random_weights(runs["simple"])}
    rows = []
    for name, run in models.items():
        for nu in [0.0, 1.0] if name != "random weights" else [0.0]:
            rows.append((name, run, nu))
        if name in ("hybrid", "vlb"):
            rows.append((name, run, None))
    shown = []
    for name, run, nu in rows:
        found = []
        for count in steps:
            key = {"loss": name, "nu": nu, "steps": count, "n": len(values), "weights": run.sha256}
            row = table.row(key, lambda run=run, count=count, nu=nu: bound(run, values, count, nu))
            found.append(f"{row['bits']:.3f} +- {row['se']:.3f}")
        shown.append([name, "learned" if nu is None else f"{nu:g}", *found])
    console.print_summary(
        f"bits per dimension on {len(values)} held-out images", ["loss", "nu", *map(str, steps)], shown
    )


def scales(table: Table, runs: dict[str, Run], values: Tensor, batches: int, size: int, history: int) -> None:
    """Fill the table of the noise scales, and print it."""
    shown = []
    for name in ("hybrid", "vlb"):
        run, found = runs[name], []
        for kind in ("uniform", "second_moment"):

            def compute(run: Run = run, kind: str = kind) -> dict[str, float]:
                sampler: StepSampler = UniformSteps()
                if kind == "second_moment":
                    with torch.no_grad():
                        sampler = warmed(run, values, SecondMoment(history=history), rounds=history)
                return noise_scale(run, values, sampler, batches=batches, size=size)._asdict()

            key = {"noise_scale": name, "step_sampler": kind, "batches": batches, "size": size}
            row = table.row({**key, "history": history, "weights": run.sha256}, compute)
            found.append(f"{row['value']:.3g} +- {row['se']:.2g}")
        shown.append([name, *found])
    console.print_summary(
        "gradient noise scale of L_vlb, in samples", ["loss", "uniform", "second moment"], shown
    )


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", default=["data=fashion_mnist"])
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50, 100, 1000])
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--history", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/improved_ddpm"))
    args = parser.parse_args()
    runs = {name: train(args.out / name, [*words, *args.words]) for name, words in LOSSES.items()}
    data = open_data(runs["simple"])
    test, seen = data.test.values[: args.n], data.train.values
    assert isinstance(test, Tensor)
    assert isinstance(seen, Tensor)
    about = {"machine": platform.processor() or platform.machine(), "words": args.words, **package_versions()}
    table = Table(
        args.out / "improved_ddpm.json", {**about, "images": {k: r.images for k, r in runs.items()}}
    )
    bounds(table, runs, test, args.steps)
    scales(table, runs, seen, args.batches, args.batch_size, args.history)
    print(table.path)


if __name__ == "__main__":
    main()
