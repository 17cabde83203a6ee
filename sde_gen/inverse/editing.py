"""Editing: DDIM inversion, interpolation and analogies of latents, SDEdit."""

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
    """Latents and reconstructions of samples.

    Arguments:
        latents: latents with shape (B, *event).
        reconstruction: decoded latents with shape (B, *event).
        error: root mean square error of every reconstruction in model space, float64 with shape (B,).
    """

    latents: Tensor
    reconstruction: Tensor
    error: Tensor


@dataclass(frozen=True, kw_only=True)
class Editor(Checked):
    r"""Encode and decode samples by the probability flow (DDIM inversion), or edit them by SDEdit.

    A sample is taken as one at the grid's last time, so that decoding inverts encoding up to the solver's error. The
    latent of an exact score is determined by process and data alone: well-trained networks agree on it.

    Sources: Song et al., 2021, arXiv:2011.13456, section 4.3; partial noising: Meng et al., 2022, arXiv:2108.01073,
    algorithm 1.

    Arguments:
        sampler: solver, grid and number of steps; only :meth:`sdedit` takes its final denoising step.

    Raises:
        ValueError: for :meth:`encode` and :meth:`decode`, the solver draws noise.
    """

    sampler: Sampler

    @torch.no_grad()
    def encode(self, denoiser: Denoiser, x: Tensor) -> Tensor:
        """Integrate samples (B, *event) to latents at the grid's first time, with the same shape."""
        times = self._times(denoiser).flip(0)
        return self.sampler.solver.solve(denoiser, x, times, noise=IID.seeded(0))

    @torch.no_grad()
    def decode(self, denoiser: Denoiser, z: Tensor, *, hooks: Iterable[Hook] = ()) -> Tensor:
        """Integrate latents (B, *event) to samples, with the same shape; hooks are called after every step."""
        return self.sampler.solver.solve(denoiser, z, self._times(denoiser), noise=IID.seeded(0), hooks=hooks)

    def round_trip(self, denoiser: Denoiser, x: Tensor) -> "RoundTrip":
        """Encode samples (B, *event) and decode their latents; the error is the solver's discretization error."""
        latents = self.encode(denoiser, x)
        reconstruction = self.decode(denoiser, latents)
        error = mean_event((reconstruction - x).double().square()).sqrt()
        return RoundTrip(latents, reconstruction, error)

    @torch.no_grad()
    def sdedit(
        self, denoiser: Denoiser, x: Tensor, *, ratio: float, noise: Noise, hooks: Iterable[Hook] = ()
    ) -> Tensor:
        """Diffuse samples to sigma / alpha = ratio and sample from there (SDEdit).

        A small ratio changes details, a large one all but the coarsest outline.

        Arguments:
            denoiser: the model, conditioning bound.
            x: images in model space with shape (B, *event), such as strokes.
            ratio: sigma / alpha of the first time; the remaining times are those of the grid.
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
        remaining = torch.cat([t.reshape(1), times[times < t]])
        x_s = sampler.solver.solve(denoiser, x_t, remaining, noise=noise, hooks=hooks)
        return sampler.finish(denoiser, x_s, times[-1])

    @torch.no_grad()
    def vary(
        self, denoiser: Denoiser, x: Tensor, *, strength: float, noise: Noise, hooks: Iterable[Hook] = ()
    ) -> Tensor:
        """Diffuse samples to a time of the grid, and take a share of the sampler's evaluations, the last of them.

        Of S evaluations, the final denoising step included, the last ``floor(strength S)`` are taken; 1 takes all.

        Source: as :meth:`sdedit`; the count is that of diffusers' image-to-image pipelines.

        Arguments:
            denoiser: the model, conditioning bound.
            x: images in model space with shape (B, *event).
            strength: share in (0, 1].
            noise: source of all randomness.
            hooks: called after every step.

        Returns:
            Samples with shape (B, *event).

        Raises:
            ValueError: the share is less than one step.
        """
        sampler = self.sampler
        times = sampler.grid(denoiser.sde, sampler.steps)
        total = sampler.steps + int(sampler.denoises)
        taken = min(int(total * strength), total)
        if taken < 1:
            raise ValueError(f"strength={strength} takes none of the {total} steps: give more of either")
        remaining = times[total - taken :]
        alpha, sigma = denoiser.sde.marginal(remaining[0])
        x_t = broadcast_like(alpha, x) * x + broadcast_like(sigma, x) * noise.normal(x)
        if len(remaining) > 1:
            x_t = sampler.solver.solve(denoiser, x_t, remaining, noise=noise, hooks=hooks)
        return sampler.finish(denoiser, x_t, times[-1])

    def _times(self, denoiser: Denoiser) -> Tensor:
        if self.sampler.solver.stochastic:
            raise ValueError(
                f"{type(self.sampler.solver).__name__} is stochastic, but latents are defined by the probability flow; "
                "use a deterministic solver, such as Heun"
            )
        return self.sampler.grid(denoiser.sde, self.sampler.steps)


def interpolate(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    r"""Interpolate latents spherically, which preserves their norm.

    .. math::
        \frac{\sin((1 - w) \theta)}{\sin \theta} a + \frac{\sin(w \theta)}{\sin \theta} b, \qquad
        \cos \theta = \frac{a \cdot b}{|a| |b|}

    Source: Shoemake, 1985, SIGGRAPH 19, 245; for latents: Song et al., 2020, arXiv:2010.02502, eq. 67.

    Arguments:
        a: latents with shape (B, *event), none of them zero.
        b: latents with shape (B, *event).
        weight: w with shape () or (B,); 0 gives a, 1 gives b.
    """
    cosine = sum_event(a * b) / torch.sqrt(sum_event(a * a) * sum_event(b * b))
    theta = torch.arccos(cosine.clamp(-1, 1))
    weight = weight.to(theta)
    near = theta < 1e-4  # linear interpolation
    sine = torch.where(near, 1.0, torch.sin(theta))
    first = torch.where(near, 1 - weight, torch.sin((1 - weight) * theta) / sine)
    second = torch.where(near, weight, torch.sin(weight * theta) / sine)
    return broadcast(first, a) * a + broadcast(second, b) * b


def analogy(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""Return the latent ``c + b - a``, scaled to the mean norm of the three.

    Latents concentrate near a sphere; their sums have larger norms, which a network has not been trained on.

    Source: for word vectors, Mikolov et al., 2013, arXiv:1301.3781.

    Arguments:
        a: latents with shape (B, *event).
        b: latents with shape (B, *event).
        c: latents with shape (B, *event), so that c + b - a is not zero.

    Returns:
        Codes with shape (B, *event).
    """
    shifted = c + b - a
    length = sum(torch.sqrt(sum_event(z * z)) for z in (a, b, c)) / 3
    return broadcast(length / torch.sqrt(sum_event(shifted * shifted)), shifted) * shifted
