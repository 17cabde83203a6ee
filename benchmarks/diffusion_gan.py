"""Compare denoising diffusion GANs with diffusion models of the same size at few evaluations.

    python benchmarks/diffusion_gan.py [--data ring] [--seeds 3] [--minutes 6] [--samples 2000]

DATA is ring, moons or digits. Trains GANs of 1 (a plain GAN), 2 and 4 steps and a denoiser of the same network, with as
many CPU minutes each, and samples the denoiser by DDIM at 2 and 4 evaluations and by the default solver at 4 and 21.
Frechet and energy distance, precision and recall are of coordinates or pixels, against a held-out set. A mode, a
component of the ring or a digit, is covered if its share of the samples is at least a quarter of its share of the data;
a sample has the mode of the nearest held-out point. Standard errors are over trainings of other seeds. Null: a Gaussian
fitted to the data; ceiling: other data. Prints a table, and writes JSON and a picture.
"""

import argparse
import copy
import json
import math
import resource
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import machine
from sde_gen.cli import console
from sde_gen.data import Digits, Moons, Ring, Splits
from sde_gen.data.codec import Affine, UniformCodec
from sde_gen.denoiser import Denoiser, DenoisingGAN, NetworkDenoiser
from sde_gen.denoiser.parametrization import X0
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.pixels import Pixels
from sde_gen.evaluation.metric import EnergyDistance, FrechetDistance, PrecisionRecall
from sde_gen.grid import Uniform
from sde_gen.model import MLP, Conditions, Encoder, GeneratorPair, NCSNpp, VectorEncoder
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.objective import DSM, DiffusionGAN
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.solver import DDIM, GANAncestral
from sde_gen.training import HalfLifeEMA
from sde_gen.utils import atomic
from sde_gen.utils.images import save_figure

BATCH, LATENT, LR = 256, 8, 1e-3
PENALTY = 0.05
STEPS = (1, 2, 4)
SHOWN = 1000
"""Samples in the picture."""


def load(name: str) -> Splits:
    """Load points in the plane, or digits; both splits."""
    if name == "digits":
        return Digits().load()
    source = Ring if name == "ring" else Moons
    return source(count=50_000, test_count=4_000).load()


def modes(name: str, splits: Splits) -> Tensor | None:
    """Return the modes of held-out data, with shape (n,); None for moons."""
    if name == "ring":
        x, y = splits.test.values.double().unbind(1)
        return torch.round(torch.atan2(y, x) * 8 / (2 * math.pi)).long() % 8
    return splits.test.labels


def network(shape: tuple[int, ...], vector: int) -> nn.Module:
    """Make a network of a denoiser, or with a vector that of a generator."""
    inputs = Conditions(vector=vector)
    if len(shape) == 1:
        return MLP(shape=shape, width=64, depth=2, inputs=inputs)
    return NCSNpp(shape=shape, width=16, multipliers=(1, 2), blocks=1, attention_levels=(), inputs=inputs)


def classifier(shape: tuple[int, ...]) -> Any:
    """Return the constructor of the discriminator's network."""
    if len(shape) == 1:
        return partial(VectorEncoder, width=64, depth=2)
    return partial(Encoder, width=16, attention_levels=())


