"""Measure the likelihood of a trained network: the error of integrators, and the noise of probes.

    python benchmarks/likelihood.py --run runs/digits-vp-ncsnpp [--images 16] [--draws 8] [--out FOLDER]

Every row evaluates the same dequantized test images. The integrators have the same one probe per image, and their error
is the difference, in bits/dim, to classic Runge-Kutta steps in the angle, enough that half of them agree; how
far the halves differ is printed. The row "as score_sde" is the evaluation of Song et al., 2021, as their code does it:
SciPy's RK45 in t, a call for the velocity and another one for its divergence. The probes are drawn several times, at
the same steps; their deviation is that of one image's bits/dim between draws. Seconds are those of the process on one
CPU thread, which others on the machine disturb little. Prints tables and writes JSON with machine, commit and versions.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.integrate import solve_ivp
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.dynamics import ProbabilityFlow
from sde_gen.likelihood import bits_per_dim, log_prob
from sde_gen.likelihood.divergence import Divergence, GaussianProbe, Hutchinson, HutchPlusPlus
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.ode import RK4, Adams, BogackiShampine, DormandPrince, Integrator, ScipyODE, TorchDiffEq
from sde_gen.ode.time_variable import DiffusionTime, FlowVariable

GOAL = 1e-3
"""The error that a method has to reach, in bits/dim, as the root mean square over images."""

Bits = Callable[[], tuple[Tensor, float]]
"""Bits per dimension of all images, and evaluations per image."""


def as_score_sde(denoiser: Denoiser, x: Tensor, probe: Tensor, tol: float) -> tuple[Tensor, float]:
    """The log-density with three forward passes' worth of work per evaluation, and the number of network calls."""
    flow, calls = ProbabilityFlow(denoiser), 0

    def slope(t: float, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal calls
        calls += 2
        now = torch.tensor(t, dtype=torch.float64).clamp(denoiser.sde.t_min, 1)
        y = torch.from_numpy(flat[: x.numel()]).reshape(x.shape).to(x)
        with torch.no_grad():
            velocity = flow(y, now)
        with torch.enable_grad():
            y.requires_grad_()
            (product,) = torch.autograd.grad((flow(y, now) * probe).sum(), y)
        gain = (product * probe).flatten(1).sum(1)
        return np.concatenate([velocity.numpy().ravel(), gain.numpy()]).astype(np.float64)

    start = np.concatenate([x.double().numpy().ravel(), np.zeros(len(x))])
    found = solve_ivp(slope, (denoiser.sde.t_min, 1.0), start, method="RK45", rtol=tol, atol=tol).y[:, -1]
    z = torch.from_numpy(found[: x.numel()]).reshape(x.shape)
    return denoiser.sde.prior.log_prob(z) + torch.from_numpy(found[x.numel() :]), calls


class Subject:
    """A network, and images that are looked at again and again.

    Arguments:
        run: the trained run.
        images: number of images.
    """

    def __init__(self, run: Run, images: int) -> None:
        self.run, self.seeds = run, spawn_seeds(0, images)
        splits = open_data(run)
        self.denoiser = run.bind(run.conditioning.given(splits.test.given(range(images))))
        self.x = run.codec.encode(splits.test.values[:images], PerSample(self.seeds))

    @torch.no_grad()
    def bits(
        self, integrator: Integrator, divergence: Divergence, clock: FlowVariable | None = None, draw: int = 1
    ) -> tuple[Tensor, float]:
        """Bits per dimension with the probes of a draw."""
        noise = PerSample([(seed + draw) % 2**64 for seed in self.seeds])
        found = log_prob(
            self.denoiser, self.x, integrator=integrator, divergence=divergence, noise=noise, clock=clock
        )
        return bits_per_dim(found.nats, self.x, self.run.codec), found.nfe

    def as_score_sde(self, tol: float) -> tuple[Tensor, float]:
        """The same images and probe, as that code has it."""
        noise = PerSample([(seed + 1) % 2**64 for seed in self.seeds])
        nats, calls = as_score_sde(self.denoiser, self.x, Hutchinson().distribution(self.x, noise), tol)
        return bits_per_dim(nats, self.x, self.run.codec), calls


def methods(subject: Subject) -> dict[str, Bits]:
    """Every integrator at every tolerance or number of steps, in the angle unless in t."""
    probe, time_itself = Hutchinson(fresh=False), DiffusionTime(subject.denoiser.sde)
    found: dict[str, Bits] = {}
    for steps in (32, 48, 64, 96, 128):
        found[f"adams {steps}"] = partial(subject.bits, Adams(steps=steps), probe)
    for steps in (8, 16, 24, 32, 48):
        found[f"runge_kutta {steps}"] = partial(subject.bits, RK4(steps=steps), probe)
    for steps in (16, 32, 64):
        found[f"runge_kutta {steps} in t"] = partial(subject.bits, RK4(steps=steps), probe, time_itself)
    for tol in (1e-2, 1e-3, 1e-4, 1e-5):
        pair: dict[str, Integrator] = {
            "dormand_prince": DormandPrince(rtol=tol, atol=tol),
            "torch_diffeq dopri5": TorchDiffEq(rtol=tol, atol=tol),
        }
        if tol > 1e-5:
            pair["bogacki_shampine"] = BogackiShampine(rtol=tol, atol=tol)
            pair["scipy_ode DOP853"] = ScipyODE(method="DOP853", rtol=tol, atol=tol)
        for name, integrator in pair.items():
            found[f"{name} {tol:g}"] = partial(subject.bits, integrator, probe)
        found[f"torch_diffeq dopri5 {tol:g} in t"] = partial(
            subject.bits, TorchDiffEq(rtol=tol, atol=tol), probe, time_itself
        )
    for tol in (1e-3, 1e-5):
        found[f"as score_sde {tol:g}"] = partial(subject.as_score_sde, tol)
    return found


def probes() -> dict[str, tuple[int, Divergence]]:
    """Divergences, with their products per evaluation."""
    return {
        "1 sign vector": (1, Hutchinson(fresh=False)),
        "1 Gaussian vector": (1, Hutchinson(distribution=GaussianProbe(), fresh=False)),
        "4 sign vectors": (4, Hutchinson(probes=4, fresh=False)),
        "Hutch++, subspace 1, 2 sign vectors": (4, HutchPlusPlus(sketch=1, probes=2)),
        "1 sign vector, fresh": (1, Hutchinson(fresh=True)),
        "4 sign vectors, fresh": (4, Hutchinson(probes=4, fresh=True)),
    }


def integrate(subject: Subject, steps: int) -> dict[str, Any]:
    """Measure the integrators."""
    half, fine = (subject.bits(RK4(steps=n), Hutchinson(fresh=False))[0] for n in (steps // 2, steps))
    doubt = float((half - fine).square().mean().sqrt())
    console.console.print(f"reference: {steps} steps; half of them are {doubt:.1e} bits/dim away")
    rows = []
    for name, bits in methods(subject).items():
        begin = time.process_time()
        values, nfe = bits()
        seconds, gap = time.process_time() - begin, values - fine
        rows.append(
            {
                "method": name,
                "network_calls": nfe,
                "cpu_seconds": seconds,
                "rms_error": float(gap.square().mean().sqrt()),
                "mean_error": float(gap.mean()),
            }
        )
        console.console.print(
            f"{name}: {nfe:.0f} calls, {seconds:.1f} s, {rows[-1]['rms_error']:.1e} bits/dim"
        )
    return {"reference_steps": steps, "reference_doubt": doubt, "rows": rows}


def deviate(subject: Subject, draws: int, steps: int) -> list[dict[str, Any]]:
    """Measure the probes."""
    rows = []
    for name, (products, divergence) in probes().items():
        begin = time.process_time()
        values = torch.stack(
            [subject.bits(Adams(steps=steps), divergence, None, draw)[0] for draw in range(draws)]
        )
        seconds = (time.process_time() - begin) / draws
        rows.append(
            {
                "probes": name,
                "products": products,
                "cpu_seconds": seconds,
                "deviation": float(values.var(0).mean().sqrt()),
            }
        )
        console.console.print(f"{name}: {rows[-1]['deviation']:.4f} bits/dim")
    return rows


def print_report(folder: Path, report: dict[str, Any]) -> None:
    """Print the tables."""
    rows = report["integrators"]["rows"]
    peer = next(row["cpu_seconds"] for row in rows if row["method"] == "as score_sde 1e-05")
    console.print_summary(
        f"{folder}: {report['images']} images, one probe",
        ["integrator", "network calls", "CPU s", "as score_sde / it", "rms error, bits/dim", "mean error"],
        [
            [
                row["method"] + (" *" if row["rms_error"] <= GOAL else ""),
                f"{row['network_calls']:.0f}",
                f"{row['cpu_seconds']:.1f}",
                f"{peer / row['cpu_seconds']:.1f}",
                f"{row['rms_error']:.1e}",
                f"{row['mean_error']:+.1e}",
            ]
            for row in sorted(rows, key=lambda row: row["cpu_seconds"])
        ],
    )
    first = report["probes"][0]["deviation"]
    console.print_summary(
        f"{folder}: {report['draws']} draws of probes",
        ["probes", "products", "CPU s", "deviation, bits/dim", "1 sign vector / it"],
        [
            [
                row["probes"],
                str(row["products"]),
                f"{row['cpu_seconds']:.1f}",
                f"{row['deviation']:.4f}",
                f"{first / row['deviation']:.1f}",
            ]
            for row in report["probes"]
        ],
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder of a trained network")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--draws", type=int, default=8, help="of the probes")
    parser.add_argument("--reference", type=int, default=192, help="steps of the reference")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asked = {"run": str(arguments.run), "checkpoint": None, "trust": [], "device": "cpu"}
    run = load_run(OmegaConf.create(asked))
    subject = Subject(run, arguments.images)
    report = {
        "run": arguments.run.name,
        "trained_on_images": run.images,
        "images": arguments.images,
        "draws": arguments.draws,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": 1,
        "versions": package_versions(),
        "integrators": integrate(subject, arguments.reference),
        "probes": deviate(subject, arguments.draws, steps=64),
    }
    print_report(arguments.run, report)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"likelihood_{arguments.run.name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    console.console.print(str(path))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
