"""Time training and evaluation by number of threads and with the measured choice, on an idle and a loaded machine.

    python -m benchmarks.threads [--rounds 3] [--threads 1 2] [--loads 0 4] [--images 1920] [--n 16] [--out FOLDER]

Every cell runs ``python -m sde_gen.train`` or ``python -m sde_gen.evaluate`` in a separate process on the digits: the
network and batches of the demo, ``engine.images=IMAGES`` to train, ``n=N`` to evaluate. The number of threads is
``threads=N``, or with ``threads=null`` the choice measured at the start. The load is a number of busy processes. The
cells of a round alternate.

Training is given as images per second from its log, which leaves out the start; the measurement of the choice is in
its first record, which is left out too. Evaluation is given as the seconds of its report, without the start, and the
CPU seconds of the whole command. The script ends if the number of threads changes a likelihood.

Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import about, count, name, quartiles, rounds
from sde_gen.cli import console
from sde_gen.cli.threads import THREAD_VARS

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ("sde=vp", "model=ncsnpp", "engine.batch_size=128", "optimizer.lr=2e-3")
RECORDS = 5
"""Records in the log of a training."""

SAME = 1e-4
"""Relative difference of likelihoods that rounding explains."""


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep that many processes busy inside the block."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def command(name: str, *words: str) -> tuple[str, float]:
    """Run a command; its output and its CPU seconds."""
    kept = {key: value for key, value in os.environ.items() if key not in THREAD_VARS}
    paths = os.pathsep.join(path for path in (str(ROOT), kept.get("PYTHONPATH", "")) if path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", f"sde_gen.{name}", "device=cpu", *words],
        env={**kept, "PYTHONPATH": paths, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f"error: sde_gen.{name} {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def used(output: str) -> int:
    """The number of threads in the table of a command."""
    found = re.search(r"threads\W+(\d+) \(", output)
    if found is None:
        raise SystemExit(f"error: the command does not say its threads:\n{output}")
    return int(found[1])


def train(run: Path, threads: int | None, images: int) -> dict[str, Any]:
    """Train in a new folder."""
    every = max(128, images // RECORDS)
    sizes = [f"engine.images={images}", f"engine.log_every={every}", f"engine.checkpoint_every={images}"]
    rest = ["engine.preview_every=1000000", "engine.validate=0", "lr_schedule.warmup=128", f"run={run}"]
    output, cpu = command("train", *NETWORK, *sizes, *rest, f"threads={_setting(threads)}")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    shown = records[1:] or records
    speed = len(shown) / sum(1 / record["images_per_second"] for record in shown)
    return {"used": used(output), "images_per_second": speed, "cpu_seconds": cpu}


def evaluate(run: Path, out: Path, threads: int | None, n: int, steps: int) -> dict[str, Any]:
    """Evaluate the likelihood of held-out images."""
    words = [f"n={n}", f"batch_size={n}", f"integrator.steps={steps}", f"out={out}", "fresh=true"]
    output, cpu = command("evaluate", f"run={run}", *words, f"threads={_setting(threads)}")
    found = json.loads((out / "bpd.json").read_text())
    return {"used": used(output), "seconds": found["seconds"], "cpu_seconds": cpu, "bpd": found["per_image"]}


def _setting(threads: int | None) -> str:
    return "null" if threads is None else str(threads)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time all cells, in turns."""
    cells = [(busy, threads) for busy in arguments.loads for threads in (*arguments.threads, None)]
    found: dict[tuple[str, int, int | None], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        train(folder / "run", 1, arguments.images)
        for number in range(arguments.rounds):
            for busy, threads in cells:
                with load(busy):
                    one = train(folder / f"{number}-{busy}-{threads}", threads, arguments.images)
                    two = evaluate(folder / "run", folder / "out", threads, arguments.n, arguments.steps)
                found.setdefault(("train", busy, threads), []).append(one)
                found.setdefault(("evaluate", busy, threads), []).append(two)
    _check_same([trial for (task, _, _), trials in found.items() if task == "evaluate" for trial in trials])
    return [
        {
            "task": task,
            "load": busy,
            "threads": threads,
            "used": [trial["used"] for trial in trials],
            **{
                key: quartiles([trial[key] for trial in trials])
                for key in ("images_per_second", "seconds", "cpu_seconds")
                if key in trials[0]
            },
        }
        for (task, busy, threads), trials in sorted(found.items(), key=lambda item: item[0][:2])
    ]


def _check_same(trials: Sequence[dict[str, Any]]) -> None:
    for trial in trials:
        for value, expected in zip(trial["bpd"], trials[0]["bpd"], strict=True):
            if not math.isclose(value, expected, rel_tol=SAME):
                raise SystemExit(
                    f"error: a likelihood is {value} bits/dim with one number of threads, {expected} with another"
                )


def _row(row: dict[str, Any]) -> list[str]:
    speed = row.get("images_per_second") or row["seconds"]
    chosen = ", ".join(map(str, sorted(set(row["used"]))))
    return [
        row["task"],
        str(row["load"]),
        f"chosen: {chosen}" if row["threads"] is None else str(row["threads"]),
        "images/s" if "images_per_second" in row else "s",
        f"{speed[1]:.3g} ({speed[0]:.3g} to {speed[2]:.3g})",
        f"{row['cpu_seconds'][1]:.3g}",
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=rounds, default=3)
    parser.add_argument("--threads", type=count, nargs="+", default=[1, 2])
    parser.add_argument("--loads", type=int, choices=range(65), metavar="LOAD", nargs="+", default=[0, 4])
    parser.add_argument("--images", type=count, default=1920, help="images of a training, of batches of 128")
    parser.add_argument("--n", type=count, default=16, help="images of an evaluation")
    parser.add_argument("--steps", type=count, default=8, help="steps of the integrator of an evaluation")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    facts = {**about(torch.device("cpu")), "cores": os.cpu_count(), **vars(arguments), "out": None}
    rows = measure(arguments)
    columns = ["task", "load", "threads", "unit", "median (quartiles)", "CPU seconds"]
    console.print_summary(f"threads on {name(facts)}, {facts['cores']} cores", columns, list(map(_row, rows)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "threads_cpu.json"
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    console.console.print(f"written to {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
