"""Time an evaluation of the probability flow with its divergence, in units of one forward pass of the network.

    python -m benchmarks.likelihood_cost [--rounds 7] [--batch 16] [--probes 1 2 4 8] [--device auto] [--out FOLDER]

The divergence is Hutchinson's, of K probes. Ours evaluates the field once and makes K products with its Jacobian from
that, one after the other (``chunk=1``) or all at once (``chunk=K``). Beside it stand the ways of others, written out
here: a forward pass for the velocity and another one for every product, as in score_sde_pytorch; and the batch repeated
K times, one product of it. All get the same probes, and each one's answer is held against ours before it is timed. They
take turns, a bare forward pass without gradients first; ratios to that are of one round, and so are their quartiles.

On CUDA the network is that of CIFAR-10 (DDPM++, 62 million parameters, random weights) and the script also times the
log-density of whole batches with ``integrator=adams`` and one probe, for --seconds, and computes the time of 10,000
images from that. Prints tables and writes JSON with machine, commit and versions.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.machine import about, count, name, quartiles, rounds, seconds
from sde_gen.cli import console
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import EDM
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Hutchinson
from sde_gen.likelihood.flow import MIDDLE, Flow
from sde_gen.model import DDPMpp
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.ode import Adams
from sde_gen.ode.time_variable import AngleVariable
from sde_gen.sde import VP
from sde_gen.training.precision import exact_float32

Field = Callable[[Tensor], Tensor]
Way = Callable[[], tuple[Tensor, Tensor]]
SHAPE = (3, 32, 32)
NETWORKS = {
    "cpu": {"width": 32, "multipliers": (1, 2, 2), "blocks": 2},
    "cuda": {"width": 128, "multipliers": (1, 2, 2, 2), "blocks": 4},
}
IMAGES = 10_000


def forms(products: Tensor, probes: Tensor) -> Tensor:
    """``v^T J v`` of products and probes with shape (K, B, *event): shape (B, K)."""
    return (products * probes).flatten(2).sum(2, dtype=torch.float64).T


def two_passes(field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """A forward pass for the velocity, and one with a backward pass for every probe."""
    with torch.no_grad():
        value = field(x)
    products = []
    for probe in probes:
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            products.append(torch.autograd.grad(field(y), y, probe)[0])
    return value, forms(torch.stack(products), probes)


def repeated(field: Field, x: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """The batch once for every probe, and one backward pass."""
    with torch.enable_grad():
        y = x.repeat(len(probes), *[1] * (x.ndim - 1)).requires_grad_()
        out = field(y)
        (products,) = torch.autograd.grad(out, y, probes.flatten(0, 1))
    return out[: len(x)].detach(), forms(products.view_as(probes), probes)


def ways(flow: Flow, x: Tensor, probes: Tensor) -> Iterator[tuple[str, Way]]:
    """Everybody's evaluation of the field and its divergence, ours first."""
    u = torch.tensor(0.8, dtype=torch.float64)
    field = flow.at(u)

    def ours(chunk: int) -> Way:
        evaluation = Hutchinson(probes=len(probes), chunk=chunk, fresh=False).prepare(x, Given(probes))
        return lambda: evaluation(field, x)

    yield "ours", ours(1)
    if len(probes) > 1:
        yield "ours, all at once (vmap)", ours(len(probes))
        yield "batch repeated", lambda: repeated(field, x, probes)
    yield "a pass for each, as score_sde", lambda: two_passes(field, x, probes)


class Given(IID):
    """Noise that is known: the probes, one after the other, as sign vectors are drawn."""

    def __init__(self, probes: Tensor) -> None:
        super().__init__(torch.Generator())
        self.probes = iter(probes)

    def normal(self, x: Tensor) -> Tensor:
        """The next one, whose signs are what counts."""
        return next(self.probes)


