"""Solvers of sde_gen, k-diffusion, azula and diffusers with one signature, in z = x / alpha and r = sigma / alpha.

    pip install diffusers==0.42.1 k-diffusion==0.1.1.post1 azula==0.11.1      # any may be missing

Every method is given the exact denoiser at exact ratios, with every evaluation counted.
"""

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sde_gen.cli import console
from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import Angle, Grid, Karras, LogSNR, Quadratic, Uniform
from sde_gen.noise import IID
from sde_gen.sde import SDE, VP, EDMProcess
from sde_gen.solver import (
    DEISTAB,
    DPMSolver3M,
    DPMSolverPP,
    DPMSolverPP3M,
    Heun,
    Solver,
    StepSolver,
    StraightAdams,
    UniPCBH2,
)

Model = Callable[[Tensor, float], Tensor]
"""(z, r) -> E[x_0 | z]."""


class Method(NamedTuple):
    """A way from ratio to ratio: ``run(model, z, ratios, path)`` with ratios (steps + 1,), nfe = steps * per_step."""

    name: str
    run: Callable[[Model, Tensor, Tensor, "Track"], Tensor]
    per_step: int = 1


class Track(NamedTuple):
    """A process, its grids, and the names of those."""

    sde: SDE
    grids: Mapping[str, Grid]


PATHS = {
    "EDM": Track(EDMProcess(), {"karras": Karras(), "log_snr": LogSNR(), "angle": Angle()}),
    "VP": Track(
        VP(),
        {
            "uniform": Uniform(t_min=1e-3),
            "quadratic": Quadratic(t_min=1e-3),
            "karras": Karras(t_min=1e-3),
            "log_snr": LogSNR(t_min=1e-3),
            "angle": Angle(t_min=1e-3),
        },
    ),
}


