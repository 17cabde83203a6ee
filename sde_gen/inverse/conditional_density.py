"""A learned conditional density of vectors in the units of the data."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning
from sde_gen.denoiser import Denoiser
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.noise import Noise
from sde_gen.ode import Adams, Integrator
from sde_gen.sampler import Sampler
from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class ConditionalDensity(Checked):
    r"""Samples and log-density of q(y | c) for vectors y given vectors c, both in the units of the data.

    .. math::
        \log q(y | c) = \log q(z | c) + \log |dz / dy|, \qquad z = \mathrm{encode}(y)

    with the density of z under the probability flow and its exact divergence.

    Arguments:
        denoiser: the model, conditioning not bound.
        codec: map between data and model space.
        conditioning: maps c to the inputs of the denoiser.
        dim: numbers of y.
        sampler: solver, grid and steps of samples.
        integrator: method for the ODE of the density.
        batch_size: samples per batch.

    Raises:
        ValueError: dim or batch_size is below 1, or the conditioning reads something else than a vector.
    """

    denoiser: Denoiser
    codec: Codec
    conditioning: Conditioning
    dim: int
    sampler: Sampler = field(default_factory=Sampler)
    integrator: Integrator = field(default_factory=Adams)
    batch_size: int = 10_000

    def __post_init__(self) -> None:
        if self.dim < 1 or self.batch_size < 1:
            raise ValueError(f"dim={self.dim}, batch_size={self.batch_size}: expected at least 1")
        if self.conditioning.names != ("vector",):
            names = ", ".join(self.conditioning.names) or "none"
            raise ValueError(f"the model has the conditions {names}; train one with conditioning=vector")

    @property
    def condition_dim(self) -> int:
        """Numbers of c."""
        return self.conditioning.sizes["vector"] - 1

    def one(self, c: Tensor, name: str = "x") -> Tensor:
        """Return a condition with shape (V,) or (1, V) as (V,), checked.

        Raises:
            ValueError: it has another shape, or holds a number that is not finite.
        """
        c = torch.as_tensor(c)
        if c.ndim == 2 and len(c) == 1:
            c = c[0]
        if tuple(c.shape) != (self.condition_dim,):
            raise ValueError(
                f"{name} has shape {tuple(c.shape)}; expected ({self.condition_dim},), as in training"
            )
        if not bool(torch.isfinite(c).all()):
            raise ValueError(f"{name}={c.tolist()} holds numbers that are not finite")
        return c

    @torch.no_grad()
    def sample(self, c: Tensor, *, noise: Noise) -> Tensor:
        """Draw one sample for every row of c.

        Arguments:
            c: conditions with shape (N, V).
            noise: source of all randomness.

        Returns:
            Samples in the units of the data, float32 with shape (N, D), on the CPU.
        """
        found = []
        for rows in torch.split(c, self.batch_size):
            x = self.sampler(self._bound(rows), (len(rows), self.dim), noise=noise, device=self._device(rows))
            found.append(self.codec.decode(x).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def log_prob(self, y: Tensor, c: Tensor) -> Tensor:
        """Return log q(y | c) in nats.

        Arguments:
            y: samples in the units of the data with shape (N, D).
            c: conditions with shape (N, V).

        Returns:
            float64 with shape (N,), on the CPU.

        Raises:
            ValueError: y has another shape.
        """
        if y.ndim != 2 or y.shape[1] != self.dim or len(y) != len(c):
            raise ValueError(f"the samples have shape {tuple(y.shape)}; expected ({len(c)}, {self.dim})")
        found = []
        for samples, rows in zip(
            torch.split(y, self.batch_size), torch.split(c, self.batch_size), strict=True
        ):
            z = self.codec.encode(samples).to(self._device(rows))
            flow = log_prob(self._bound(rows), z, integrator=self.integrator, divergence=Exact())
            found.append(flow.nats.cpu() + self.codec.log_det(z).cpu())
        return torch.cat(found)

    def _bound(self, rows: Tensor) -> Denoiser:
        given = self.conditioning.given({"vector": rows})
        return self.denoiser.bind(**{key: value.to(self._device(rows)) for key, value in given.items()})

    def _device(self, like: Tensor) -> torch.device:
        return next((each.device for each in self.denoiser.parameters()), like.device)
