"""From images to codes and back: encoding, interpolation, and images made anew from a noised one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import IID, Noise
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast, broadcast_like, mean_event, sum_event


class RoundTrip(NamedTuple):
    """Samples on their way to codes and back.

    Arguments:
        codes: with shape (B, *event).
        back: what the codes decode to, with shape (B, *event).
        error: root mean square distance of every sample from its way back, in units of the data, float64 with shape
            (B,).
    """

    codes: Tensor
    back: Tensor
    error: Tensor


@dataclass(frozen=True, kw_only=True)
class Editor(Checked):
    r"""Carry samples along the probability flow in both directions, or noise them part of the way and return.

    A sample is taken as one at the grid's last time, so that encoding and decoding undo each other up to the solver's
    error. The code of a sample does not depend on the network, if only it is good enough: the flow is that of the
    process and the data alone.

    Sources: Song et al., 2021, arXiv:2011.13456, section 4.3; partial noising: Meng et al., 2022, arXiv:2108.01073,
    algorithm 1.

    Arguments:
        sampler: solver, grid and number of steps; its Tweedie step is taken by :meth:`vary` alone.

    Raises:
        ValueError: for :meth:`encode` and :meth:`decode`, the solver draws noise.
    """

    sampler: Sampler

    @torch.no_grad()
    def encode(self, denoiser: Denoiser, x: Tensor) -> Tensor:
        """Carry samples (B, *event) to codes at the grid's first time, with the same shape."""
        times = self._times(denoiser).flip(0)
        return self.sampler.solver.solve(denoiser, x, times, noise=IID.seeded(0))

    @torch.no_grad()
    def decode(self, denoiser: Denoiser, z: Tensor, *, hooks: Iterable[Hook] = ()) -> Tensor:
        """Carry codes (B, *event) back to samples, with the same shape; hooks are called after every step."""
        return self.sampler.solver.solve(denoiser, z, self._times(denoiser), noise=IID.seeded(0), hooks=hooks)

    def round_trip(self, denoiser: Denoiser, x: Tensor) -> "RoundTrip":
        """Encode samples (B, *event) and decode their codes: how far they are off is the error of the steps."""
        codes = self.encode(denoiser, x)
        back = self.decode(denoiser, codes)
        return RoundTrip(codes, back, mean_event((back - x).double().square()).sqrt())

    @torch.no_grad()
    def vary(
        self, denoiser: Denoiser, x: Tensor, *, ratio: float, noise: Noise, hooks: Iterable[Hook] = ()
    ) -> Tensor:
        """Noise samples until sigma / alpha = ratio and sample from there (SDEdit).

        A small ratio changes details, a large one all but the coarsest outline. What is sampled does follow the
        model; how much of x it keeps is for the ratio to say.

        Arguments:
            denoiser: the model, conditioning bound.
            x: images in model space with shape (B, *event); they need not be the data's, strokes will do.
            ratio: sigma / alpha at which to begin; the steps are those that the grid has from there on.
            noise: source of all randomness.
            hooks: called after every step.

        Returns:
            Samples with shape (B, *event).

        Raises:
            ValueError: the ratio lies outside the grid.
        """
        sampler, sde = self.sampler, denoiser.sde
        times = sampler.grid(sde, sampler.steps)
        low, high = (float(torch.exp(-0.5 * sde.log_snr(t))) for t in (times[-1], times[0]))
        if not low < ratio <= high:
            raise ValueError(
                f"ratio={ratio} of sigma to alpha lies outside the grid's, {low:.3g} to {high:.3g}"
            )
        t = sde.t_from_log_snr(-2 * torch.log(torch.tensor(ratio, dtype=torch.float64))).clamp(max=times[0])
        alpha, sigma = sde.marginal(t)
        x_t = broadcast_like(alpha, x) * x + broadcast_like(sigma, x) * noise.normal(x)
        rest = torch.cat([t.reshape(1), times[times < t]])
        x_s = sampler.solver.solve(denoiser, x_t, rest, noise=noise, hooks=hooks)
        return denoiser(x_s, times[-1]).x0 if sampler.denoise_final else x_s

    def _times(self, denoiser: Denoiser) -> Tensor:
        if self.sampler.solver.stochastic:
            raise ValueError(
                f"{type(self.sampler.solver).__name__} draws noise, and codes belong to the probability flow; "
                "use a deterministic solver, such as Heun"
            )
        return self.sampler.grid(denoiser.sde, self.sampler.steps)


def interpolate(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    r"""Go from codes a to codes b on a great circle, which keeps the length that codes have.

    .. math::
        \frac{\sin((1 - w) \theta)}{\sin \theta} a + \frac{\sin(w \theta)}{\sin \theta} b, \qquad
        \cos \theta = \frac{a \cdot b}{|a| |b|}

    Source: Shoemake, 1985, SIGGRAPH 19, 245; for codes: Song et al., 2020, arXiv:2010.02502, eq. 67.

    Arguments:
        a: codes with shape (B, *event), none of them zero.
        b: codes with shape (B, *event).
        weight: w with shape () or (B,); 0 gives a, 1 gives b.
    """
    cosine = sum_event(a * b) / torch.sqrt(sum_event(a * a) * sum_event(b * b))
    theta = torch.arccos(cosine.clamp(-1, 1))
    weight = weight.to(theta)
    near = theta < 1e-4  # the circle is a line
    sine = torch.where(near, 1.0, torch.sin(theta))
    first = torch.where(near, 1 - weight, torch.sin((1 - weight) * theta) / sine)
    second = torch.where(near, weight, torch.sin(weight * theta) / sine)
    return broadcast(first, a) * a + broadcast(second, b) * b


def analogy(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""What is to code c as code b is to code a: ``c + b - a``, given the mean length of the three.

    Sums of codes are longer than codes, which all lie near one sphere; a network has not seen them.

    Source: of vectors of words, Mikolov et al., 2013, arXiv:1301.3781.

    Arguments:
        a: codes with shape (B, *event).
        b: codes with shape (B, *event).
        c: codes with shape (B, *event), so that c + b - a is not zero.

    Returns:
        Codes with shape (B, *event).
    """
    moved = c + b - a
    length = sum(torch.sqrt(sum_event(z * z)) for z in (a, b, c)) / 3
    return broadcast(length / torch.sqrt(sum_event(moved * moved)), moved) * moved
