"""Time solvers and sources of noise: microseconds a model call above the bare call, beside the peers.

    python -m benchmarks.solver_overhead [--steps 20] [--rounds 100] [--out FOLDER]
    pip install diffusers==0.42.1 k-diffusion==0.1.1.post1 azula==0.11.1      # the peers; any may be missing

The model is one multiplication. The overhead of a sampler is the time of a run less that of its bare calls, divided by
their number; the least of many short rounds, which take all samplers in turn, so that other processes hardly count.
``model`` gives a solver the prediction for nothing; ``network`` goes through NetworkDenoiser with EDM's
preconditioning, noise level and label. One thread.

Noise is timed on the same shapes, drawn once a step; a Brownian source is new in every round.
Prints tables and writes JSON with machine, commit and versions.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from benchmarks import machine
from sde_gen.cli import console
from sde_gen.cli.config_files import load, names
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.denoiser.parametrization import EDM
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import LogSNR
from sde_gen.noise import IID, Brownian, Noise, PerSample, spawn_seeds
from sde_gen.sde import SDE, VP

SHAPES = ((64, 2), (16, 3, 32, 32))
RATIOS = (80.0, 0.002)
Run = Callable[[], None]


class Net(nn.Module):
    """The bare call, with a counter."""

    calls = 0

    def forward(self, x: Tensor, c_noise: object = None) -> Tensor:
        """Return x / 2."""
        Net.calls += 1
        return x * 0.5


class Free(Denoiser):
    """A denoiser whose prediction costs nothing beside the call."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.net, self.one = sde, Net(), torch.ones((), dtype=torch.float64)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Return x / 2 as clean sample and as noise."""
        out = self.net(x_t)
        return Prediction(x_t, out, out, self.one, self.one)


