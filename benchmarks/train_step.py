"""Time the training step: ours, with each of its levers taken away, beside a plain one and diffusers' network.

    python -m benchmarks.train_step [--rounds 8] [--steps 2] [--compiled] [--device auto] [--out FOLDER]
    pip install diffusers==0.42.1      # the peer; may be missing

A step is perturbation, loss of the noise, backward, clip, Adam and average of the weights, on random 32x32 images. Ours
is ``Trainer.step``; the others are described in benchmarks/train_step_variants.py.

All take turns for a few steps a round, so that a change of the machine's load meets all of them: ratios are of one
round, to the first row, and so is their spread over rounds (quartiles). FLOPs are those of convolutions and products,
forward and backward, as PyTorch counts them. On CUDA the network is that of CIFAR-10 (62 million parameters) in batches
of 256. Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine
from benchmarks.machine import quartiles
from benchmarks.train_step_variants import CIFAR10, SIDE, SMALL, Size, variants
from sde_gen.cli import build, console
from sde_gen.training.precision import exact_float32
from sde_gen.utils.timing import synchronize


def gflops(net: nn.Module, device: torch.device) -> float:
    """FLOPs of forward and backward for one image, in 10^9."""
    x = torch.randn(1, 3, SIDE, SIDE, device=device)
    counter = FlopCounterMode(display=False)
    with counter:
        net(x, torch.ones(1, device=device)).sum().backward()
    for parameter in net.parameters():
        parameter.grad = None
    return counter.get_total_flops() / 1e9


def timed(
    built: Sequence[tuple[str, nn.Module, Callable[[int], object]]],
    size: Size,
    device: torch.device,
    *,
    rounds: int,
    steps: int,
) -> dict[str, list[float]]:
    """Images per second of every round by name, in turns; what does not fit into memory is named and left out."""
    speeds: dict[str, list[float]] = {name: [] for name, _, _ in built}
    for number in range(rounds + 1):
        for name, net, step in built:
            if name not in speeds:
                continue
            fits = True
            synchronize(device)
            begin = time.perf_counter()
            try:
                for index in range(steps):
                    step(number * steps + index)
            except torch.OutOfMemoryError:
                fits = False
            synchronize(device)
            if fits and number > 0:  # the first round warms up
                speeds[name].append(steps * size.batch / (time.perf_counter() - begin))
            if not fits:
                del speeds[name]
                net.zero_grad(set_to_none=True)
                console.console.print(f"left out: {name}: out of memory", soft_wrap=True)
    return speeds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="time compiled blocks too, and CUDA graphs where there are any: minutes on a CPU",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    if arguments.rounds < 2 or arguments.steps < 1:
        parser.error("--rounds must be at least 2, as one shows no spread, and --steps at least 1")
    try:
        device = build.device(arguments.device)
    except ValueError as error:
        parser.error(str(error))
    exact_float32()
    size = CIFAR10 if device.type == "cuda" else SMALL
    with tempfile.TemporaryDirectory() as folder:
        built = list(variants(size, device, folder, compiled=arguments.compiled))
        flops = [gflops(net, device) for _, net, _ in built]
        speeds = timed(built, size, device, rounds=arguments.rounds, steps=arguments.steps)
    first, rows = speeds.get(built[0][0]), []
    if first is None:
        raise SystemExit(f"{built[0][0]}, which all ratios are to, does not fit into memory")
    for (name, net, _), work in zip(built, flops, strict=True):
        if name not in speeds:
            continue
        found = speeds[name]
        ratios = [a / b for a, b in zip(found, first, strict=True)]
        low, middle, high = quartiles(ratios)
        images = statistics.median(found)
        rows.append(
            {
                "name": name,
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "gflop_per_image": work,
                "images_per_second": images,
                "gflop_per_second": work * images,
                "ratio": middle,
                "ratio_quartiles": [low, high],
            }
        )
    about = {
        "size": vars(size),
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        **machine.about(device),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"train_step_{device.type}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"training step, {machine.name(about)}, batch {size.batch}",
        ["", "M param.", "GFLOP/image", "images/s", "GFLOP/s", "ratio", "quartiles"],
        [
            [
                row["name"],
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['gflop_per_image']:.2f}",
                f"{row['images_per_second']:.1f}",
                f"{row['gflop_per_second']:.0f}",
                f"{row['ratio']:.2f}",
                "{:.2f} to {:.2f}".format(*row["ratio_quartiles"]),
            ]
            for row in rows
        ],
    )
    console.console.print(str(path))


if __name__ == "__main__":
    main()
