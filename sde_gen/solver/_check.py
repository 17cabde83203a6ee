"""What stochastic solvers check before they start."""

import math

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser


def require_strength(eta: float) -> None:
    """Refuse a strength of noise that is none.

    Arguments:
        eta: how much of the forward process' noise is put back.

    Raises:
        ValueError: eta is negative or not finite.
    """
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta={eta} must be finite and not negative; 0 puts no noise back")


def require_descent(solver: str, times: Tensor) -> None:
    """Refuse to draw noise towards larger times.

    Arguments:
        solver: name of the solver, for the message.
        times: monotone times with shape (steps + 1,).

    Raises:
        ValueError: the times ascend.
    """
    if bool(times[-1] > times[0]):
        raise ValueError(
            f"{solver} draws noise and goes from large to small times only, got {float(times[0]):g} to "
            f"{float(times[-1]):g}; to encode use a deterministic solver, such as Heun"
        )


def require_finite_diffusion(solver: str, model: Denoiser, t: Tensor) -> None:
    """Refuse to start a solver that needs g(t) where g(t) is infinite.

    Arguments:
        solver: name of the solver, for the message.
        model: the denoiser, whose process is asked.
        t: the first time with shape ().

    Raises:
        ValueError: g(t) is not finite, as that of the straight path at t = 1.
    """
    if not bool(torch.isfinite(model.sde.diffusion(t)).all()):
        raise ValueError(
            f"g({float(t):g}) of {type(model.sde).__name__} is infinite, which {solver} needs finite: "
            "give the grid a t_max below 1, such as 0.999, or use a solver that does not ask for g, "
            "such as Ancestral or DDIM"
        )


def require_signal(solver: str, model: Denoiser, t: Tensor) -> None:
    """Refuse to start a solver that works in x / alpha where alpha is zero.

    Arguments:
        solver: name of the solver, for the message.
        model: the denoiser, whose process is asked.
        t: the first time with shape ().

    Raises:
        ValueError: alpha(t) is zero, as that of the straight path at t = 1.
    """
    if not bool(torch.isfinite(model.sde.log_snr(t)).all()):
        raise ValueError(
            f"alpha({float(t):g}) of {type(model.sde).__name__} is zero, from where {solver} cannot start: "
            "give the grid a t_max below 1, such as 0.999, or use the log_snr grid, or a solver that can, "
            "such as Ancestral or DDIM"
        )
