"""Checks of solver arguments, processes and grids."""

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.solver.base import Solver

MAX_ETA = 10.0
"""Largest strength of noise; steps would have to be hundreds of times shorter than those of the forward process."""


def require_eta(eta: float) -> None:
    """Raise an error for an invalid strength of noise.

    Arguments:
        eta: how much of the forward process' noise is put back.

    Raises:
        ValueError: eta is negative or larger than MAX_ETA.
    """
    if not 0 <= eta <= MAX_ETA:
        raise ValueError(
            f"eta={eta} must lie in [0, {MAX_ETA:g}]: 0 puts no noise back, 1 as much as the reverse process has"
        )


def require_int(least: int, **numbers: int) -> None:
    """Raise an error for numbers that are not integers, or too small.

    Arguments:
        least: the smallest that is allowed.
        numbers: arguments by name.

    Raises:
        ValueError: one of them is not an integer, or below the least.
    """
    for name, number in numbers.items():
        if type(number) is not int or number < least:
            raise ValueError(f"{name}={number!r} must be a whole number, at least {least}")


def require_order(allowed: tuple[int, ...], hint: str = "", **orders: int) -> None:
    """Raise an error for an order that a method does not have.

    Arguments:
        allowed: the orders it has.
        hint: advice appended to the message.
        orders: arguments by name.

    Raises:
        ValueError: one of them is not an integer of these.
    """
    for name, order in orders.items():
        if type(order) is not int or order not in allowed:
            first = ", ".join(str(number) for number in allowed[:-1])
            raise ValueError(f"{name}={order!r} must be {first} or {allowed[-1]}{hint}")


def require_steps(name: str, solver: Solver) -> None:
    """Raise an error for an adaptive solver where one is needed that steps through the grid.

    Arguments:
        name: of the argument.
        solver: the inner solver.

    Raises:
        ValueError: it has adaptive steps.
    """
    if solver.nfe(1) is None or not hasattr(solver, "step"):
        raise ValueError(
            f"{name}={solver} has adaptive step sizes; expected a solver that steps through the grid, such as Heun"
        )


def require_descent(solver: str, times: Tensor) -> None:
    """Raise an error for noise toward larger times.

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
    """Raise an error for a solver that needs g(t) at a start where g(t) is infinite.

    Arguments:
        solver: name of the solver, for the message.
        model: the denoiser, with its process.
        t: the first time with shape ().

    Raises:
        ValueError: g(t) is not finite, as that of the linear path at t = 1.
    """
    if not bool(torch.isfinite(model.sde.diffusion(t)).all()):
        raise ValueError(
            f"g({float(t):g}) of {type(model.sde).__name__} is infinite, which {solver} needs finite: "
            "give the grid a t_max below 1, such as 0.999, or use a solver that does not need g, "
            "such as Ancestral or DDIM"
        )


def require_signal(solver: str, model: Denoiser, t: Tensor) -> None:
    """Raise an error for a solver that works in x / alpha at a start where alpha is zero.

    Arguments:
        solver: name of the solver, for the message.
        model: the denoiser, with its process.
        t: the first time with shape ().

    Raises:
        ValueError: alpha(t) is zero, as that of the linear path at t = 1.
    """
    if not bool(torch.isfinite(model.sde.log_snr(t)).all()):
        raise ValueError(
            f"alpha({float(t):g}) of {type(model.sde).__name__} is zero, from where {solver} cannot start: "
            "give the grid a t_max below 1, such as 0.999, or use the log_snr grid, or a solver that can, "
            "such as Ancestral or DDIM"
        )


MAX_STD_GAIN = 3.0
"""Standard deviation of standard normal data after sampling, relative to the exact one, from which it is an error."""


def require_stable(solver: str, std_gain: float, remedy: str) -> None:
    """Raise an error for a grid on which a solver inflates Gaussian data.

    Arguments:
        solver: name of the solver, for the message.
        std_gain: standard deviation that data of N(0, I) would have, relative to the exact one.
        remedy: advice on what to use.

    Raises:
        ValueError: the gain is above MAX_STD_GAIN.
    """
    if not std_gain <= MAX_STD_GAIN:
        raise ValueError(
            f"{solver} is unstable on this grid: data N(0, 1) would get {std_gain:.3g} times their standard "
            f"deviation, expected at most {MAX_STD_GAIN:g}; {remedy}"
        )
