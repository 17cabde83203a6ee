"""Draw what guidance does to a mixture in the plane, where every exact answer is known: the pictures of a page.

    python benchmarks/guidance_pictures.py [--samples 2000] [--steps 200] [--out docs/_static]

Lines are contours of an exact density, points are samples: of labels and of weaker models in the first picture, of an
inverse problem in the second.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from posterior_error import METHODS, NOISE_STD, Problem
from torch import Tensor

from sde_gen.denoiser import Denoiser, MixtureDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import LogSNR
from sde_gen.guidance import CFG, Autoguidance, ClassifierGuidance
from sde_gen.inverse.operator import Function
from sde_gen.noise import IID
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.solver import Heun, Solver

SCALE, LABEL = 3.0, 0
NEVER = torch.tensor(0.0).double()


def class_of_components(classes: int, components: int) -> Tensor:
    """Every class has separate components."""
    return torch.arange(components) % classes


class Classes(Denoiser):
    """The exact denoiser of a mixture whose components belong to classes, and its exact classifier."""

    def __init__(self, whole: MixtureDenoiser, classes: int) -> None:
        super().__init__()
        self.sde, self.whole = whole.sde, whole
        self.owner = class_of_components(classes, len(whole.means))
        covs = (whole.axes * whole.variances.unsqueeze(1)) @ whole.axes.mT
        self.parts = torch.nn.ModuleList(
            MixtureDenoiser(
                sde=whole.sde,
                means=whole.means[self.owner == k],
                covs=covs[self.owner == k],
                weights=whole.log_weights[self.owner == k].exp(),
            )
            for k in range(classes)
        )

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """The whole mixture, or with a label that class: one label a batch is enough here."""
        return self.parts[int(cond["label"][0])](x_t, t) if "label" in cond else self.whole(x_t, t)

    def log_prob(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Exact log p_t(label | x_t)."""
        r = self.whole.responsibilities(x_t, t)
        return (r * (self.owner == label.unsqueeze(1))).sum(1).log()


def petals(spread: float = 0.0) -> MixtureDenoiser:
    """Six long components around the origin; ``spread`` is the variance that a bad model adds."""
    angle = torch.arange(6).double() * torch.pi / 3
    along = torch.stack([angle.cos(), angle.sin()], 1)
    covs = 0.16 * along[:, :, None] * along[:, None, :] + (0.012 + spread) * torch.eye(2).double()
    return MixtureDenoiser(sde=VP(), means=0.9 * along, covs=covs, weights=torch.ones(6))


def places(reach: float) -> Tensor:
    """Points of a fine grid in the plane."""
    line = torch.linspace(-reach, reach, 161, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)


def panel(axes: Axes, title: str, log_density: Tensor, x: Tensor | None, reach: float) -> None:
    """Contours that hold 20, 50, 80 and 95 % of a density, and samples."""
    density = torch.exp(log_density - log_density.max())
    ordered = density.sort(descending=True).values
    held = ordered.cumsum(0) / ordered.sum()
    levels = sorted({float(ordered[torch.searchsorted(held, share)]) for share in (0.2, 0.5, 0.8, 0.95)})
    line = torch.linspace(-reach, reach, 161)
    if x is not None:
        axes.scatter(x[:, 0], x[:, 1], s=0.8, color="tab:red", linewidths=0)
    axes.contour(line, line, density.reshape(161, 161), levels=levels, colors="black", linewidths=0.5)
    axes.set(title=title, xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.title.set_fontsize(9)


def save(figure: Figure, path: Path) -> None:
    """Write a picture of few colors."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=90)
    print(path)


def canvas(rows: int, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """Square panels side by side."""
    figure = Figure(figsize=(2.1 * columns, 2.3 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns).flat)


def labels(samples: int, steps: int, out: Path) -> None:
    """One class under several guidances."""
    model, where = Classes(petals(), classes=3), places(2.0)
    label = torch.full((samples,), LABEL)
    everything = model.whole.log_prob(where, NEVER)
    wanted = model.log_prob(where, NEVER, label[:1].expand(len(where)))
    sharpened = everything + SCALE * wanted

    def draw(denoiser: Denoiser, solver: Solver = Heun()) -> Tensor:  # noqa: B008 (frozen)
        sampler = Sampler(solver=solver, grid=LogSNR(), steps=steps, denoise_final=False)
        return sampler(denoiser.bind(label=label), (samples, 2), noise=IID.seeded(0), dtype=torch.float64)

    bad, worse = (Classes(petals(spread), classes=3) for spread in (0.02, 0.08))
    figure, axes = canvas(2, 4)
    shown = [
        ("the data", everything, None),
        ("scale 1, exact", everything + wanted, CFG(denoiser=model, scale=1.0)),
        ("scale 3, the flow", sharpened, CFG(denoiser=model, scale=SCALE)),
        ("scale 3, at little noise only", sharpened, CFG(denoiser=model, scale=SCALE, ratio_max=0.3)),
        (
            "by a classifier, scale 3",
            sharpened,
            ClassifierGuidance(denoiser=model, classifier=model, scale=SCALE),
        ),
        ("a bad model", everything + wanted, bad),
        ("a worse model", everything + wanted, worse),
        (
            "the bad, guided by the worse",
            everything + wanted,
            Autoguidance(denoiser=bad, weak=worse, scale=1.4),
        ),
    ]
    for place, (title, density, denoiser) in zip(axes, shown, strict=True):
        x = model.whole.sample(samples, noise=IID.seeded(0)) if denoiser is None else draw(denoiser)
        panel(place, title, density, x, 2.0)
    save(figure, out / "guidance_labels.png")


def inverse(samples: int, steps: int, out: Path) -> None:
    """One measurement under all methods."""
    row = torch.tensor([[0.96, 0.28]]).double()
    operator = Function(function=lambda x: x @ row.to(x).T, is_linear=True)
    problem = Problem(petals(), operator, IID.seeded(5))
    where = places(2.0)
    figure, axes = canvas(2, 5)
    prior = problem.model.sample(samples, noise=IID.seeded(0))
    panel(axes[0], "the data, the measurement", problem.model.log_prob(where, NEVER), prior, 2.0)
    y, line = float(problem.y), torch.linspace(-2, 2, 3).double()
    for edge in (-2 * NOISE_STD, 2 * NOISE_STD):
        ends = (y + edge) * row + line[:, None] * torch.tensor([[-0.28, 0.96]]).double()
        axes[0].plot(ends[:, 0], ends[:, 1], color="tab:blue", linewidth=0.8)
    exact = problem.posterior.log_prob(where, NEVER)
    for place, (name, method) in zip(axes[1:], METHODS.items(), strict=True):
        solver, denoiser = method(problem)
        sampler = Sampler(solver=solver, grid=LogSNR(), steps=steps, denoise_final=False)
        x = sampler(denoiser, (samples, 2), noise=IID.seeded(0), dtype=torch.float64)
        panel(place, name, exact, x, 2.0)
    save(figure, out / "guidance_inverse.png")


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "_static")
    args = parser.parse_args()
    labels(args.samples, args.steps, args.out)
    inverse(args.samples, args.steps, args.out)


if __name__ == "__main__":
    main()
