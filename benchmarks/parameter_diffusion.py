"""Diffusion of network parameters on a small classifier of digits, beside what is simpler.

    python -m benchmarks.parameter_diffusion [--networks 300] [--steps 3000] [--seeds 0] [--picture FILE.png]

Networks of 64, 16 and 10 units (1,210 numbers) are trained on 1,000 digits and tested on the other 797, in four ways:

* one run: the last steps of one training, the way of the paper;
* basins: the last steps of four trainings with other initial weights;
* independent: trainings with other initial weights;
* aligned: the same, with hidden units permuted to match those of the first network (Ainsworth et al., 2022,
  arXiv:2209.04836, by SciPy's linear_sum_assignment).

A diffusion model is trained on their principal components (the codec ``principal``). Beside its networks stand, with
standard errors over networks: the originals; a Gaussian with mean and covariance of the same components; the originals
with noise as long as the distance of the generated networks to the nearest original; the mean of all weights (the soup
of Wortsman et al., 2022, arXiv:2203.05482); and the originals after the codec. No choice is made by the test digits.

Source: Wang et al., 2024, arXiv:2402.13144.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sde_gen.data import Column, Dataset, Digits
from sde_gen.data.codec import Principal
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.model import MLP
from sde_gen.noise import IID
from sde_gen.objective import DSM
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.utils import atomic

ROOT = Path(__file__).resolve().parents[1]
HIDDEN, CLASSES, PIXELS, TRAIN = 16, 10, 64, 1000
LAYOUT = (
    Column(name="0.bias", shape=(HIDDEN,)),
    Column(name="0.weight", shape=(HIDDEN, PIXELS)),
    Column(name="2.bias", shape=(CLASSES,)),
    Column(name="2.weight", shape=(CLASSES, HIDDEN)),
)
"""Tensors of ``nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))``, in the order of a vector."""


class Images(NamedTuple):
    """Pixels in [0, 1] with shape (N, 64), and classes."""

    x: Tensor
    label: Tensor


def images() -> tuple[Images, Images]:
    """Return 1,000 digits for training and the others for tests."""
    splits = Digits(test_fraction=797 / 1797).load()
    train, test = (Images(p.values.flatten(1).float() / 16, p.labels) for p in (splits.train, splits.test))
    assert len(train.x) == TRAIN
    return train, test


def logits(w: Tensor, x: Tensor) -> Tensor:
    """Evaluate networks (N, D) on images of every network (N, B, 64): (N, B, 10)."""
    b0, w0, b2, w2 = (
        part.reshape(len(w), *column.shape)
        for part, column in zip(w.split([column.size for column in LAYOUT], dim=1), LAYOUT, strict=True)
    )
    h = F.relu(torch.baddbmm(b0[:, None], x.expand(len(w), -1, -1), w0.mT))
    return torch.baddbmm(b2[:, None], h, w2.mT)


def initial(count: int, generator: torch.Generator) -> Tensor:
    """Draw the default initial weights of PyTorch's layers."""
    parts = []
    for column, inputs in zip(LAYOUT, (PIXELS, PIXELS, HIDDEN, HIDDEN), strict=True):
        uniform = 2 * torch.rand(count, column.size, generator=generator) - 1
        parts.append(uniform / inputs**0.5)
    return torch.cat(parts, dim=1)


def trainings(count: int, steps: int, last: int, data: Images, seed: int) -> Tensor:
    """Train networks at once, each with its batches of 100 digits; return the weights of the last steps, one by one."""
    generator = torch.Generator().manual_seed(seed)
    w = initial(count, generator).requires_grad_()
    optimizer, kept = torch.optim.Adam([w], lr=3e-3), []
    for step in range(steps):
        index = torch.randint(len(data.x), (count, 100), generator=generator)
        out = logits(w, data.x[index])
        loss = F.cross_entropy(out.flatten(0, 1), data.label[index].flatten(), reduction="sum") / 100
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= steps - last:
            kept.append(w.detach().clone())
    return torch.cat(kept)


def align(w: Tensor) -> Tensor:
    """Permute the hidden units of every network to match those of the first: their sum of products is the largest."""
    aligned, sizes = [w[0]], [column.size for column in LAYOUT]
    b0, w0, _, w2 = (p.reshape(c.shape) for p, c in zip(w[0].split(sizes), LAYOUT, strict=True))
    first = torch.cat([b0[:, None], w0, w2.T], dim=1)
    for row in w[1:]:
        b0, w0, b2, w2 = (p.reshape(c.shape) for p, c in zip(row.split(sizes), LAYOUT, strict=True))
        units = torch.cat([b0[:, None], w0, w2.T], dim=1)
        _, order = linear_sum_assignment((first @ units.T).numpy(), maximize=True)
        order = torch.from_numpy(order)
        aligned.append(torch.cat([b0[order], w0[order].flatten(), b2, w2[:, order].flatten()]))
    return torch.stack(aligned)


def diffusion(x: Tensor, steps: int, seed: int) -> NetworkDenoiser:
    """Train a denoiser on components (N, K)."""
    torch.manual_seed(seed)
    net, noise = MLP(shape=(x.shape[1],), width=128, depth=3), IID.seeded(seed)
    denoiser, objective = NetworkDenoiser(net=net, sde=VP()), DSM()
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        batch = x[torch.randint(len(x), (128,), generator=generator)]
        optimizer.zero_grad()
        objective(denoiser, batch, noise=noise).per_sample.mean().backward()
        optimizer.step()
        average.update_parameters(net)
    return NetworkDenoiser(net=average.module.eval(), sde=VP())