def check(name: str, found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    """Raise an error if a method computes something else."""
    for mine, original in zip(found, expected, strict=True):
        gap = float((mine - original).norm() / original.norm())
        if gap > 1e-3:
            raise SystemExit(f"{name} answers something else: it is off by {gap:.1e}")


def cost(denoiser: NetworkDenoiser, number: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every estimator with the given number of probes, in forward passes."""
    device, shape = arguments.device, (arguments.batch, *SHAPE)
    x = torch.randn(shape, device=device)
    probes = torch.randint(0, 2, (number, *shape), device=device).float() * 2 - 1
    flow = Flow(denoiser, AngleVariable(denoiser.sde, MIDDLE), Hutchinson().prepare(x, IID.seeded(0)))
    contestants = dict(ways(flow, x, probes))
    label = torch.zeros(len(x), device=device)
    times: dict[str, list[float]] = {way: [] for way in ("forward", *contestants)}
    with torch.no_grad():
        expected = contestants["ours"]()
        for way, work in contestants.items():
            check(way, work(), expected)
        for _ in range(arguments.rounds):
            for way, work in {"forward": lambda: denoiser.net(x, label), **contestants}.items():
                times[way].append(seconds(work, device))
    return [
        {
            "probes": number,
            "way": way,
            "milliseconds": 1e3 * quartiles(times[way])[1],
            "forward_passes": quartiles([a / b for a, b in zip(times[way], times["forward"], strict=True)]),
        }
        for way in contestants
    ]


def throughput(denoiser: NetworkDenoiser, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of many images, from the batches that fit into the time."""
    device, batch, integrator = arguments.device, arguments.large, Adams()
    x = torch.rand(batch, *SHAPE, device=device) * 2 - 1
    noise = PerSample(spawn_seeds(0, batch))

    @torch.no_grad()
    def solve() -> float:
        return log_prob(denoiser, x, integrator=integrator, divergence=Hutchinson(), noise=noise).nfe

    nfe, spent, batches = solve(), 0.0, 0
    while batches == 0 or spent < arguments.seconds:
        spent, batches = spent + seconds(solve, device), batches + 1
    images = batch * batches / spent
    return {
        "batch": batch,
        "nfe": nfe,
        "images_per_second": images,
        "batches": batches,
        "seconds": IMAGES / images,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=rounds, default=7)
    parser.add_argument("--batch", type=count, default=16)
    parser.add_argument("--probes", type=count, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--large", type=count, default=256, help="batch of the throughput")
    parser.add_argument("--seconds", type=float, default=60, help="of the throughput, at least")
    parser.add_argument("--device", type=machine.device, default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    exact_float32()  # or ways that answer the same would differ by more than the check allows
    device = arguments.device
    torch.manual_seed(0)
    net = DDPMpp(shape=SHAPE, **NETWORKS[device.type])
    for parameter in net.parameters():  # the last layers begin as zeros, of which all ways make the same
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    denoiser = (
        NetworkDenoiser(net=net, sde=VP(), parametrization=EDM()).to(device).eval().requires_grad_(False)
    )
    rows = [row for number in arguments.probes for row in cost(denoiser, number, arguments)]
    found = throughput(denoiser, arguments) if device.type == "cuda" else None
    facts = {**about(device), "rounds": arguments.rounds, "batch": arguments.batch}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"likelihood_cost_{device.type}.json"
    path.write_text(json.dumps({**facts, "rows": rows, "throughput": found}, indent=1) + "\n")
    console.print_summary(
        f"field and divergence, {name(facts)}, batch {arguments.batch}, float32",
        ["", "probes", "ms", "forward passes", "quartiles"],
        [
            [
                row["way"],
                str(row["probes"]),
                f"{row['milliseconds']:.0f}",
                f"{row['forward_passes'][1]:.2f}",
                "{0:.2f} to {2:.2f}".format(*row["forward_passes"]),
            ]
            for row in rows
        ],
    )
    if found is not None:
        console.print_table("likelihood", {key: f"{value:.4g}" for key, value in found.items()})
    console.console.print(str(path), soft_wrap=True)


if __name__ == "__main__":
    main()
