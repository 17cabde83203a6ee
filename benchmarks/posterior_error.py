"""Measure how far samplers of inverse problems are from the exact posterior of Gaussian mixtures.

    python benchmarks/posterior_error.py [--samples 4000] [--problems 6] [--steps 100] [--seed 0] [--out FOLDER]

Every problem is a fresh mixture in 8 dimensions, four of whose coordinates are measured with noise (a mask, so that
all methods apply). Its posterior is a mixture too. Per method: the errors of mean and covariance, relative to the
posterior's own standard deviation and variance, evaluations per sample and seconds; a table and JSON.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sde_gen import build, show
from sde_gen.denoiser import Denoiser, MixtureDenoiser
from sde_gen.grid import LogSNR
from sde_gen.guidance import DPS, MMPS, DiffPIR, PiGDM
from sde_gen.hooks import NFECounter
from sde_gen.noise import IID
from sde_gen.operator import Mask
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.solver import Ancestral, Solver
from sde_gen.solver.projection import Projection
from sde_gen.solver.repaint import RePaint
from sde_gen.solver.twisted_smc import TwistedSMC

DIM, COMPONENTS, NOISE_STD = 8, 6, 0.1
MASK = Mask(mask=torch.arange(DIM) % 2 == 0)


class Problem:
    """A fresh mixture, a measurement of one of its samples, and the exact posterior's mean and covariance."""

    def __init__(self, seed: int) -> None:
        noise = IID.seeded(seed)
        self.means = noise.fresh(torch.empty(COMPONENTS, DIM).double())
        roots = noise.fresh(torch.empty(COMPONENTS, DIM, DIM).double()) / DIM**0.5
        self.covs = 0.3 * roots @ roots.mT + 0.02 * torch.eye(DIM)
        self.weights = 0.2 + noise.uniform(self.means)
        self.model = MixtureDenoiser(sde=VP(), means=self.means, covs=self.covs, weights=self.weights)
        x = self.model.sample(1, noise=noise)
        self.y = MASK(x + NOISE_STD * noise.fresh(x))
        self.mean, self.cov = self._posterior()

    def _posterior(self) -> tuple[Tensor, Tensor]:
        a = torch.eye(DIM).double()[MASK.mask]
        y = self.y[0, MASK.mask]
        spread = a @ self.covs @ a.T + NOISE_STD**2 * torch.eye(len(a))
        gain = torch.linalg.solve(spread, a @ self.covs).mT
        miss = y - self.means @ a.T
        evidence = torch.distributions.MultivariateNormal(torch.zeros_like(miss), spread).log_prob(miss)
        r = torch.softmax(self.weights.log() + evidence, 0)
        centre = self.means + torch.einsum("kij,kj->ki", gain, miss)
        inner = self.covs - gain @ a @ self.covs
        mean = r @ centre
        away = centre - mean
        return mean, torch.einsum("k,kij->ij", r, inner) + torch.einsum("k,ki,kj->ij", r, away, away)

    def errors(self, x: Tensor) -> tuple[float, float]:
        """Errors of mean and covariance in units of the posterior's own size."""
        size = self.cov.trace()
        return float((x.mean(0) - self.mean).norm() / size.sqrt()), float(
            (torch.cov(x.T) - self.cov).norm() / size
        )


Method = Callable[[Problem], tuple[Solver, Denoiser]]

METHODS: dict[str, Method] = {
    "dps gamma=0": lambda p: (
        Ancestral(),
        DPS(denoiser=p.model, operator=MASK, y=p.y, noise_std=NOISE_STD, gamma=0.0),
    ),
    "dps gamma=1": lambda p: (
        Ancestral(),
        DPS(denoiser=p.model, operator=MASK, y=p.y, noise_std=NOISE_STD, gamma=1.0),
    ),
    "diffpir": lambda p: (Ancestral(), DiffPIR(denoiser=p.model, operator=MASK, y=p.y, noise_std=NOISE_STD)),
    "pigdm": lambda p: (Ancestral(), PiGDM(denoiser=p.model, operator=MASK, y=p.y, noise_std=NOISE_STD)),
    "mmps": lambda p: (Ancestral(), MMPS(denoiser=p.model, operator=MASK, y=p.y, noise_std=NOISE_STD)),
    "projection": lambda p: (Projection(operator=MASK, y=p.y), p.model),
    "repaint x10": lambda p: (RePaint(operator=MASK, y=p.y), p.model),
    "twisted_smc": lambda p: (TwistedSMC(operator=MASK, y=p.y, noise_std=NOISE_STD), p.model),
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
    problems = [Problem(args.seed + i) for i in range(args.problems)]
    rows = []
    for name, method in METHODS.items():
        found, begin, nfe = [], time.perf_counter(), 0
        for problem in problems:
            solver, denoiser = method(problem)
            sampler = Sampler(solver=solver, grid=LogSNR(), steps=args.steps, denoise_final=False)
            with NFECounter(problem.model) as counter:
                x = sampler(denoiser, (args.samples, DIM), noise=IID.seeded(args.seed), dtype=torch.float64)
            nfe = counter.calls
            found.append(problem.errors(x))
        mean, cov = (sum(part) / len(problems) for part in zip(*found, strict=True))
        worst = max(max(pair) for pair in found)
        seconds = (time.perf_counter() - begin) / len(problems)
        rows.append(
            {"method": name, "nfe": nfe, "mean": mean, "cov": cov, "worst": worst, "seconds": seconds}
        )
    show.sheet(
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
    path.write_text(json.dumps({**about, **build.versions(), **settings, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
