"""Measure how far samplers of inverse problems are from the exact posterior of Gaussian mixtures.

    python benchmarks/posterior_error.py [--samples 4000] [--problems 6] [--steps 100] [--seed 0] [--out FOLDER]

Every problem is a fresh mixture in 8 dimensions, four of whose coordinates are measured with noise (a mask, so that
all methods apply). Its posterior is a mixture too, whose own denoiser shows what the solver's steps and the number of
samples alone cost. Per method: the errors of mean and covariance, relative to the posterior's own standard deviation
and variance, evaluations per sample and seconds; a table and JSON.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import Denoiser, MixtureDenoiser
from sde_gen.grid import LogSNR
from sde_gen.inverse import DPS, MMPS, DiffPIR, PiGDM
from sde_gen.inverse.operator import Mask, Operator
from sde_gen.inverse.projection import Projection
from sde_gen.inverse.repaint import RePaint
from sde_gen.inverse.twisted_smc import TwistedSMC
from sde_gen.noise import IID
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.solver import Ancestral, Solver
from sde_gen.solver.callbacks import NFECounter

DIM, COMPONENTS, NOISE_STD = 8, 6, 0.1
MASK = Mask(mask=torch.arange(DIM) % 2 == 0)


class Problem:
    """A mixture, a measurement of one of its samples, and the exact posterior, a mixture too.

    Arguments:
        model: the mixture.
        operator: A, linear with A A^T a projection, such as a mask or unit rows at right angles.
        noise: draws the sample and the measurement's noise.
    """

    def __init__(self, model: MixtureDenoiser, operator: Operator, noise: IID) -> None:
        self.model = model
        self.operator = operator
        x = model.sample(1, noise=noise)
        self.y = operator(x + NOISE_STD * noise.normal(x))
        self.posterior = self._posterior()
        w = torch.softmax(self.posterior.log_weights, 0)
        away = self.posterior.means - w @ self.posterior.means
        self.mean = w @ self.posterior.means
        self.cov = torch.einsum("k,kij->ij", w, self.covs) + torch.einsum("k,ki,kj->ij", w, away, away)

    def _posterior(self) -> MixtureDenoiser:
        """Every component's Gaussian posterior, weighed by its evidence."""
        means, axes = self.model.means, self.model.axes
        covs = (axes * self.model.variances.unsqueeze(1)) @ axes.mT
        a = self.operator(torch.eye(means.shape[1]).double()).T
        spread = a @ covs @ a.T + NOISE_STD**2 * torch.eye(len(a)).double()
        gain = torch.linalg.solve(spread, a @ covs).mT
        miss = self.y[0] - means @ a.T
        evidence = torch.distributions.MultivariateNormal(torch.zeros_like(miss), spread).log_prob(miss)
        tiny = torch.finfo(torch.float64).tiny  # a mixture's weights must be positive
        weights = torch.softmax(self.model.log_weights + evidence, 0).clamp(min=tiny)
        inner = covs - gain @ a @ covs
        self.covs = 0.5 * (inner + inner.mT)
        center = means + torch.einsum("kij,kj->ki", gain, miss)
        return MixtureDenoiser(sde=self.model.sde, means=center, covs=self.covs, weights=weights)

    def errors(self, x: Tensor) -> tuple[float, float]:
        """Errors of mean and covariance in units of the posterior's own size."""
        size = self.cov.trace()
        return float((x.mean(0) - self.mean).norm() / size.sqrt()), float(
            (torch.cov(x.T) - self.cov).norm() / size
        )


def fresh(seed: int) -> Problem:
    """A mixture drawn by a seed, half of whose coordinates are measured."""
    noise = IID.seeded(seed)
    means = noise.normal(torch.empty(COMPONENTS, DIM).double())
    roots = noise.normal(torch.empty(COMPONENTS, DIM, DIM).double()) / DIM**0.5
    covs = 0.3 * roots @ roots.mT + 0.02 * torch.eye(DIM)
    weights = 0.2 + noise.uniform(means)
    return Problem(MixtureDenoiser(sde=VP(), means=means, covs=covs, weights=weights), MASK, noise)


def guided(method: Callable[..., Denoiser], **more: float) -> "Method":
    """Ancestral sampling with a denoiser that is given the measurement."""
    return lambda p: (
        Ancestral(),
        method(denoiser=p.model, operator=p.operator, y=p.y, noise_std=NOISE_STD, **more),
    )


Method = Callable[[Problem], tuple[Solver, Denoiser]]

METHODS: dict[str, Method] = {
    "exact denoiser": lambda p: (Ancestral(), p.posterior),
    "dps gamma=0": guided(DPS, gamma=0.0),
    "dps gamma=1": guided(DPS, gamma=1.0),
    "diffpir": guided(DiffPIR),
    "pigdm": guided(PiGDM),
    "mmps": guided(MMPS),
    "projection": lambda p: (Projection(operator=p.operator, y=p.y), p.model),
    "repaint x10": lambda p: (RePaint(operator=p.operator, y=p.y), p.model),
    "twisted_smc": lambda p: (TwistedSMC(operator=p.operator, y=p.y, noise_std=NOISE_STD), p.model),
}


def main() -> None:
    """Run all methods on all problems."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    problems = [fresh(args.seed + i) for i in range(args.problems)]
    rows = []
    for name, method in METHODS.items():
        found, begin, nfe = [], time.perf_counter(), 0
        for problem in problems:
            solver, denoiser = method(problem)
            sampler = Sampler(solver=solver, grid=LogSNR(), steps=args.steps, denoise_final=False)
            with NFECounter(denoiser) as counter:
                x = sampler(denoiser, (args.samples, DIM), noise=IID.seeded(args.seed), dtype=torch.float64)
            nfe = counter.calls
            found.append(problem.errors(x))
        mean, cov = (sum(part) / len(problems) for part in zip(*found, strict=True))
        worst = max(max(pair) for pair in found)
        seconds = (time.perf_counter() - begin) / len(problems)
        rows.append(
            {"method": name, "nfe": nfe, "mean": mean, "cov": cov, "worst": worst, "seconds": seconds}
        )
    console.print_summary(
        f"error against the exact posterior: mean over {args.problems} mixtures, {args.samples} samples",
        ["method", "NFE", "mean", "covariance", "worst", "seconds"],
        [
            [
                r["method"],
                f"{r['nfe']}",
                *(f"{r[key]:.3f}" if r[key] < 1e3 else "diverged" for key in ("mean", "cov", "worst")),
                f"{r['seconds']:.1f}",
            ]
            for r in rows
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    path = args.out / "posterior_error.json"
    path.write_text(json.dumps({**about, **package_versions(), **settings, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
