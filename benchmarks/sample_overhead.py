"""Time samplers on networks for images: the share of time outside the network.

    python -m benchmarks.sample_overhead [--rounds 5] [--steps 6] [--batches 16 64] [--device auto] [--out FOLDER]

Everything that ``python -m sde_gen.sample`` does for a batch is timed: prior, solver steps, the last step to clean
images and the check that they are finite. Two figures are reported. ``in the sampler`` (CPU only) is the wall time
outside the network calls of a run. ``beside bare calls`` is the time of the run over that of as many network calls on
samples of the same shape, less one; the two alternate, and differences below the spread of the rounds (quartiles) are
not resolved. It includes the time that a GPU waits for the host, and cache effects of the sampler.

On CUDA the network is that of CIFAR-10 (DDPM++, 62 million parameters, random weights), and the script also gives the
images per second at 10 and 35 evaluations an image, by format and compiler, from as many batches as fit into --seconds
each; the time of 50,000 images is computed from that. The goal is a share below 3 %.

Prints tables and writes JSON with machine, commit and versions.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.machine import about, count, name, quartiles, rounds, seconds
from sde_gen.cli import console
from sde_gen.cli.config_files import load, names
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import EDM
from sde_gen.grid import Angle
from sde_gen.model import DDPMpp, NCSNpp
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.training.precision import contexts, exact_float32

SOLVERS = "dpm_solver_pp", "heun", "euler_maruyama", "straight_adams"
GOAL = 0.03
CIFAR10 = {
    "shape": (3, 32, 32),
    "width": 128,
    "multipliers": (1, 2, 2, 2),
    "blocks": 4,
    "attention_levels": (1,),
}
MANY = 50_000
UNCOMPILED = "the network is not compiled"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network and the shape of its images."""

    name: str
    net: nn.Module
    shape: tuple[int, ...]


def subjects(device: torch.device) -> Iterator[Subject]:
    """Networks of the sizes that the device is for, with random weights."""
    torch.manual_seed(0)
    if device.type == "cuda":
        yield Subject(name="DDPM++ of CIFAR-10", net=DDPMpp(**CIFAR10).to(device).eval(), shape=(3, 32, 32))
        return
    small = {"width": 32, "multipliers": (1, 2, 2), "blocks": 2}
    yield Subject(name="NCSN++ 28x28x1", net=NCSNpp(shape=(1, 28, 28), **small).eval(), shape=(1, 28, 28))
    yield Subject(name="DDPM++ 32x32x3", net=DDPMpp(shape=(3, 32, 32), **small).eval(), shape=(3, 32, 32))


class Watched(nn.Module):
    """A network that adds up the time of its calls, and counts them.

    Arguments:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.calls, self.seconds = net, 0, 0.0

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Call the network, and time it."""
        begin = time.perf_counter()
        out: Tensor = self.net(x, c_noise)
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return out


