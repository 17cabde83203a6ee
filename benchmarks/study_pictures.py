"""Draw the pictures of the study pages: from exact Gaussians and mixtures, and from a pretrained run.

    python benchmarks/study_pictures.py [--only ddim ...] [--out docs/_static]

Every number is computed by the objects of the package; the pages of ``docs/learn`` derive and print the same ones.
"""

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import sde_gen as sg
from sde_gen.denoiser import GaussianDenoiser, MixtureDenoiser
from sde_gen.grid import LogSNR
from sde_gen.noise import IID
from sde_gen.sde import DDPM, SDE, VP, linear_betas
from sde_gen.solver import DDIM, Ancestral, Solver

V = 0.25
"""Variance of the Gaussian data."""


class Silence:
    """Source of noise that is zero."""

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        """Return zeros like x."""
        del u0, u1
        return torch.zeros_like(x)

    def normal(self, x: Tensor) -> Tensor:
        """Return zeros like x."""
        return torch.zeros_like(x)

    def uniform(self, x: Tensor) -> Tensor:
        """Return zeros with shape (B,)."""
        return x.new_zeros(len(x))


def gaussian(sde: SDE) -> GaussianDenoiser:
    """Return the exact denoiser of N(0, V)."""
    return GaussianDenoiser(sde=sde, mean=torch.zeros(1), cov=torch.tensor([[V]]))


def clusters() -> MixtureDenoiser:
    """Return the exact denoiser of three narrow Gaussians on a line."""
    return MixtureDenoiser(
        sde=VP(),
        means=torch.tensor([[-1.0], [0.0], [1.0]]).double(),
        covs=torch.full((3, 1, 1), 0.01).double(),
        weights=torch.tensor([0.2, 0.3, 0.5]),
    )


def ddpm_loss(figure: Figure) -> None:
    """Draw the divergence of every step, terms against the belief of the model, and the weights of both losses."""
    steps = 100
    sde = DDPM(betas=linear_betas(steps=steps, beta_min=1e-3, beta_max=0.2))
    alpha, sigma = sde.marginal(torch.arange(steps, 0, -1).double() / steps)
    snr = (alpha / sigma) ** 2

    def divergences(m: float) -> Tensor:
        k = alpha * m / (alpha**2 * m + sigma**2)
        return (0.5 * snr.diff() * ((1 - k * alpha) ** 2 * V + k**2 * sigma**2)[:-1]).flip(0)

    number = torch.arange(2, steps + 1)
    left, middle, right = figure.subplots(1, 3)
    left.semilogy(number, divergences(V))
    left.set(title="divergence of every step", xlabel="step n", ylabel="nats")
    belief = torch.linspace(0.05, 0.75, 71).double()
    curves = torch.stack([divergences(float(m)) for m in belief])
    for n in (2, 5, 10, 30):
        middle.plot(belief, curves[:, n - 2] / curves[:, n - 2].min(), label=f"step {n}")
    middle.axvline(V, color="black", linewidth=0.6)
    middle.set(title="one minimum for all", xlabel="variance m of the model", ylabel="term / its minimum")
    middle.set_ylim(0.98, 1.6)
    middle.legend(fontsize=7)
    weights = (0.5 * (snr[1:] / snr[:-1] - 1)).flip(0)
    right.semilogy(number, weights, label="bound")
    right.semilogy(number, torch.full_like(weights, float(weights.mean())), label="simple loss")
    right.set(title="weight on the error of the noise", xlabel="step n")
    right.legend(fontsize=7)


def ddpm_as_vae(figure: Figure) -> None:
    """Draw the bound and the negative log-likelihood of the chain against its number of steps."""
    sde = VP(t_min=1e-3)
    model, one = gaussian(sde), torch.ones(1, 1).double()
    counts, bounds, nlls = [10, 20, 30, 50, 100, 200, 300, 500], [], []
    for count in counts:
        times = LogSNR()(sde, count - 1)
        alpha, sigma = sde.marginal(times)
        snr, error = (alpha / sigma) ** 2, V * sigma**2 / (alpha**2 * V + sigma**2)
        last = 0.5 * (snr[-1] * error[-1] + torch.log(2 * math.pi / snr[-1]))
        bounds.append(float(0.5 * snr[0] * V + (0.5 * snr.diff() * error[:-1]).sum() + last))
        variance = sigma[0] ** 2
        for t, s in itertools.pairwise(times):
            c_t, c_0, std = sde.posterior(t, s)
            variance = (c_t + c_0 * model(one, t).x0.item()) ** 2 * variance + std**2
        variance = model(one, times[-1]).x0.item() ** 2 * variance + 1 / snr[-1]
        nlls.append(float(0.5 * (torch.log(2 * math.pi * variance) + V / variance)))
    axes = figure.subplots()
    axes.semilogx(counts, bounds, "o-", label="bound (training sees this)")
    axes.semilogx(counts, nlls, "o-", label="negative log-likelihood of the chain")
    axes.axhline(
        0.5 * math.log(2 * math.pi * math.e * V), color="black", linewidth=0.8, label="entropy of the data"
    )
    axes.set(xlabel="steps T", ylabel="nats", ylim=(0.5, 4))
    axes.legend(fontsize=8)


