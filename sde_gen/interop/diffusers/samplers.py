"""Solver and grid that equal a scheduler of diffusers, where there are such."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from sde_gen.denoiser.parametrization.label import InterpolatedStep
from sde_gen.grid.ddpm import DDPMInner, DDPMLeading, DDPMLinspace, DDPMTrailing
from sde_gen.grid.exponential import Exponential
from sde_gen.grid.interpolated import DDPMInterpolated
from sde_gen.grid.karras import Karras
from sde_gen.grid.shifted import Shifted
from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.settings import MOST_STEPS, choice, real, whole
from sde_gen.sde.ddpm import cosine_betas
from sde_gen.solver.ancestral import Ancestral
from sde_gen.solver.ddim import DDIM
from sde_gen.solver.dpm_solver_pp import DPMSolverPP
from sde_gen.solver.multistep_weights import TaylorWeights
from sde_gen.solver.pndm import PNDM
from sde_gen.solver.runge_kutta import Euler, Heun


class SamplerConversion(NamedTuple):
    """Default of samples.

    Attributes:
        sampler: the sampler; None where none is equal.
        label: noise label between the steps of the chain; None for the time.
        notes: messages about settings that have no equal.
    """

    sampler: dict[str, Any] | None
    label: ObjectSpec | None = None
    notes: tuple[str, ...] = ()


class Unequal(Exception):
    """A setting that no solver or grid here equals."""


def sampler_of(scheduler: Mapping[str, Any], betas: Any, steps: int = 50) -> SamplerConversion:
    """Convert the sampler of a scheduler.

    The steps of diffusers end with clean data, where here the sampler takes one evaluation after the grid: with
    ``denoise_final`` a sampler has one step less.

    Source: von Platen et al., diffusers 0.42, schedulers.

    Arguments:
        scheduler: its ``scheduler_config.json``.
        betas: the specification of the chain's table; None for a flow.
        steps: its number of steps, S.
    """
    name = str(scheduler["_class_name"]).removesuffix("Scheduler")
    readers: dict[str, Callable[[Mapping[str, Any], Any, int], SamplerConversion]] = {
        "DDIM": _ddim,
        "DDPM": _ddpm,
        "PNDM": _pndm,
        "UnCLIP": _unclip,
        "DPMSolverMultistep": _dpm,
        "EulerDiscrete": _euler,
        "FlowMatchEulerDiscrete": _flow(Euler),
        "FlowMatchHeunDiscrete": _flow(Heun),
    }
    try:
        if name not in readers:
            raise Unequal("it has no equal")
        return readers[name](scheduler, betas, steps)
    except Unequal as reason:
        return SamplerConversion(
            None,
            notes=(
                f"the sampler of {name}Scheduler is not imported ({reason}): choose solver=... and grid=...",
            ),
        )


def _ddim(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    grid = _chain(settings, steps, clean=_boolean(settings, "set_alpha_to_one", True))
    return SamplerConversion(_sampler(ObjectSpec(DDIM, eta=0.0), *grid), notes=_clipped(settings, True))


def _ddpm(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    kind = choice({"variance_type": "fixed_small", **settings}, "variance_type", *VARIANCES)
    grid = _chain(settings, steps, clean=True)
    return SamplerConversion(
        _sampler(ObjectSpec(Ancestral, nu=VARIANCES[kind]), *grid), notes=_clipped(settings, True)
    )


def _unclip(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    """Return ancestral sampling whose last step is the first of the chain, with predictions clipped by default."""
    kind = choice(
        {"variance_type": "fixed_small_log", **settings}, "variance_type", "fixed_small_log", "learned_range"
    )
    grid = ObjectSpec(DDPMLinspace, chain=_length(settings), from_zero=True)
    found = _sampler(ObjectSpec(Ancestral, nu=VARIANCES[kind]), grid, steps - 1)
    if _boolean(settings, "clip_sample", True):
        most = real({"clip_sample_range": 1.0, **settings}, "clip_sample_range")
        if most <= 0:
            raise ValueError(f"clip_sample_range={most} is not supported; expected a positive number")
        found["sampling"]["clip"] = most
    found["sampling"]["final_gain"] = _rounded_gain(cosine_betas(steps=_length(settings))[0])
    return SamplerConversion(found)


def _rounded_gain(beta: float) -> float:
    """Return the factor of the predicted sample in the last step of UnCLIPScheduler.

    It is beta_1 / (1 - abar_1), which is 1, where 1 - abar_1 = 1 - (1 - beta_1) is computed in float32.
    """
    one, first = torch.ones(()), torch.tensor(beta, dtype=torch.float32)
    return float(first / (one - (one - first)))


VARIANCES = {"fixed_small": 0.0, "fixed_small_log": 0.0, "fixed_large": 1.0, "learned_range": None}
"""Interpolation weight of the log-variance by its name in diffusers."""


def _pndm(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    if not _boolean(settings, "skip_prk_steps", False):
        raise Unequal("skip_prk_steps=false has other times in its first steps than solver=pndm")
    grid = _chain(settings, steps, clean=_boolean(settings, "set_alpha_to_one", False))
    return SamplerConversion(_sampler(ObjectSpec(PNDM, runge_kutta=False), *grid))


def _chain(settings: Mapping[str, Any], steps: int, *, clean: bool) -> tuple[ObjectSpec, int, bool]:
    """Return grid, steps and whether the last step is the denoising one, for samplers on steps of the chain."""
    length = _length(settings)
    spacing = choice({"timestep_spacing": "leading", **settings}, "timestep_spacing", *SPACINGS)
    if spacing == "linspace":
        raise Unequal("timestep_spacing=linspace steps to other times than those at which it predicts")
    offset = 1 + whole({"steps_offset": 0, **settings}, "steps_offset", minimum=0)
    own = {"offset": offset} if spacing == "leading" else {}
    first = offset if spacing == "leading" else max(1, round(length / steps))
    if clean or first == 1:  # from step 1 to its own noise is no step
        return ObjectSpec(SPACINGS[spacing], chain=length, **own), steps - 1, clean
    return ObjectSpec(SPACINGS[spacing], chain=length, last=1, **own), steps, False


SPACINGS: dict[str, Any] = {"leading": DDPMLeading, "linspace": DDPMLinspace, "trailing": DDPMTrailing}


def _dpm(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    """Return DPM-Solver++ (2M) on the chain's steps, or on Karras' noise levels with rounded labels."""
    if choice({"algorithm_type": "dpmsolver++", **settings}, "algorithm_type", *ALGORITHMS) != "dpmsolver++":
        raise Unequal(f"algorithm_type={settings['algorithm_type']}")
    order = whole({"solver_order": 2, **settings}, "solver_order", maximum=3)
    kind = choice({"solver_type": "midpoint", **settings}, "solver_type", "midpoint", "heun")
    if order == 3:
        raise Unequal("solver_order=3")
    if {"final_sigmas_type": "zero", **settings}["final_sigmas_type"] != "zero":
        raise Unequal("final_sigmas_type=sigma_min")
    if _boolean(settings, "use_lu_lambdas", False) or _boolean(settings, "use_beta_sigmas", False):
        raise Unequal("its noise levels")
    weights = ObjectSpec(TaylorWeights, half_slope=kind == "midpoint")
    solver = ObjectSpec(DDIM, eta=0.0) if order == 1 else ObjectSpec(DPMSolverPP, weights=weights)
    levels = _levels(settings)
    if levels is not None:
        label = ObjectSpec(InterpolatedStep, betas=betas, logarithmic=True, rounded=True)
        return SamplerConversion(_sampler(solver, levels, steps - 1), label)
    spacing = choice({"timestep_spacing": "linspace", **settings}, "timestep_spacing", *SPACINGS)
    length = _length(settings)
    if spacing == "leading":
        raise Unequal("timestep_spacing=leading counts one step more")
    grid = ObjectSpec(DDPMInner if spacing == "linspace" else DDPMTrailing, chain=length)
    return SamplerConversion(_sampler(solver, grid, steps - 1))


ALGORITHMS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")


def _euler(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
    """Return DDIM, which is Euler's method in sigma / alpha, on levels between the chain's steps."""
    if {"final_sigmas_type": "zero", **settings}["final_sigmas_type"] != "zero":
        raise Unequal("final_sigmas_type=sigma_min")
    if settings.get("sigma_min") is not None or settings.get("sigma_max") is not None:
        raise Unequal("sigma_min and sigma_max")
    if _boolean(settings, "use_beta_sigmas", False):
        raise Unequal("its noise levels")
    kind = choice({"interpolation_type": "linear", **settings}, "interpolation_type", "linear", "log_linear")
    logarithmic, solver = kind == "log_linear", ObjectSpec(DDIM, eta=0.0)
    levels = _levels(settings)
    if levels is not None:
        return SamplerConversion(
            _sampler(solver, levels, steps - 1), ObjectSpec(InterpolatedStep, betas=betas, logarithmic=True)
        )
    spacing = choice({"timestep_spacing": "linspace", **settings}, "timestep_spacing", *SPACINGS)
    length = _length(settings)
    if spacing == "linspace":
        grid = ObjectSpec(DDPMInterpolated, chain=length, logarithmic=logarithmic)
        label = ObjectSpec(InterpolatedStep, betas=betas, logarithmic=logarithmic)
        return SamplerConversion(_sampler(solver, grid, steps - 1), label)
    return SamplerConversion(_sampler(solver, *_chain(settings, steps, clean=True)))


def _levels(settings: Mapping[str, Any]) -> ObjectSpec | None:
    """Return the grid of noise levels that do not depend on the chain's steps; None if they do."""
    if _boolean(settings, "use_karras_sigmas", False):
        return ObjectSpec(Karras, t_min=1 / _length(settings))
    if _boolean(settings, "use_exponential_sigmas", False):
        return ObjectSpec(Exponential, t_min=1 / _length(settings))
    return None


