"""Conversion of diffusers schedulers to process and parametrization."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.label import LogRatio, Time
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.denoiser.parametrization.v import V
from sde_gen.denoiser.parametrization.velocity import Velocity
from sde_gen.denoiser.parametrization.x0 import X0
from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.preconditioning import karras
from sde_gen.interop.settings import MOST_STEPS, choice, flag, need, real, reals, shown, whole
from sde_gen.sde.ddpm import (
    DDPM,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_snr_betas,
)
from sde_gen.sde.rectified import Rectified
from sde_gen.sde.ve import VE


class SchedulerConventions(NamedTuple):
    """Process and parametrization of a converted network.

    Attributes:
        sde: the process.
        parametrization: the parametrization.
        sign: factor of the last convolutions.
        notes: messages about settings that are not imported.
    """

    sde: ObjectSpec
    parametrization: ObjectSpec
    sign: float = 1.0
    notes: tuple[str, ...] = ()


CHAINS = (
    "DDIMInverse",
    "DDIMParallel",
    "DDIM",
    "DDPMParallel",
    "DDPM",
    "DEISMultistep",
    "DPMSolverMultistepInverse",
    "DPMSolverMultistep",
    "DPMSolverSDE",
    "DPMSolverSinglestep",
    "EulerAncestralDiscrete",
    "EulerDiscrete",
    "HeunDiscrete",
    "KDPM2AncestralDiscrete",
    "KDPM2Discrete",
    "LMSDiscrete",
    "PNDM",
    "SASolver",
    "UnCLIP",
    "UniPCMultistep",
)
"""Schedulers defined by a beta table; only the table is imported, not the sampler."""

LEVELS = ("EDMDPMSolverMultistep", "EDMEuler")
"""Schedulers of EDM's preconditioning."""

FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete")
"""Schedulers of rectified flow."""

PREDICTIONS = {"epsilon": Eps, "sample": X0, "v_prediction": V}


def conventions_of(
    scheduler: Mapping[str, Any], *, outputs: int, fourier: bool, unit: float
) -> SchedulerConventions:
    """Convert a scheduler to process and parametrization.

    Source: von Platen et al., diffusers 0.42, schedulers.

    Arguments:
        scheduler: its ``scheduler_config.json``.
        outputs: outputs of the network per channel of the image.
        fourier: True if the network takes the logarithm of its label and divides its output by the label.
        unit: scale of data and noise relative to the original, for ``fourier`` networks.

    Raises:
        ValueError: scheduler or setting is not supported; the message names it.
    """
    settings = need(scheduler, "_class_name")
    name = settings.removesuffix("Scheduler") if isinstance(settings, str) else ""
    if name == "CMStochasticIterative":
        raise ValueError(
            "CMStochasticIterativeScheduler: a consistency model predicts the end of a path and not the mean of the "
            "clean images, so it has no score; import the network from which it was distilled (EDM's, with from=edm)"
        )
    if fourier != (name == "ScoreSdeVe"):
        raise ValueError(
            f"{shown(settings)} with time_embedding_type={'fourier' if fourier else 'positional or learned'} is not "
            "supported: networks with fourier features are of ScoreSdeVeScheduler, and only they"
        )
    readers: dict[str, Callable[[Mapping[str, Any]], SchedulerConventions]] = {
        **dict.fromkeys(CHAINS, lambda settings: _chain(settings, outputs)),
        **dict.fromkeys(LEVELS, _levels),
        **dict.fromkeys(FLOWS, _flow),
        "ScoreSdeVe": lambda settings: _exploding(settings, unit),
    }
    if name not in readers:
        raise ValueError(
            f"_class_name={shown(settings)} is not supported; expected one of {', '.join(readers)}"
        )
    if outputs == 2 and name not in CHAINS:
        raise ValueError(f"{name}Scheduler with a variance beside the image (out_channels) is not supported")
    return readers[name](scheduler)


