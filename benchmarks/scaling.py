"""Time training on one process and on several: images per second and efficiency.

    python benchmarks/scaling.py [--processes 1 2] [--teams ddp fsdp] [--steps 8] [--rounds 3]
                                 [--device cpu] [--batch N] [--out FOLDER]

Weak scaling: every process has ``--batch`` images of a step (16, on CUDA 128), so N processes have N times the global
batch, and the efficiency is images/s over N times those of one process. Every row is a separate ``torchrun``, in
which each process has one thread on a CPU (gloo) or one GPU (nccl). Rounds go through all rows in turn, so that a
change of the machine's load meets all; printed are the median over rounds and the range of the efficiency. On a CPU
processes share memory and caches, so this says little of GPUs: use ``--device cuda --processes 1 2 4 8``. Prints a
table and writes JSON with machine, commit and versions.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from sde_gen.cli import build, console
from sde_gen.cli.config_files import CONF, names
from sde_gen.cli.versions import package_versions
from sde_gen.data import Dataset, Splits
from sde_gen.distributed.strategy import init_distributed
from sde_gen.training.precision import exact_float32
from sde_gen.utils.timing import synchronize

NETWORKS = {
    "cpu": ["model.width=32", "model.multipliers=[1,2]", "model.blocks=1", "model.attention_levels=[]"],
    "cuda": ["model.width=128", "model.multipliers=[1,2,2,2]", "model.blocks=4"],
}


def data() -> Splits:
    """Random images: a step takes as long on them."""
    values = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8)
    images = Dataset(values=values, labels=None, levels=256, classes=0)
    return Splits(train=images, test=images)


def work(team: str, device: str, batch: int, steps: int) -> None:
    """Train as one of the processes; the first one prints images per second."""
    size = int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    exact_float32()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [
            f"engine.batch_size={batch * size}",
            f"distributed={team}",
            f"device={device}",
            f"run={folder}",
        ]
        config = compose("train", ["model=ddpmpp", *NETWORKS[device], *overrides])
        with init_distributed(partial(instantiate, config.team)) as members:
            trainer = build.trainer(config, data(), strategy=members)
            trainer.denoiser.train()
            for step in range(2):
                trainer.step(step)
            synchronize(trainer.device)
            begin = time.perf_counter()
            for step in range(2, 2 + steps):
                trainer.step(step)
            members.any(False)
            synchronize(trainer.device)
            if members.rank == 0:
                print(f"SPEED {batch * size * steps / (time.perf_counter() - begin)}")


def measured(processes: int, team: str, arguments: argparse.Namespace) -> float:
    """Images per second of one torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [__file__, "--worker", team, "--device", arguments.device]
    command += ["--batch", str(arguments.batch), "--steps", str(arguments.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{processes} processes of distributed={team} failed:\n{done.stderr}")
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("SPEED"))


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with an error in a line for what a process would fail with."""
    arguments.batch = arguments.batch or (128 if arguments.device == "cuda" else 16)
    if min(arguments.rounds, arguments.steps, arguments.batch, *arguments.processes) < 1:
        parser.error("--rounds, --steps, --batch and --processes must be at least 1")
    unknown = set(arguments.teams) - set(names("distributed"))
    if unknown:
        parser.error(f"--teams {', '.join(unknown)}: there are {', '.join(names('distributed'))}")
    there = torch.cuda.device_count()
    if arguments.device == "cuda" and there < max(arguments.processes):
        parser.error(
            f"--processes {max(arguments.processes)}: every process needs its own GPU, and there are {there}"
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--teams", nargs="+", default=["ddp", "fsdp"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, help="images of a process")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.device, arguments.batch, arguments.steps)
        return
    check(parser, arguments)
    kinds = [(team, processes) for team in arguments.teams for processes in sorted({1, *arguments.processes})]
    speeds: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for team, processes in kinds:
            speeds[team, processes].append(measured(processes, team, arguments))
    rows: list[dict[str, Any]] = []
    for (team, processes), found in speeds.items():
        efficiency = [speed / (processes * one) for speed, one in zip(found, speeds[team, 1], strict=True)]
        rows.append(
            {
                "team": team,
                "processes": processes,
                "images_per_second": statistics.median(found),
                "efficiency": statistics.median(efficiency),
                "efficiency_range": [min(efficiency), max(efficiency)],
            }
        )
    about = {
        **{name: getattr(arguments, name) for name in ("device", "batch", "steps", "rounds")},
        "network": NETWORKS[arguments.device],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if arguments.device == "cuda" else None,
        "versions": package_versions(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"scaling_{arguments.device}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"training on {arguments.device}, {arguments.batch} images a process",
        ["team", "processes", "images/s", "efficiency", "range"],
        [
            [
                row["team"],
                str(row["processes"]),
                f"{row['images_per_second']:.1f}",
                f"{row['efficiency']:.2f}",
                "{:.2f} to {:.2f}".format(*row["efficiency_range"]),
            ]
            for row in rows
        ],
    )
    console.console.print(str(path))


if __name__ == "__main__":
    main()
