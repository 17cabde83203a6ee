"""Compare objectives of flow maps at equal CPU time, beside the run that they begin from.

    python benchmarks/flow_maps.py [RUN] [--seconds 60] [--objectives consistency shortcut mean_flow lagrangian]

Every objective trains a copy of the network of RUN for the same CPU time, with Adam, a learning rate that ends at zero
and averaged weights, and is sampled with solver=jump in one and in two evaluations. Rows beside them: RUN at 21
evaluations; RUN in one and two evaluations by DDIM and by the default solver; and a network that regresses from the
noise to the sample that RUN makes of it at 21 evaluations, in the same time (the pairs included). Per row: the Frechet
distance to the training images in features of the shipped classifier, with the jackknife's standard error. Ceiling: the
held-out images. Prints a table and writes JSON.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks import machine
from benchmarks.superresolution import opened
from sde_gen.cli import build, console
from sde_gen.cli.config_files import load
from sde_gen.cli.run import Run
from sde_gen.cli.run_data import open_data
from sde_gen.denoiser import ConsistencyModel, Denoiser, NetworkDenoiser
from sde_gen.evaluation.features import Classifier, extract
from sde_gen.evaluation.metric import FrechetDistance
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.objective import Objective
from sde_gen.sampler import Sampler
from sde_gen.sde.base import Prior
from sde_gen.solver import DDIM, Jump

BATCH, WARMUP, TIME_SAMPLER = 128, 100, "stratified"
TEACHER = Sampler()


def student(run: Run, name: str) -> tuple[Any, Objective]:
    """Return the model that an objective trains, with the weights of a run, and the objective."""
    node = OmegaConf.merge(
        {"time_sampler": load("time_sampler", TIME_SAMPLER)}, {"objective": load("objective", name)}
    )
    config = OmegaConf.merge(run.config, node)
    model = build.model(config, replace(run.data_spec, shape=run.event), run.conditioning)
    missing, _ = model.net.load_state_dict(run.denoiser.net.state_dict(), strict=False)
    assert set(missing) <= {"until.weight"}, missing
    return model, instantiate(node.objective)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """CPU time of a training.

    Arguments:
        seconds: of this process.
        lr: largest learning rate.
        rate: of the average of the weights.
    """

    seconds: float
    lr: float = 1e-3
    rate: float = 0.999

    def train(
        self, model: Any, loss: Callable[[torch.Generator], Tensor], used: float = 0.0
    ) -> tuple[Any, int]:
        """Minimize a loss for the time that is left; return the model of averaged weights, and the steps."""
        generator, average, steps = torch.Generator().manual_seed(0), copy.deepcopy(model), 0
        optimizer = torch.optim.Adam(model.net.parameters(), lr=self.lr)
        begin = time.process_time() - used
        while (share := (time.process_time() - begin) / self.seconds) < 1 or steps == 0:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * min(1.0, (steps + 1) / WARMUP, max(0.0, 2 * (1 - share)))
            optimizer.zero_grad()
            loss(generator).backward()
            torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
            optimizer.step()
            decay = min(self.rate, (1 + steps) / (10 + steps))
            with torch.no_grad():
                for mean, now in zip(average.net.parameters(), model.net.parameters(), strict=True):
                    mean.lerp_(now, 1 - decay)
            steps += 1
        return average.eval(), steps


def of_objective(run: Run, name: str, x0: Tensor, budget: Budget) -> tuple[Any, int]:
    """Train a flow map from a run by an objective."""
    model, objective = student(run, name)

    def loss(generator: torch.Generator) -> Tensor:
        batch = x0[torch.randint(len(x0), (BATCH,), generator=generator)]
        draw = objective.draw(model.sde, batch, IID(generator))
        return objective.loss(model, batch, draw).per_sample.mean()

    return budget.train(model.train(), loss)


def regression(run: Run, pairs: int, budget: Budget, sampler: Sampler = TEACHER) -> tuple[Any, int]:
    """Train from noise at t = 1 to the samples that the run makes of it."""
    begin = time.process_time()
    shape, source = (pairs, *run.event), PerSample(spawn_seeds(7, pairs))
    first = sampler.grid(run.denoiser.sde, sampler.steps)[0]
    noise = Prior(float(run.denoiser.sde.sigma(first))).sample(shape, noise=source)
    ends = torch.cat(
        [
            sampler.solver.solve(run.denoiser, part, sampler.grid(run.denoiser.sde, sampler.steps))
            for part in noise.split(BATCH)
        ]
    )
    last = sampler.grid(run.denoiser.sde, sampler.steps)[-1]
    with torch.no_grad():
        ends = torch.cat([run.denoiser(part, last).x0 for part in ends.split(BATCH)])
    model = NetworkDenoiser(
        net=copy.deepcopy(run.denoiser.net).requires_grad_(),
        sde=run.denoiser.sde,
        parametrization=run.denoiser.parametrization,
    )

    def loss(generator: torch.Generator) -> Tensor:
        index = torch.randint(pairs, (BATCH,), generator=generator)
        return ((model(noise[index], first).x0 - ends[index]) ** 2).mean()

    return budget.train(model.train(), loss, time.process_time() - begin)


def samples(model: Denoiser, sampler: Sampler, run: Run, count: int) -> Tensor:
    """Draw 8-bit images of the same noise for every model and sampler."""
    seeds = spawn_seeds(1, count)
    parts = [
        sampler(model, (len(part), *run.event), noise=PerSample(part))
        for part in (seeds[start : start + BATCH] for start in range(0, count, BATCH))
    ]
    return run.codec.decode_image(torch.cat(parts))


def main() -> None:
    """Train, sample, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", default="pretrained/digits-vp")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--objectives", nargs="+", default=["consistency", "shortcut", "mean_flow", "lagrangian"]
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--n", type=machine.count, default=1000)
    parser.add_argument("--pairs", type=machine.count, default=1024)
    parser.add_argument("--features", default="digits")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = opened(args.run)
    splits, show = open_data(run), run.codec.decode_image
    x0 = run.codec.encode(splits.train.values)
    metric = FrechetDistance(features=Classifier(weights=args.features))
    reference = extract(metric.features, show(x0), what="training images")
    rows: list[dict[str, Any]] = []

    def add(method: str, images: Tensor, nfe: int, steps: int = 0) -> None:
        found = metric.compare(extract(metric.features, images, what=method), reference)
        rows.append({"method": method, "nfe": nfe, "fd": found.value, "fd_se": found.se, "steps": steps})

    budget = Budget(seconds=args.seconds, lr=args.lr)
    add("ceiling: held-out images", show(run.codec.encode(splits.test.values)), 0)
    add("run, default", samples(run.denoiser, Sampler(), run, args.n), 21)
    for nfe in (1, 2):
        ddim = Sampler(solver=DDIM(), steps=nfe, denoise_final=False)
        add("null: run, DDIM", samples(run.denoiser, ddim, run, args.n), nfe)
    add("null: run, default", samples(run.denoiser, Sampler(steps=1), run, args.n), 2)
    model, steps = regression(run, args.pairs, budget)
    one = Sampler(solver=DDIM(), steps=1, denoise_final=False)
    add("null: regression", samples(model, one, run, args.n), 1, steps)
    for name in args.objectives:
        model, steps = of_objective(run, name, x0, budget)
        renoise = float(type(model) is ConsistencyModel)
        for nfe in (1, 2):
            jump = Sampler(solver=Jump(renoise=renoise), steps=nfe)
            add(name, samples(model, jump, run, args.n), nfe, steps)
    console.print_summary(
        f"flow maps from {args.run}, {args.seconds:g} CPU seconds each, FD of {args.n} samples",
        ["method", "evaluations", "FD to the training images", "steps of training"],
        [
            [
                row["method"],
                f"{row['nfe']}",
                f"{row['fd']:.2f} +- {row['fd_se']:.2f}",
                f"{row['steps'] or ''}",
            ]
            for row in rows
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"flow_maps_{Path(args.run).name}.json"
    settings = {
        "run": args.run,
        "seconds": args.seconds,
        "lr": args.lr,
        "samples": args.n,
        "pairs": args.pairs,
    }
    path.write_text(
        json.dumps({**machine.about(torch.device("cpu")), **settings, "rows": rows}, indent=1) + "\n"
    )
    print(path)


if __name__ == "__main__":
    main()