def ours(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Every solver of conf/solver on VP and the log-SNR grid, and the loops that could not be shorter."""
    sde = VP()
    times = LogSNR()(sde, steps)
    sigmas = np.geomspace(*RATIOS, steps + 1).tolist()
    net, noise = Net(), IID.seeded(0)

    def euler() -> None:
        y = x
        for sigma, following in pairwise(sigmas):
            y = y.add(net(y), alpha=(following - sigma) / sigma)

    def euler_maruyama() -> None:
        y = x
        for sigma, following in pairwise(sigmas):
            y = y.add(net(y), alpha=(following - sigma) / sigma).add_(noise.normal(y), alpha=0.1)

    yield "bare loop, Euler", euler
    yield "bare loop, Euler-Maruyama", euler_maruyama
    models = {
        "model": Free(sde),
        "network": NetworkDenoiser(net=Net(), sde=sde, parametrization=EDM()),
    }
    for name in names("solver"):
        solver = instantiate(load("solver", name))
        if not solver.needs_denoiser:
            continue
        for kind, model in models.items():
            yield (
                f"{name} ({kind})",
                lambda solver=solver, model=model: solver.solve(model, x, times, noise=noise),
            )


def k_diffusion(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Its samplers, given the denoised sample."""
    sampling = importlib.import_module("k_diffusion.sampling")
    net, sigmas = Net(), torch.cat([torch.tensor(np.geomspace(*RATIOS, steps)), torch.zeros(1)]).float()
    for name in ("euler", "heun", "lms", "dpmpp_2m", "dpmpp_2s_ancestral"):
        sample = getattr(sampling, f"sample_{name}")
        yield f"k-diffusion {name}", lambda sample=sample: sample(net, x, sigmas, disable=True)

    def tree() -> None:
        noise = sampling.BrownianTreeNoiseSampler(x, RATIOS[1], RATIOS[0], seed=0)
        sampling.sample_dpmpp_sde(net, x, sigmas, noise_sampler=noise, disable=True)

    yield "k-diffusion dpmpp_sde, Brownian tree", tree


def diffusers(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Its schedulers, given predicted noise."""
    package = importlib.import_module("diffusers")
    net = Net()
    for name in (
        "EulerDiscreteScheduler",
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    ):

        def run(name: str = name) -> None:
            scheduler, y = getattr(package, name)(), x
            scheduler.set_timesteps(steps)
            for t in scheduler.timesteps:
                y = scheduler.step(net(scheduler.scale_model_input(y, t)), t, y).prev_sample

        yield f"diffusers {name.removesuffix('Scheduler')}", run


def azula(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Its samplers, on a denoiser that answers for nothing."""
    denoise, noise, sample = (
        importlib.import_module(f"azula.{part}") for part in ("denoise", "noise", "sample")
    )
    net, schedule = Net(), noise.VPSchedule()

    class Half(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **cond: object) -> object:
            return denoise.DiracPosterior(mean=net(x_t))

    for name in ("EulerSampler", "DDIMSampler", "HeunSampler", "xEABSampler"):
        if hasattr(sample, name):
            sampler = getattr(sample, name)(Half(), steps=steps, silent=True)
            yield f"azula {name.removesuffix('Sampler')}", lambda sampler=sampler: sampler(x)


def torchdiffeq(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Its fixed-step and adaptive methods on dx/dt = f(x)."""
    odeint = importlib.import_module("torchdiffeq").odeint
    net, ends = Net(), torch.linspace(1, 0, steps + 1, dtype=x.dtype)
    yield "torchdiffeq rk4", lambda: odeint(lambda t, y: net(y), x, ends, method="rk4")
    yield (
        "torchdiffeq dopri5",
        lambda: odeint(lambda t, y: net(y), x, ends[[0, -1]], method="dopri5", rtol=1e-8),
    )


PEERS = {"k-diffusion": k_diffusion, "diffusers": diffusers, "azula": azula, "torchdiffeq": torchdiffeq}


def sources(x: Tensor, steps: int) -> Iterator[tuple[str, Run]]:
    """Sources of noise, ours and the peers', one draw a step."""
    seeds, grid = spawn_seeds(0, len(x)), np.geomspace(1, RATIOS[1] / RATIOS[0], steps + 1).tolist()

    def draw_each_step(make: Callable[[], Noise]) -> Run:
        def run() -> None:
            noise = make()
            for u, v in pairwise(grid):
                noise(x, u, v)

        return run

    yield "IID", draw_each_step(lambda: IID.seeded(0))
    yield "PerSample", draw_each_step(lambda: PerSample(seeds))
    yield "Brownian", draw_each_step(lambda: Brownian(seeds))
    yield "Brownian, depth 20", draw_each_step(lambda: Brownian(seeds, depth=20))
    with contextlib.suppress(ImportError):
        tree = importlib.import_module("k_diffusion.sampling").BrownianTreeNoiseSampler
        sigmas = [torch.tensor(RATIOS[0] * u) for u in grid]
        many = [seed % 2**31 for seed in seeds]

        def branch(seed: int | list[int]) -> None:
            noise = tree(x, RATIOS[1] * (1 - 1e-6), RATIOS[0] * (1 + 1e-6), seed=seed)
            for u, v in pairwise(sigmas):
                noise(u, v)

        yield "k-diffusion tree, one for the batch", lambda: branch(0)
        yield "k-diffusion trees, one a sample", lambda: branch(many)
    with contextlib.suppress(ImportError):
        package = importlib.import_module("torchsde")
        rising, size = grid[::-1], (len(x), x[0].numel())

        def climb(halfway: bool) -> None:
            more = {"halfway_tree": True, "tol": 1e-6} if halfway else {}
            path = package.BrownianInterval(t0=0.0, t1=1.0, size=size, entropy=0, dtype=x.dtype, **more)
            for u, v in pairwise(rising):
                path(u, v)

        yield "torchsde tree, one for the batch", lambda: climb(True)
        yield "torchsde interval, which hangs on the questions", lambda: climb(False)


def least(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, int]]:
    """Least seconds of each run, and its number of calls; those that fail are named and left out."""
    found: dict[str, tuple[float, int]] = {}
    failed = set()
    with torch.no_grad(), console.progress() as bar:
        task = bar.add_task("rounds", total=rounds * len(runs), note="")
        for _ in range(rounds):
            for name, run in runs.items():
                bar.update(task, note=name, advance=1)
                if name in failed:
                    continue
                Net.calls = 0
                try:
                    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                        warnings.simplefilter("ignore")
                        begin = time.perf_counter()
                        run()
                        seconds = time.perf_counter() - begin
                except Exception as error:  # noqa: BLE001, RUF100 - a peer's failure must not end the others' run
                    failed.add(name)
                    console.console.print(
                        f"left out: {name}: {type(error).__name__}: {error}", soft_wrap=True
                    )
                    continue
                before = found.get(name, (float("inf"), 0))[0]
                found[name] = min(before, seconds), Net.calls
    return found


def bare(x: Tensor, rounds: int) -> float:
    """Seconds of one bare call."""
    net = Net()

    def run() -> None:
        for _ in range(1000):
            net(x)

    return least({"bare": run}, rounds)["bare"][0] / 1000


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overhead: dict[str, dict[str, float]] = {}
    noise: dict[str, dict[str, float]] = {}
    for shape in SHAPES:
        column = "x".join(map(str, shape))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        runs = dict(ours(x, arguments.steps))
        for name, peer in PEERS.items():
            try:
                with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    runs |= dict(peer(x, arguments.steps))
            except ImportError as error:
                console.console.print(f"left out: {name} is not installed ({error})", soft_wrap=True)
        call = bare(x, arguments.rounds)
        for name, (seconds, calls) in least(runs, arguments.rounds).items():
            overhead.setdefault(name, {})[column] = 1e6 * (seconds / calls - call)
            overhead[name]["calls"] = calls
        for name, (seconds, _) in least(dict(sources(x, arguments.steps)), arguments.rounds).items():
            noise.setdefault(name, {})[column] = 1e3 * seconds / arguments.steps
    save(arguments, overhead, noise)


def save(
    arguments: argparse.Namespace, overhead: dict[str, dict[str, float]], noise: dict[str, dict[str, float]]
) -> None:
    """Print the tables and write the JSON."""
    columns = ["x".join(map(str, shape)) for shape in SHAPES]
    peers = {}
    for name in [*PEERS, "torchsde"]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            peers[name] = importlib.metadata.version(name)
    facts = machine.about(torch.device("cpu"))
    about = {
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        **facts,
        "versions": {**facts["versions"], **peers},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "solver_overhead.json"
    results = {"overhead_microseconds_per_call": overhead, "noise_milliseconds_per_step": noise}
    path.write_text(json.dumps({**about, **results}, indent=1) + "\n")
    for title, rows, digits in (
        ("microseconds a model call above the bare call", overhead, 1),
        ("milliseconds a draw", noise, 3),
    ):
        console.print_summary(
            f"{title}, {about['processor']}, 1 thread, {arguments.steps} steps",
            ["", *columns],
            [
                [name, *(f"{row[column]:.{digits}f}" if column in row else "-" for column in columns)]
                for name, row in rows.items()
            ],
        )
    console.console.print(str(path))


if __name__ == "__main__":
    main()