class Exact(Denoiser):
    """A denoiser that calls a model of z = x / alpha and r = sigma / alpha."""

    def __init__(self, sde: SDE, model: Model) -> None:
        super().__init__()
        self.sde, self.model = sde, model

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Return the prediction of the model of z and r."""
        del cond
        alpha, sigma = self.sde.marginal(t)
        return Prediction.from_x0(x_t, self.model(x_t / alpha, float(sigma / alpha)), self.sde.marginal(t))


def own(solver: StepSolver[Any]) -> Method:
    """Return a method that calls a solver of sde_gen."""

    def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
        times = path.sde.t_from_log_snr(-2 * ratios.log())
        x = path.sde.alpha(times[0]) * z
        assert isinstance(solver, Solver)
        x = solver.solve(Exact(path.sde, model), x, times, noise=IID.seeded(0))
        return x / path.sde.alpha(times[-1])

    return Method(f"ours {type(solver).__name__}", run, solver.nfe(2) // 2)


def k_diffusion() -> Iterable[Method]:
    """Samplers of k-diffusion, without their last step to zero, as all here."""
    from k_diffusion import sampling as k

    def method(name: str, sample: Callable[..., Tensor], per_step: int = 1, **options: Any) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            del path
            return sample(lambda x, r: model(x, float(r[0])), z, ratios, disable=True, **options)

        return Method(f"k-diffusion {name}", run, per_step)

    def quiet(*_: Any) -> float:
        return 0.0

    yield method("euler", k.sample_euler)
    yield method("heun", k.sample_heun, 2)
    yield method("dpm_2", k.sample_dpm_2, 2)
    yield method("dpmpp_2s", k.sample_dpmpp_2s_ancestral, 2, eta=0.0)
    yield method("dpmpp_2m", k.sample_dpmpp_2m)
    yield method(
        "dpmpp_2m_sde heun eta 0", k.sample_dpmpp_2m_sde, eta=0.0, solver_type="heun", noise_sampler=quiet
    )
    yield method("dpmpp_3m_sde eta 0", k.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=quiet)
    for order in (2, 3, 4):
        yield method(f"lms {order}", k.sample_lms, order=order)


def azula() -> Iterable[Method]:
    """Samplers of azula, their schedule a table of the grid."""
    from azula import sample
    from azula.denoise import Denoiser as AzulaDenoiser
    from azula.denoise import DiracPosterior
    from azula.noise import Schedule

    class Table(Schedule):
        def __init__(self, ratios: Tensor, path: Track) -> None:
            marginal = path.sde.marginal(path.sde.t_from_log_snr(-2 * ratios.log()))
            self.alphas, self.sigmas = marginal

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            index = torch.round((1 - t) * (len(self.alphas) - 1)).long()
            return self.alphas[index], self.sigmas[index]

    class Wrapped(AzulaDenoiser):
        def __init__(self, schedule: Table, model: Model) -> None:
            super().__init__()
            self.schedule, self.model = schedule, model

        def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(mean=self.model(x_t / alpha, float(sigma / alpha)))

    def method(name: str, kind: Callable[..., Any], per_step: int = 1, **options: Any) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            table = Table(ratios, path)
            steps = len(ratios) - 1
            sampler = kind(Wrapped(table, model), steps=steps, silent=True, dtype=torch.float64, **options)
            return sampler(z * table.alphas[0]) / table.alphas[-1]

        return Method(f"azula {name}", run, per_step)

    yield method("DDIM", sample.DDIMSampler)
    yield method("Euler", sample.EulerSampler)
    yield method("Heun", sample.HeunSampler, 2)
    for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        for order in (2, 3, 4):
            yield method(f"{name} {order}", getattr(sample, f"{name}Sampler"), order=order)


def diffusers() -> Iterable[Method]:
    """Schedulers of diffusers that read their times from ``sigmas``, which are r."""
    import diffusers as d

    def method(name: str, make: Callable[[], Any]) -> Method:
        def run(model: Model, z: Tensor, ratios: Tensor, path: Track) -> Tensor:
            del path
            scheduler, steps = make(), len(ratios) - 1
            scheduler.set_timesteps(steps)
            alpha = torch.rsqrt(1 + ratios**2)
            if hasattr(scheduler, "betas") and hasattr(scheduler, "ets"):  # iPNDM keeps sigma as betas
                scheduler.betas, scheduler.alphas = alpha * ratios, alpha
            else:
                scheduler.sigmas = ratios
            scheduler.timesteps = torch.arange(999, 999 - steps, -1)
            scheduler.num_inference_steps = steps
            scheduler.set_begin_index(0)
            x = alpha[0] * z
            for i, t in enumerate(scheduler.timesteps):
                clean = model(x / alpha[i], float(ratios[i]))
                output = clean
                if hasattr(scheduler, "ets"):  # iPNDM asks for v
                    output = (alpha[i] * x - clean) / (alpha[i] * ratios[i])
                x = scheduler.step(output, t, x, return_dict=False)[0].double()
            return x / alpha[-1]

        return Method(f"diffusers {name}", run)

    sample = {"prediction_type": "sample", "lower_order_final": False}
    for order in (2, 3):
        for kind in ("dpmsolver", "dpmsolver++"):
            # float64 beats their default type in the last digits only
            options = {
                **sample,
                "solver_order": order,
                "algorithm_type": kind,
                "final_sigmas_type": "sigma_min",
            }
            yield method(
                f"DPMSolverMultistep {kind} {order}", lambda o=options: d.DPMSolverMultistepScheduler(**o)
            )
            yield method(
                f"DPMSolverSinglestep {kind} {order}", lambda o=options: d.DPMSolverSinglestepScheduler(**o)
            )
        for kind in ("bh1", "bh2"):
            options = {"prediction_type": "sample", "solver_order": order, "solver_type": kind}
            yield method(f"UniPC {kind} {order}", lambda o=options: d.UniPCMultistepScheduler(**o))
        options = {**sample, "solver_order": order}
        yield method(f"DEIS {order}", lambda o=options: d.DEISMultistepScheduler(**o))
        options = {**sample, "predictor_order": order, "corrector_order": order, "tau_func": lambda t: 0}
        yield method(f"SASolver tau 0 {order}", lambda o=options: d.SASolverScheduler(**o))
    yield method("iPNDM", d.IPNDMScheduler)


PEERS = {"k-diffusion": k_diffusion, "azula": azula, "diffusers": diffusers}


def methods() -> tuple[list[Method], dict[str, str]]:
    """Solvers of sde_gen and of the peers that are installed, with the peers' versions."""
    found = [own(StraightAdams())]
    found += [own(s) for s in (DPMSolverPP(), DPMSolverPP3M(), DPMSolver3M(), UniPCBH2(), DEISTAB(), Heun())]
    versions = {}
    for package, make in PEERS.items():
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                found += list(make())
            versions[package] = importlib.metadata.version(package)
        except ImportError as error:
            console.console.print(f"{package} is left out: {error}")
    return found, versions