def final_std(solver: DDIM, sde: SDE, steps: int) -> float:
    """Return the standard deviation of the samples on Gaussian data, without sampling."""
    model, grid, one = gaussian(sde), LogSNR()(sde, steps), torch.ones(1, 1).double()
    variance = sde.sigma(grid[0]) ** 2
    for t, row in zip(grid, solver.prepare(sde, grid), strict=False):
        at_one = model(one, t)
        variance = (row.x0 * at_one.x0 + row.eps * at_one.eps) ** 2 * variance + row.noise**2
    return float(variance.sqrt())


def paths(axes: Axes, eta: float) -> None:
    """Draw six paths of DDIM from the same starts to a mixture."""
    model, grid = clusters(), LogSNR()(VP(), 200)
    x = 1.2 * torch.linspace(-1.3, 1.3, 6).double()[:, None]
    kept, solver = [x], DDIM(eta=eta)
    noise = IID.seeded(3)
    with torch.no_grad():
        for t, s, row in zip(grid, grid[1:], solver.prepare(model.sde, grid), strict=False):
            x = solver.apply(model, x, t, s, row, (), noise)[0]
            kept.append(x)
    axes.plot(torch.linspace(0, 1, 201), torch.cat(kept, 1).T, linewidth=0.9)
    axes.set(title=f"paths, eta = {eta:g}", xlabel="noise to data", xticks=[], ylim=(-3.2, 3.2))


def ddim(figure: Figure) -> None:
    """Draw paths of three members of the family, and their errors on Gaussian data."""
    *three, right = figure.subplots(1, 4)
    for axes, eta in zip(three, (0.0, 0.5, 1.0), strict=True):
        paths(axes, eta)
    counts = [5, 10, 20, 50, 100, 200]
    for eta in (1.0, 0.5, 0.0):
        errors = [abs(final_std(DDIM(eta=eta), VP(), n) - math.sqrt(V)) for n in counts]
        right.loglog(counts, errors, "o-", markersize=3, label=f"eta = {eta:g}")
    right.set(title="error of the standard deviation", xlabel="steps")
    right.legend(fontsize=7)


def noise_in_sampling(figure: Figure) -> None:
    """Draw samples with noise, without noise and by DDIM: digits, and a mixture on a line."""
    run = sg.load("pretrained/digits-vp")
    methods: list[tuple[str, Solver, bool]] = [
        ("with noise", Ancestral(), True),
        ("without noise", Ancestral(), False),
        ("DDIM: half the score", DDIM(), False),
    ]
    rows = figure.subplots(2, 3)
    for column, (name, solver, noisy) in enumerate(methods):
        top, bottom = rows[0, column], rows[1, column]
        noise = IID.seeded(1) if noisy else Silence()
        with torch.no_grad():
            start = IID.seeded(0).normal(torch.empty(32, *run.run.event))
            grid = LogSNR()(run.denoiser.sde, 100)
            x = solver.solve(run.denoiser, start, grid, noise=noise)
            images = run.decode(run.denoiser(x, grid[-1]).x0).float()
            framed = torch.nn.functional.pad(images.reshape(4, 8, 8, 8), (1, 1, 1, 1), value=16.0)
            tiles = framed.permute(0, 2, 1, 3).reshape(40, 80)
            top.imshow(tiles, cmap="gray", vmin=0, vmax=16)
            top.set(title=name, xticks=[], yticks=[])
            line = IID.seeded(0).normal(torch.empty(4000, 1).double())
            y = solver.solve(clusters(), line, LogSNR()(VP(), 200), noise=noise)
        bottom.hist(y[:, 0], bins=80, range=(-1.5, 1.5))
        bottom.set(yticks=[], xlabel="three clusters: samples on the line")


def predictions(figure: Figure) -> None:
    """Draw the predictions of a mixture at three noise levels."""
    means = torch.tensor([[-1.0], [1.0]]).double()
    model = MixtureDenoiser(
        sde=VP(), means=means, covs=torch.full((2, 1, 1), 0.04).double(), weights=torch.tensor([0.4, 0.6])
    )
    x = torch.linspace(-2.5, 2.5, 201).double()[:, None]
    for axes, time in zip(figure.subplots(1, 3, sharey=True), (0.1, 0.3, 0.6), strict=True):
        t = torch.tensor(time).double()
        prediction = model(x, t)
        for name in ("x0", "eps", "v", "score"):
            axes.plot(x, getattr(prediction, name), label=name)
        axes.fill_between(
            x[:, 0], -4, -4 + 2 * model.log_prob(x, t).exp(), color="lightgray", label="density"
        )
        alpha, sigma = model.sde.marginal(t)
        axes.set(title=f"sigma / alpha = {float(sigma / alpha):.2f}", xlabel="noisy sample", ylim=(-4, 4))
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside right center")


PICTURES: dict[str, tuple[Callable[[Figure], None], tuple[float, float]]] = {
    "ddpm_loss": (ddpm_loss, (9.0, 2.8)),
    "ddpm_as_vae": (ddpm_as_vae, (5.0, 3.0)),
    "ddim": (ddim, (11.0, 2.8)),
    "noise_in_sampling": (noise_in_sampling, (9.0, 4.2)),
    "predictions": (predictions, (9.0, 3.0)),
}


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "_static")
    args = parser.parse_args()
    for name in args.only:
        draw, size = PICTURES[name]
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        for axes in figure.axes:
            axes.title.set_fontsize(9)
        path = args.out / f"learn_{name}.png"
        figure.savefig(path, dpi=90)
        print(path)


if __name__ == "__main__":
    main()