def wrong(w: Tensor, test: Images) -> Tensor:
    """Return which test images are classified wrongly, bool with shape (N, B)."""
    with torch.no_grad():
        return torch.cat([logits(part, test.x[None]).argmax(2) != test.label for part in w.split(50)])


def overlap(a: Tensor, b: Tensor, *, same: bool = False) -> float:
    """Return the mean intersection over union of the errors of two sets of networks, a network not with itself."""
    a, b = a.double(), b.double()
    both = a @ b.T
    ratio = both / (a.sum(1)[:, None] + b.sum(1) - both).clamp(min=1)
    pairs = ~torch.eye(len(a), dtype=torch.bool) if same else torch.ones_like(ratio, dtype=torch.bool)
    return float(ratio[pairs].mean())


def accuracy(w: Tensor, test: Images) -> dict[str, float]:
    """Return mean, its standard error over networks, and the best, in percent."""
    right = 100 * (1 - wrong(w, test).double().mean(1))
    se = {"se": float(right.std()) / len(w) ** 0.5} if len(w) > 1 else {}
    return {"mean": float(right.mean()), **se, "best": float(right.max())}


def compare(w: Tensor, test: Images, components: int, steps: int, seed: int) -> dict[str, Any]:
    """Train a diffusion model on networks, and compare its networks with the simpler ones."""
    codec = Principal(components=min(components, len(w) - 1)).fit(
        Dataset(values=w, levels=None, columns=LAYOUT)
    )
    x, count, noise = codec.encode(w), 100, IID.seeded(seed + 1)
    model = diffusion(x, steps, seed)
    made = codec.decode(Sampler()(model, (count, x.shape[1]), noise=noise))
    gaussian = torch.distributions.MultivariateNormal(
        x.mean(0), torch.cov(x.T) + 1e-6 * torch.eye(x.shape[1])
    )
    torch.manual_seed(seed)
    nearest = torch.cdist(made, w).min(1).values
    picked = w[torch.randperm(len(w))[:count]]
    step = noise.normal(picked)
    noised = picked + nearest.mean() * step / step.norm(dim=1, keepdim=True)
    among = torch.cdist(w, w).fill_diagonal_(torch.inf).min(1).values
    sets = {
        "originals": w,
        "generated": made,
        "Gaussian": codec.decode(gaussian.sample((count,))),
        "noised": noised,
        "soup": w.mean(0, keepdim=True),
        "reconstructed": codec.decode(x[:count]),
    }
    mistakes, of_made = wrong(picked, test), wrong(made, test)
    return {
        **{name: accuracy(each, test) for name, each in sets.items()},
        "nearest": {"generated": float(nearest.mean()), "originals": float(among.mean())},
        "overlap": {
            "generated": overlap(of_made, mistakes),
            "originals": overlap(mistakes, mistakes, same=True),
        },
    }


def checkpoints(networks: int, data: Images, seed: int) -> dict[str, Tensor]:
    """Return the networks of all four ways."""
    independent = trainings(networks, 400, 1, data, seed)
    return {
        "one run": trainings(1, 1000 + networks, networks, data, seed + 1),
        "basins": trainings(4, 1000 + networks, networks, data, seed + 2),
        "independent": independent,
        "aligned": align(independent),
    }


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the mean accuracies with two standard errors, a group a setting."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes, names = figure.subplots(), ("originals", "reconstructed", "generated", "Gaussian", "noised", "soup")
    for i, name in enumerate(names):
        at = [j + (i - 2.5) / 8 for j in range(len(rows))]
        bars = [2 * row[name].get("se", 0.0) for row in rows]
        axes.errorbar(at, [row[name]["mean"] for row in rows], bars, fmt="o", markersize=5, label=name)
    axes.set_xticks(range(len(rows)), [row["setting"] for row in rows])
    axes.set(ylabel="accuracy on test images, %", ylim=(0, 100))
    figure.legend(fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--components", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "parameter_diffusion.json"
    )
    parser.add_argument("--picture", type=Path, help="a file .png of the accuracies with the first seed")
    args = parser.parse_args(arguments)
    train, test = images()
    rows: list[dict[str, Any]] = []
    settings = {"components": args.components, "steps": args.steps, "rows": rows}
    for seed in args.seeds:
        for name, w in checkpoints(args.networks, train, 100 * seed).items():
            begin = time.process_time()
            found = compare(w, test, args.components, args.steps, seed)
            rows.append({"setting": name, "seed": seed, "networks": len(w), **found})
            print(
                f"{name}, seed {seed}, {len(w)} networks, {time.process_time() - begin:.0f} s of CPU",
                flush=True,
            )
            for what, value in found.items():
                print(
                    f"  {what:14}",
                    " ".join(f"{key} {number:.2f}" for key, number in value.items()),
                    flush=True,
                )
            atomic.write(args.out, json.dumps(settings, indent=1))
    if args.picture:
        picture([row for row in rows if row["seed"] == args.seeds[0]], args.picture)


if __name__ == "__main__":
    main()
