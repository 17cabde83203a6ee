"""Fail when a training step, a step of a sampler or an evaluation of the likelihood has become 15 % more work.

    python -m benchmarks.guard            # make guard: compare with benchmarks/guard.json
    python -m benchmarks.guard --record   # after a change that is worth its price: write the file anew

Two guards, neither of which depends on the load of the machine. Work is counted: PyTorch operators, bytes of new
tensors, FLOPs of convolutions and products. Counts are the same every time; a version of PyTorch that splits its work
otherwise needs a new file. Time is that of the process, on one thread in float32, over that of a step that never
changes (``frozen_step.py``), in turns. The lower quartile of the ratio over rounds moves by a few per cent, however
busy the machine and whatever its vector instructions are: at a load of three per core it lay 2 to 4 % lower, and
scattered by 2 %. It alarms at 8 %, so that 15 % do not slip through even there, and by two attempts out of three.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.frozen_step import FrozenStep
from sde_gen.cli import build
from sde_gen.cli.config_files import CONF, load
from sde_gen.cli.versions import package_versions
from sde_gen.data import Dataset, Splits
from sde_gen.grid import LogSNR
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Hutchinson
from sde_gen.noise import IID
from sde_gen.ode import Adams
from sde_gen.solver.callbacks import NFECounter
from sde_gen.training import Trainer, optimizer

FILE = Path(__file__).with_name("guard.json")
SIDE, STEPS = 16, 6
TIMED, COUNTED = {"width": 32, "batch": 8}, {"width": 16, "batch": 4}
SOLVERS = "dpm_solver_pp", "heun", "euler_maruyama", "straight_adams", "ancestral"
MORE_WORK, MORE_TIME = 1.15, 1.08
ROUNDS, ATTEMPTS = 40, 3
Counts = dict[str, float]


class Work(TorchDispatchMode):
    """Count the PyTorch operators inside the block.

    Attributes:
        operators: number of operators.
        bytes: bytes of the tensors they made; views and what is written in place make none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operator and its bytes, and run it."""
        out = func(*args, **(kwargs or {}))
        known = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor) and _place(x) not in known]
        self.operators += 1
        self.bytes += sum(x.numel() * x.element_size() for x in made)
        return out


def _place(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def counted(work: Callable[[], object], share: int = 1) -> Counts:
    """Count the operators, bytes and FLOPs of one of ``share`` equal parts of some work."""
    flops = FlopCounterMode(display=False)
    with flops, Work() as found:
        work()
    return {
        "operators": found.operators / share,
        "megabytes": found.bytes / share / 1e6,
        "gflop": flops.get_total_flops() / share / 1e9,
    }


def trainer(folder: str, *, width: int, batch: int) -> Trainer:
    """A small training with the configuration of its command."""
    values = torch.randint(0, 256, (256, 3, SIDE, SIDE), dtype=torch.uint8)
    images = Dataset(values=values, labels=None, levels=256, classes=0)
    network = [f"model.width={width}", "model.blocks=1", "model.dropout=0.1"]
    rest = ["precision=float32", "device=cpu", f"engine.batch_size={batch}", f"run={folder}/run"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["model=ddpmpp", *network, *rest])
    built = build.trainer(config, Splits(train=images, test=images))
    built.denoiser.train()
    return built


def counts(training: Trainer) -> Iterator[tuple[str, Counts]]:
    """Everything that is counted, by name."""
    training.step(0)  # the optimizer makes its state
    yield "training step", counted(lambda: training.step(1))
    training.train_step.compute_gradients(training.ddp_model, 1, training.metrics.forward_backward_timer)
    unskipped = torch.zeros(())
    parts = {  # too small for the whole step to show what becomes of them: one operator for all weights, or hundreds
        "optimizer": lambda: optimizer.step(training.adam, lr=1e-3, skip=unskipped),
        "average": lambda: training.ema_updater.update(0.5),
    }
    for part, work in parts.items():
        yield f"training step, its {part}", counted(work)
    training.adam.zero_grad(set_to_none=True)
    model, noise, batch = training.ema_model, IID.seeded(0), training.settings.batch_size
    x = torch.randn(batch, 3, SIDE, SIDE)
    times = LogSNR()(model.sde, STEPS)
    with torch.no_grad():
        call = counted(lambda: model.net(x, torch.ones(batch)))
        for name in SOLVERS:
            solver = instantiate(load("solver", name))
            solved = counted(lambda solver=solver: solver.solve(model, x, times, noise=noise), STEPS)
            calls = solver.nfe(STEPS) / STEPS
            outside = {key: solved[key] - calls * call[key] for key in ("operators", "megabytes")}
            yield f"{name}, a step outside the network", outside
        integrator, probe = Adams(steps=STEPS), Hutchinson()
        with NFECounter(model.net) as asked:
            log_prob(model, x, integrator=integrator, divergence=probe, noise=noise)

        def density() -> None:
            log_prob(model, x, integrator=integrator, divergence=probe, noise=noise)

        yield "likelihood, an evaluation", counted(density, asked.calls)


def ratio(ours: Callable[[], object], frozen: Callable[[], object], rounds: int) -> float:
    """Lower quartile over rounds of the time of ours over that of the frozen step, in turns."""
    found = []
    for number in range(rounds):
        seconds = {}
        for step in (ours, frozen) if number % 2 else (frozen, ours):
            begin = time.process_time()
            step()
            seconds[step] = time.process_time() - begin
        found.append(seconds[ours] / seconds[frozen])
    return statistics.quantiles(found, n=4)[0]


def excess(found: Mapping[str, Counts], budget: Mapping[str, Counts]) -> list[str]:
    """Describe the counts that exceed the budget or have none."""
    words = [f"{what}: not in the budget" for what in found if what not in budget]
    return words + [
        f"{what}: {now[unit]:.4g} {unit}, {_more(now[unit], before)} (budget {before:.4g})"
        for what, now in found.items()
        for unit, before in budget.get(what, {}).items()
        if now[unit] > MORE_WORK * before
    ]


def _more(now: float, before: float) -> str:
    return f"{now / before - 1:+.0%}" if before else "none before"


def slower(measure: Callable[[], float], expected: float, attempts: int) -> list[str]:
    """Ratios of the attempts, in words, if most of them are too large, else nothing."""
    good: list[float] = []
    bad: list[float] = []
    while max(len(good), len(bad)) <= attempts // 2:
        found = measure()
        (bad if found > MORE_TIME * expected else good).append(found)
        print(f"training step / frozen step: {found:.3f} ({found / expected - 1:+.1%})", flush=True)
    listed = ", ".join(f"{one:.3f}" for one in bad)
    return [f"training step / frozen step: {listed} (budget {expected:.3f})"] if len(bad) > len(good) else []


def main() -> None:
    """Count, time and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="write the file instead of comparing with it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        training, frozen = trainer(folder, **TIMED), FrozenStep(side=SIDE, **TIMED)
        found = dict(counts(trainer(folder, **COUNTED)))
        for what, now in found.items():
            print(f"{what}: " + ", ".join(f"{value:.4g} {unit}" for unit, value in now.items()))

        def measure() -> float:
            return ratio(lambda: training.step(2), frozen, ROUNDS)

        ratio(lambda: training.step(2), frozen, 3)  # warm up
        if arguments.record:
            ratios = [measure() for _ in range(ATTEMPTS)]
            about = {"machine": platform.machine(), "versions": package_versions()}
            kept = {**about, "counts": found, "ratio": statistics.median(ratios), "ratios": ratios}
            FILE.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{FILE}: ratios {ratios}")
            return
        budget = json.loads(FILE.read_text())
        complaints = excess(found, budget["counts"]) + slower(measure, budget["ratio"], ATTEMPTS)
    if complaints:
        original, mine = budget["versions"]["torch"], torch.__version__
        other = "" if original == mine else f"; the budget is of PyTorch {original}, this is {mine}"
        print("\n".join(["", *complaints]), file=sys.stderr)
        sys.exit(f"too much work{other}; if it is worth it, python -m benchmarks.guard --record")


if __name__ == "__main__":
    main()