def _flow(solver: type) -> Callable[[Mapping[str, Any], Any, int], SamplerConversion]:
    def read(settings: Mapping[str, Any], betas: Any, steps: int) -> SamplerConversion:
        """Return a solver in time on shifted times; the last time is shifted twice, as there."""
        for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"):
            if _boolean(settings, key, False):
                raise Unequal(key)
        if _boolean(settings, "use_dynamic_shifting", False):
            raise Unequal("use_dynamic_shifting: give grid=shifted grid.shift=...")
        if settings.get("shift_terminal"):
            raise Unequal("shift_terminal")
        shift = real({"shift": 1.0, **settings}, "shift")
        last = 1 / _length(settings)
        for _ in range(2):
            last = shift * last / (1 + (shift - 1) * last)
        return SamplerConversion(
            _sampler(ObjectSpec(solver), ObjectSpec(Shifted, shift=shift, t_min=last), steps - 1)
        )

    return read


def _sampler(solver: ObjectSpec, grid: ObjectSpec, steps: int, final: bool = True) -> dict[str, Any]:
    """Return the parts of a configuration that are the default of samples."""
    return {
        "solver": solver.config(),
        "grid": grid.config(),
        "sampling": {"steps": max(1, steps), "denoise_final": final},
    }


def _clipped(settings: Mapping[str, Any], default: bool) -> tuple[str, ...]:
    """Return a note where predictions are clipped; with both settings they are thresholded alone."""
    if _boolean(settings, "thresholding", False):
        quantile = real({"dynamic_thresholding_ratio": 0.995, **settings}, "dynamic_thresholding_ratio")
        most = real({"sample_max_value": 1.0, **settings}, "sample_max_value")
        word = f"dynamic_threshold threshold.quantile={quantile:g} threshold.most={max(1.0, most):g}"
        return (f"thresholding=true is a setting of the sampler: sample with guidance@threshold={word}",)
    if _boolean(settings, "clip_sample", default):
        return ("clip_sample=true is a setting of the sampler: sample with guidance@threshold=clip",)
    return ()


def _length(settings: Mapping[str, Any]) -> int:
    return whole(
        {"num_train_timesteps": 1000, **settings}, "num_train_timesteps", minimum=4, maximum=MOST_STEPS
    )


def _boolean(settings: Mapping[str, Any], key: str, default: bool) -> bool:
    value = settings.get(key)
    return default if value is None else bool(value)