def cpu_seconds() -> float:
    """CPU time of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def train(x: Tensor, seed: int, seconds: float, gan: DiffusionGAN | None) -> tuple[Denoiser, int]:
    """Train a generator, or without objective a denoiser, for CPU seconds; return its average and the steps taken."""
    torch.manual_seed(seed)
    shape, sde = tuple(x.shape[1:]), VP()
    if gan is None:
        model: NetworkDenoiser = NetworkDenoiser(net=network(shape, 0), sde=sde)
        objective: Any = DSM()
    else:
        pair = GeneratorPair(
            generator=network(shape, gan.latent),
            discriminator=gan.discriminator,
            shape=shape,
            latent=gan.latent,
        )
        model, objective = DenoisingGAN(net=pair, sde=sde, parametrization=X0()), gan
    average = copy.deepcopy(model).requires_grad_(False)
    adam = torch.optim.Adam(model.parameters(), lr=LR, betas=(0.9, 0.999) if gan is None else (0.5, 0.9))
    generator, noise, ema = torch.Generator().manual_seed(seed), IID.seeded(seed), HalfLifeEMA(images=100_000)
    begin, step = cpu_seconds(), 0
    while (spent := cpu_seconds() - begin) < seconds:
        for group in adam.param_groups:
            group["lr"] = LR * min(1.0, 2 * (1 - spent / seconds) + 0.01)
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        adam.zero_grad()
        objective(model, x[rows], noise=noise).per_sample.mean().backward()
        adam.step()
        step += 1
        decay = ema.decay(step, BATCH * step, BATCH)
        with torch.no_grad():
            torch._foreach_lerp_([*average.parameters()], [*model.parameters()], 1 - decay)
    return average.eval(), step


def measure(x: Tensor, reference: Tensor, labels: Tensor | None) -> dict[str, float]:
    """Compute the metrics of samples with shape (n, *event)."""
    found, held_out = (
        FeatureSet(what=what, features=values.flatten(1).float())
        for what, values in (("x", x), ("y", reference))
    )
    distances = [
        kind(features=Pixels()).compare(found, held_out) for kind in (FrechetDistance, EnergyDistance)
    ]
    precision, recall = PrecisionRecall(features=Pixels()).compare(found, held_out).quantities.values()
    row = {"frechet": distances[0].value, "energy": distances[1].value}
    row |= {"precision": precision.value, "recall": recall.value}
    if labels is not None:
        nearest = labels[torch.cdist(x.flatten(1), reference.flatten(1)).argmin(1)]
        count = int(labels.max()) + 1
        shares = [torch.bincount(part, minlength=count) / len(part) for part in (nearest, labels)]
        row["modes"] = float((shares[0] >= 0.25 * shares[1]).sum())
    return row


def main() -> None:
    """Train, sample and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=("ring", "moons", "digits"), default="ring")
    parser.add_argument("--seeds", type=machine.rounds, default=3)
    parser.add_argument("--minutes", type=float, default=6.0, help="CPU minutes of all trainings")
    parser.add_argument("--samples", type=machine.count, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    splits = load(args.data)
    codec = UniformCodec(levels=splits.train.levels) if args.data == "digits" else Affine()
    x, reference = (codec.encode(part.values, IID.seeded(0)).float() for part in (splits.train, splits.test))
    labels, shape = modes(args.data, splits), tuple(x.shape[1:])
    seconds = 60 * args.minutes / args.seeds / (len(STEPS) + 1)
    fitted = Sampler(solver=DDIM(), steps=1)
    samplers = {"DDIM": {2: fitted, 4: Sampler(solver=DDIM(), steps=3)}}
    samplers["default solver"] = {4: Sampler(steps=3), 21: Sampler(steps=20)}
    about = {
        "parameters_of_the_network": sum(weight.numel() for weight in network(shape, 0).parameters()),
        "settings": {"batch": BATCH, "latent": LATENT, "lr": LR, "penalty": PENALTY, "samples": args.samples},
        "cpu_seconds_of_a_training": seconds,
    }
    rows: dict[str, list[dict[str, float]]] = {}
    pictures: dict[str, Tensor] = {}
    taken: dict[str, list[int]] = {}

    def add(name: str, samples: Tensor) -> None:
        rows.setdefault(name, []).append(measure(samples, reference, labels))
        pictures.setdefault(name, samples[:SHOWN])

    def draw(model: Denoiser, sampler: Sampler, seed: int) -> Tensor:
        seeds = spawn_seeds(seed, args.samples)
        parts = [seeds[first : first + 500] for first in range(0, args.samples, 500)]
        return torch.cat([sampler(model, (len(part), *shape), noise=PerSample(part)) for part in parts])

    for seed in range(args.seeds):
        for steps in STEPS:
            gan = DiffusionGAN(steps=steps, latent=LATENT, penalty=PENALTY, discriminator=classifier(shape))
            model, count = train(x, seed, seconds, gan)
            name = "GAN, 1 evaluation" if steps == 1 else f"diffusion GAN, {steps} evaluations"
            taken.setdefault(name, []).append(count)
            sampler = Sampler(solver=GANAncestral(), grid=Uniform(), steps=steps)
            add(name, draw(model, sampler, seed))
        model, count = train(x, seed, seconds, None)
        taken.setdefault("denoiser", []).append(count)
        for solver, by_nfe in samplers.items():
            for nfe, sampler in by_nfe.items():
                add(f"{solver}, {nfe} evaluations", draw(model, sampler, seed))
        generator = torch.Generator().manual_seed(seed)
        flat = x.flatten(1).double()
        normal = torch.distributions.MultivariateNormal(
            flat.mean(0), flat.T.cov() + 1e-6 * torch.eye(flat.shape[1])
        )
        torch.manual_seed(seed)
        add("null: a Gaussian", normal.sample((args.samples,)).float().reshape(-1, *shape))
        add("ceiling: other data", x[torch.randperm(len(x), generator=generator)[: args.samples]])
        if seed > 0:  # a training of hours may be stopped
            report(args, seed + 1, rows, pictures, facts=about | {"steps_of_training": taken})


def report(
    args: argparse.Namespace,
    seeds: int,
    rows: dict[str, list[dict[str, float]]],
    pictures: dict[str, Tensor],
    facts: dict[str, Any],
) -> None:
    """Print the table of the seeds so far, and write it with a picture of points in the plane."""
    table = {name: summary(found) for name, found in rows.items()}
    columns = list(next(iter(table.values())))
    console.print_summary(
        f"{args.data}, {seeds} seeds",
        ["", *columns],
        [
            [name, *(f"{row[key][0]:.4f} +- {row[key][1]:.4f}" for key in columns)]
            for name, row in table.items()
        ],
    )
    found = {"data": args.data, "seeds": seeds, "rows": table, **facts, **machine.about(torch.device("cpu"))}
    args.out.mkdir(parents=True, exist_ok=True)
    place = args.out / f"diffusion_gan_{args.data}.json"
    atomic.write(place, json.dumps(found, indent=1) + "\n")
    if next(iter(pictures.values())).ndim == 2:
        picture(pictures, table, place.with_suffix(".png"))


def summary(found: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard error over the seeds."""
    columns = {key: torch.tensor([row[key] for row in found], dtype=torch.float64) for key in found[0]}
    return {key: (float(v.mean()), float(v.std() / math.sqrt(len(v)))) for key, v in columns.items()}


def picture(points: dict[str, Tensor], table: dict[str, dict[str, tuple[float, float]]], path: Path) -> None:
    """Save the samples of the first seed, with the energy distance."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, (len(points) + 1) // 2, sharex=True, sharey=True).flatten()
    for ax, (name, x) in zip(axes, points.items(), strict=False):
        ax.scatter(*x.T.tolist(), s=1, linewidths=0)
        value, error = table[name]["energy"]
        ax.set_title(f"{name}\nenergy distance {value:.4f} ± {error:.4f}", fontsize=8)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xticks=[], yticks=[])
    for ax in axes[len(points) :]:
        ax.set_axis_off()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
