"""Time saving and loading of checkpoints, and the memory of the host that they take, in one file a part and in shares.

    python -m benchmarks.checkpoint [--processes 2] [--rounds 3] [--width 128] [--device cpu] [--out FOLDER]

A DDPM++ network takes a step, so that the optimizer has its state; then it is saved and loaded again: by one process,
by replicas, of which one writes, and by processes that each keep and write a share. Every row is a ``torchrun`` of its
own. Memory is the largest that any process had resident beyond what it had just before (Linux only; pages of files
that are read count, which the system may drop at any time). ``ema`` is what ``sample`` reads, by one process. What is
read was just written, so it comes from the system's cache. Medians over rounds; prints a table and writes JSON with
machine, commit and versions.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from benchmarks import machine
from sde_gen.checkpoint import Checkpoint
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.resume import resume
from sde_gen.checkpoint.state_dict import load_into, to_tensors
from sde_gen.cli import build, console
from sde_gen.cli.config_files import CONF
from sde_gen.data import Dataset, Splits
from sde_gen.distributed.strategy import Strategy, init_distributed
from sde_gen.utils.timing import synchronize

Row = dict[str, Any]


def data() -> Splits:
    """Return random images."""
    values = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    images = Dataset(values=values, labels=None, levels=256, classes=0)
    return Splits(train=images, test=images)


def resident(what: str) -> float:
    """MiB of this process as Linux counts them: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


@contextmanager
def measured(name: str, team: Strategy, device: torch.device, row: Row) -> Iterator[None]:
    """Put seconds of the slowest process and MiB of the largest one into the row."""
    synchronize(device)
    team.any(False)
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest so far
    before, begin = resident("VmRSS"), time.perf_counter()
    yield
    synchronize(device)
    row[f"{name}_seconds"] = max(team.hear(time.perf_counter() - begin))
    row[f"{name}_mib"] = max(team.hear(resident("VmHWM") - before))


def work(kind: str, device: str, width: int) -> None:
    """Save and load as one of the processes; the first one prints what it found."""
    torch.set_num_threads(1)
    overrides = [f"model.width={width}", f"distributed={kind}", f"device={device}", "engine.batch_size=4"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["model=ddpmpp", "engine.accumulation=1", "run=unused", *overrides])
    with init_distributed(partial(instantiate, config.team)) as team:
        trainer = build.trainer(config, data(), strategy=team)
        folder = Path(team.hear(tempfile.mkdtemp())[0])
        row: Row = {"parameters": sum(x.numel() for x in trainer.denoiser.net.parameters())}
        trainer.denoiser.train()
        trainer.step(0)
        state: dict[str, Callable[[], dict[str, Tensor]]] = {
            "net": trainer.denoiser.net.state_dict,
            "ema": trainer.ema_model.net.state_dict,
            "optimizer": lambda: to_tensors(trainer.adam),
        }
        with measured("save", team, trainer.device, row):
            saved = Checkpoint(images=4, about={}, **{part: made() for part, made in state.items()})
            checkpoint.save(folder, saved, team)
        del saved
        nets = {"net": trainer.denoiser.net, "average": trainer.ema_model.net}
        with measured("load", team, trainer.device, row):
            resume(folder, **nets, adam=trainer.adam, strategy=team, about={}, batch_size=4)
        blank = build.trainer(config, data()).denoiser.net if team.rank == 0 else None
        with measured("ema", team, trainer.device, row):
            if blank is not None:
                found = checkpoint.latest(folder, ("ema",))
                assert found is not None
                load_into(blank, found.ema, what="this")
        row["files"] = len(list(folder.glob("*/*.safetensors")))
        row["mib_of_files"] = sum(file.stat().st_size for file in folder.glob("*/*")) / 2**20
        team.any(False)
        if team.rank == 0:
            subprocess.run(["rm", "-r", str(folder)], check=True)
            print("ROW " + json.dumps(row))


def run_distributed(kind: str, processes: int, arguments: argparse.Namespace) -> Row:
    """Return the row that processes under torchrun print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [
        "-m",
        "benchmarks.checkpoint",
        "--worker",
        kind,
        "--device",
        arguments.device,
        "--width",
        str(arguments.width),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{processes} processes of distributed={kind} failed:\n{done.stderr}")
    row: Row = json.loads(next(line[4:] for line in done.stdout.splitlines() if line.startswith("ROW ")))
    return row


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.device, arguments.width)
        return
    kinds = [("ddp", 1), ("ddp", arguments.processes), ("fsdp", arguments.processes)]
    found: dict[tuple[str, int], list[Row]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind in kinds:
            found[kind].append(run_distributed(*kind, arguments))
    rows = [
        {
            "team": team,
            "processes": processes,
            **{name: statistics.median(row[name] for row in seen) for name in seen[0]},
        }
        for (team, processes), seen in found.items()
    ]
    about = {
        **machine.about(torch.device(arguments.device)),
        **{name: getattr(arguments, name) for name in ("width", "rounds")},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"checkpoint_{arguments.device}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    columns = ["save_seconds", "save_mib", "load_seconds", "load_mib", "ema_seconds", "ema_mib"]
    console.print_summary(
        f"checkpoints of {rows[0]['parameters']:,} parameters, {rows[0]['mib_of_files']:.0f} MiB",
        [
            "team",
            "processes",
            *(name.replace("_", " ").replace("seconds", "s").replace("mib", "MiB") for name in columns),
        ],
        [[row["team"], str(row["processes"]), *(f"{row[name]:.2f}" for name in columns)] for row in rows],
    )
    console.console.print(str(path))


if __name__ == "__main__":
    main()