def _exploding(settings: Mapping[str, Any], unit: float) -> SchedulerConventions:
    """Return VE on data scaled by ``unit``; the network predicts the score, -noise / sigma."""
    sde = ObjectSpec(
        VE,
        sigma_min=unit * real(settings, "sigma_min"),
        sigma_max=unit * real(settings, "sigma_max"),
        t_min=real({"sampling_eps": 1e-5, **settings}, "sampling_eps"),
    )
    return SchedulerConventions(sde, ObjectSpec(Eps, label=ObjectSpec(LogRatio, unit=unit)), -1.0)


def _levels(settings: Mapping[str, Any]) -> SchedulerConventions:
    """Return EDM; ``v_prediction`` has the opposite sign."""
    kind = choice({"prediction_type": "epsilon", **settings}, "prediction_type", "epsilon", "v_prediction")
    low, high, deviation = (real(settings, f"sigma_{key}") for key in ("min", "max", "data"))
    return SchedulerConventions(
        *karras(low=low, high=high, deviation=deviation), 1.0 if kind == "epsilon" else -1.0
    )


def _flow(settings: Mapping[str, Any]) -> SchedulerConventions:
    """Return rectified flow with the noise label 1000 t and velocity prediction."""
    _reject(settings, "invert_sigmas")
    steps = whole({"num_train_timesteps": 1000, **settings}, "num_train_timesteps", maximum=MOST_STEPS)
    notes = []
    if settings.get("shift", 1.0) != 1.0:
        notes.append(
            f"shift={shown(settings['shift'])} is a setting of the sampler's grid: sample with grid=shifted "
            f"grid.shift={shown(settings['shift'])}"
        )
    sde = ObjectSpec(Rectified)
    output = ObjectSpec(Velocity, sde=sde, label=ObjectSpec(Time, scale=float(steps)))
    return SchedulerConventions(sde, output, notes=tuple(notes))


def betas_of(settings: Mapping[str, Any]) -> Any:
    """Return the specification of the table of a chain.

    Raises:
        ValueError: a setting is not supported.
    """
    betas = _betas(settings)[1]
    if flag({"rescale_betas_zero_snr": False, **settings}, "rescale_betas_zero_snr"):
        return ObjectSpec(zero_snr_betas, betas=betas)
    return betas


def _chain(settings: Mapping[str, Any], outputs: int) -> SchedulerConventions:
    """Return the chain of a beta table."""
    _reject(settings, "use_flow_sigmas")
    choice({"timestep_type": "discrete", **settings}, "timestep_type", "discrete")
    steps, betas = _betas(settings)[0], betas_of(settings)
    kind = choice({"prediction_type": "epsilon", **settings}, "prediction_type", *PREDICTIONS)
    output = ObjectSpec(PREDICTIONS[kind], label=ObjectSpec(Time, scale=float(steps), offset=-1.0))
    if outputs == 2:
        choice(settings, "variance_type", "learned_range")
        output = ObjectSpec(LearnedVariance, mean=output)
    return SchedulerConventions(ObjectSpec(DDPM, betas=betas), output)


def _betas(settings: Mapping[str, Any]) -> tuple[int, Any]:
    """Return the number of betas and their table."""
    if settings.get("trained_betas") is not None:
        table = reals(settings, "trained_betas", MOST_STEPS)
        return len(table), table
    steps = whole(settings, "num_train_timesteps", minimum=4, maximum=MOST_STEPS)
    tables = {"linear": linear_betas, "scaled_linear": scaled_linear_betas, "sigmoid": sigmoid_betas}
    kind = choice(
        {"beta_schedule": "linear", **settings}, "beta_schedule", "linear", "scaled_linear", "sigmoid", COSINE
    )
    if kind == COSINE:
        return steps, ObjectSpec(cosine_betas, steps=steps)
    low, high = real(settings, "beta_start"), real(settings, "beta_end")
    return steps, ObjectSpec(tables[kind], steps=steps, beta_min=low, beta_max=high)


COSINE = "squaredcos_cap_v2"


def _reject(settings: Mapping[str, Any], key: str) -> None:
    if flag({key: False, **settings}, key):
        raise ValueError(f"{key}=true is not supported; expected false")