def overhead(subject: Subject, solver: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The shares of one solver on one network."""
    device = arguments.device
    net = Watched(subject.net)
    denoiser = NetworkDenoiser(net=net, sde=VP(), parametrization=EDM()).requires_grad_(False)
    sampler = Sampler(solver=instantiate(load("solver", solver)), grid=Angle(), steps=arguments.steps)
    seeds, shape = spawn_seeds(0, batch), (batch, *subject.shape)
    x, label = torch.randn(shape, device=device), torch.zeros(batch, device=device)

    def sample() -> None:
        sampler(denoiser, shape, noise=PerSample(seeds), device=device)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(calls):
            subject.net(x, label)

    sample()  # warm up
    calls, inside, beside = net.calls, [], []
    for number in range(arguments.rounds):
        net.seconds = 0.0
        taken = {work: seconds(work, device) for work in ((sample, bare) if number % 2 else (bare, sample))}
        inside.append(1 - net.seconds / taken[sample])
        beside.append(taken[sample] / taken[bare] - 1)
    found = {"network": subject.name, "solver": solver, "batch": batch, "calls": calls}
    found |= {"milliseconds_a_call": 1e3 * taken[bare] / calls, "beside_bare_calls": quartiles(beside)}
    return found if device.type == "cuda" else {**found, "in_the_sampler": quartiles(inside)}


def throughput(subject: Subject, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Images per second by evaluations, number format and compiler."""
    device, batch = arguments.device, arguments.large
    seeds, shape = spawn_seeds(0, batch), (batch, *subject.shape)
    for kind in ("eager", "blocks", "graphs"):
        for dtype in (torch.float32, torch.bfloat16):
            denoiser = NetworkDenoiser(
                net=subject.net, sde=VP(), parametrization=EDM(), context=contexts(device, dtype)
            ).requires_grad_(False)

            @torch.no_grad()
            def trial(denoiser: NetworkDenoiser = denoiser) -> None:
                denoiser(torch.zeros(shape, device=device), torch.tensor(0.5, dtype=torch.float64))

            torch._dynamo.reset()  # or code of the last format and compiler counts toward the limit of kinds
            begin = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                instantiate(load("compile", kind)).compile(subject.net, trial)
            first = time.perf_counter() - begin
            for nfe in (10, 35):
                sampler = Sampler(
                    solver=instantiate(load("solver", "straight_adams")), grid=Angle(), steps=nfe - 1
                )

                def sample(denoiser: NetworkDenoiser = denoiser, sampler: Sampler = sampler) -> None:
                    sampler(denoiser, shape, noise=PerSample(seeds), device=device)

                sample()  # warm up
                spent, batches = 0.0, 0
                while batches == 0 or spent < arguments.seconds:
                    spent, batches = spent + seconds(sample, device), batches + 1
                speed = batch * batches / spent
                yield {
                    "compile": kind,
                    "precision": str(dtype),
                    "nfe": nfe,
                    "images_per_second": speed,
                    "batches": batches,
                    "seconds_of_50000_images": MANY / speed,
                    "seconds_to_compile": first,
                    "notes": [text for note in caught if (text := str(note.message)).startswith(UNCOMPILED)],
                }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=rounds, default=5)
    parser.add_argument("--steps", type=count, default=6)
    parser.add_argument("--batches", type=count, nargs="+", default=[16, 64])
    parser.add_argument("--solvers", nargs="+", choices=names("solver"), metavar="SOLVER", default=SOLVERS)
    parser.add_argument("--large", type=count, default=512, help="batch of the throughput")
    parser.add_argument("--seconds", type=float, default=10, help="of every row of the throughput, at least")
    parser.add_argument("--device", type=machine.device, default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    exact_float32()
    rows: list[dict[str, Any]] = []
    speeds: list[dict[str, Any]] = []
    for subject in subjects(arguments.device):
        rows += [
            overhead(subject, solver, batch, arguments)
            for batch in arguments.batches
            for solver in arguments.solvers
        ]
        if arguments.device.type == "cuda":
            speeds += throughput(subject, arguments)
    facts = {**about(arguments.device), "rounds": arguments.rounds, "steps": arguments.steps, "goal": GOAL}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"sample_overhead_{arguments.device.type}.json"
    path.write_text(json.dumps({**facts, "rows": rows, "throughput": speeds}, indent=1) + "\n")
    console.print_summary(
        f"share of the time outside the network, {name(facts)}, {arguments.steps} steps",
        ["network", "solver", "batch", "calls", "ms a call", "in the sampler", "beside bare calls"],
        [
            [
                row["network"],
                row["solver"],
                str(row["batch"]),
                str(row["calls"]),
                f"{row['milliseconds_a_call']:.1f}",
            ]
            + [_percent(row.get(key)) for key in ("in_the_sampler", "beside_bare_calls")]
            for row in rows
        ],
    )
    if speeds:
        console.print_summary(
            f"images/s, batch {arguments.large}, {name(facts)}",
            ["compile", "precision", "NFE", "images/s", "50,000 images, s", "compiled in, s", "batches"],
            [
                [_compiler(row), row["precision"].removeprefix("torch."), str(row["nfe"])]
                + [
                    f"{row[key]:.0f}"
                    for key in ("images_per_second", "seconds_of_50000_images", "seconds_to_compile")
                ]
                + [str(row["batches"])]
                for row in speeds
            ],
        )
    for text in dict.fromkeys(note for row in speeds for note in row["notes"]):
        console.console.print(text, soft_wrap=True)
    console.console.print(str(path), soft_wrap=True)


def _compiler(row: dict[str, Any]) -> str:
    """Describe the execution of the network, which is eager where the compiler failed."""
    return f"{row['compile']} (failed: eager)" if row["notes"] else str(row["compile"])


def _percent(parts: tuple[float, float, float] | None) -> str:
    return "-" if parts is None else "{1:.2%} ({0:.2%} to {2:.2%})".format(*parts)


if __name__ == "__main__":
    main()
