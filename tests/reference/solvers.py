"""Samplers of other projects, read off their papers and descriptions: step by step, with nothing of our solvers.

Those of k-diffusion work on z = x / alpha and rho = sigma / alpha, by a function that denoises z at rho; those of the
papers on x, with alpha, sigma and lam = log(alpha / sigma) of a table of times.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.sde import SDE

Clean = Callable[[Tensor, float], Tensor]
"""The denoised z at z and rho."""


def clean_of(model: Denoiser) -> Clean:
    """The model as k-diffusion has it, whatever its process."""

    def clean(z: Tensor, rho: float) -> Tensor:
        t = model.sde.t_from_log_snr(torch.tensor(-2 * math.log(rho), dtype=torch.float64))
        return model(model.sde.alpha(t) * z, t).x0

    return clean


def down_up(rho: float, to: float, eta: float) -> tuple[float, float]:
    """Return the noise level down to which an ancestral step goes, and the noise that leads back up."""
    up = min(to, eta * math.sqrt(to**2 * (rho**2 - to**2) / rho**2))
    return math.sqrt(to**2 - up**2), up


def slope(z: Tensor, rho: float, denoised: Tensor) -> Tensor:
    """dz / d rho of the probability flow."""
    return (z - denoised) / rho


def euler_with_churn(
    clean: Clean, z: Tensor, rhos: list[float], draws: Iterator[Tensor], churn: float, low: float, high: float
) -> Tensor:
    """Karras et al., 2022, algorithm 2, without its correction."""
    for rho, to in pairwise(rhos):
        gamma = min(churn / (len(rhos) - 1), math.sqrt(2) - 1) if low <= rho <= high else 0.0
        hat = rho * (1 + gamma)
        if gamma:
            z = z + math.sqrt(hat**2 - rho**2) * next(draws)
        z = z + (to - hat) * slope(z, hat, clean(z, hat))
    return z


def dpm_2_ancestral(
    clean: Clean, z: Tensor, rhos: list[float], draws: Iterator[Tensor], eta: float
) -> Tensor:
    """An Euler step half-way down in log rho, the slope there for the whole way down, and noise."""
    for rho, to in pairwise(rhos):
        down, up = down_up(rho, to, eta)
        middle = math.exp(0.5 * (math.log(rho) + math.log(down)))
        there = z + (middle - rho) * slope(z, rho, clean(z, rho))
        z = z + (down - rho) * slope(there, middle, clean(there, middle)) + up * next(draws)
    return z


def dpmpp_2s_ancestral(
    clean: Clean, z: Tensor, rhos: list[float], draws: Iterator[Tensor], eta: float
) -> Tensor:
    """The same with steps that are exact for a constant denoised z."""
    for rho, to in pairwise(rhos):
        down, up = down_up(rho, to, eta)
        h = math.log(rho / down)
        there = math.exp(-h / 2) * z - math.expm1(-h / 2) * clean(z, rho)
        z = math.exp(-h) * z - math.expm1(-h) * clean(there, rho * math.exp(-h / 2)) + up * next(draws)
    return z


def dpmpp_sde(
    clean: Clean, z: Tensor, rhos: list[float], path: Callable[[float, float], Tensor], eta: float, r: float
) -> Tensor:
    """Two ancestral steps from the same point; ``path`` gives normalized increments of one Brownian motion over rho."""
    for rho, to in pairwise(rhos):
        middle = math.exp(math.log(rho) + r * (math.log(to) - math.log(rho)))
        first = clean(z, rho)
        down, up = down_up(rho, middle, eta)
        there = down / rho * z + (1 - down / rho) * first + up * path(rho, middle)
        mixed = (1 - 1 / (2 * r)) * first + 1 / (2 * r) * clean(there, middle)
        down, up = down_up(rho, to, eta)
        z = down / rho * z + (1 - down / rho) * mixed + up * path(rho, to)
    return z


def dpmpp_m_sde(
    clean: Clean, z: Tensor, rhos: list[float], draws: Iterator[Tensor], eta: float, points: int
) -> Tensor:
    """k-diffusion's 2M SDE, with half of the difference, and 3M SDE, with phi functions; eta is the square of ours."""
    past: list[Tensor] = []
    lengths: list[float] = []
    for rho, to in pairwise(rhos):
        h, denoised = math.log(rho / to), clean(z, rho)
        e = h * (1 + eta)
        new = math.exp(-e) * z - math.expm1(-e) * denoised
        phi_2 = math.expm1(-e) / e + 1
        phi_3 = phi_2 / e - 0.5
        if points == 2 and past:
            new = new - 0.5 * math.expm1(-e) * (denoised - past[-1]) * h / lengths[-1]
        if points == 3 and past:
            d = (denoised - past[-1]) * h / lengths[-1]
            if len(past) > 1:
                r_0, r_1 = lengths[-1] / h, lengths[-2] / h
                bend = (d - (past[-1] - past[-2]) / r_1) / (r_0 + r_1)
                d, new = d + r_0 * bend, new - phi_3 * bend
            new = new + phi_2 * d
        z = new + to * math.sqrt(-math.expm1(-2 * eta * h)) * next(draws)
        past, lengths = [*past, denoised], [*lengths, h]
    return z


def dpm_solver(
    model: Denoiser,
    x: Tensor,
    times: Tensor,
    *,
    order: int,
    data: bool,
    half: bool = True,
    last: int | None = None,
    draws: Iterator[Tensor] | None = None,
) -> Tensor:
    """Multistep DPM-Solver in noise prediction, DPM-Solver++ in data prediction; with draws SDE-DPM-Solver.

    Lu et al., 2022, arXiv:2206.00927, appendix B, and arXiv:2211.01095, appendix B.
    """
    sde: SDE = model.sde
    (alpha, sigma), lam = sde.marginal(times), sde.log_snr(times) / 2
    values: list[Tensor] = []
    for i in range(len(times) - 1):
        prediction = model(x, times[i])
        values.append(prediction.x0 if data else prediction.eps)
        h, noisy = lam[i + 1] - lam[i], draws is not None
        n = min(order, i + 1, order if last is None else last + len(times) - 2 - i)
        differences = [values[-1], torch.zeros_like(x), torch.zeros_like(x)]
        if n > 1:
            first = (values[-1] - values[-2]) * h / (lam[i] - lam[i - 1])
            differences[1] = first
        if n > 2:
            second = (values[-2] - values[-3]) * h / (lam[i - 1] - lam[i - 2])
            bend = h * (first - second) / (lam[i] - lam[i - 2])
            differences[1:] = [first + (lam[i] - lam[i - 1]) / h * bend, bend]
        if data:
            assert not noisy
            phi = [-torch.expm1(-h), 1 + torch.expm1(-h) / h, 0.5 - (torch.expm1(-h) + h) / h**2]
            x, scale = sigma[i + 1] / sigma[i] * x, alpha[i + 1]
        else:
            phi = [torch.expm1(h), torch.expm1(h) / h - 1, (torch.expm1(h) - h) / h**2 - 0.5]
            x, scale = alpha[i + 1] / alpha[i] * x, -(2 if noisy else 1) * sigma[i + 1]
        if n == 2 and half:
            phi[1] = 0.5 * phi[0]
        x = x + scale * sum(p * d for p, d in zip(phi, differences, strict=True))
        if draws is not None:
            x = x + sigma[i + 1] * torch.sqrt(torch.exp(2 * h) - 1) * next(draws)
    return x
