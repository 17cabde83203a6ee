"""Posteriors of simulation-based inference, with the interface of the posteriors of the package sbi."""

import abc
import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.simulator import ParameterPrior
from sde_gen.inverse.conditional_density import ConditionalDensity
from sde_gen.noise import IID

ROUNDS, FEW = 100, 100
"""Rounds of drawing until all samples lie in the support, and effective samples that are warned of."""


class InferencePosterior(abc.ABC):
    """Abstract posterior p(theta | x) with the methods of sbi's ``NeuralPosterior``.

    Arguments:
        density: the learned density.
        prior: prior of the parameters; None where it is not known.
    """

    def __init__(self, density: ConditionalDensity, prior: ParameterPrior | None = None) -> None:
        self.density, self.prior = density, prior
        self._x: Tensor | None = None

    @property
    def default_x(self) -> Tensor | None:
        """Observation that is used where none is given, with shape (1, V)."""
        return None if self._x is None else self._x[None]

    @abc.abstractmethod
    def _checked(self, x: Tensor) -> Tensor:
        """Return an observation with shape (V,), checked."""

    def set_default_x(self, x: Tensor) -> "InferencePosterior":
        """Set the observation that is used where none is given, with shape (V,) or (1, V); return the posterior.

        Raises:
            ValueError: it has another shape, or holds a number that is not finite.
        """
        self._x = self._checked(x)
        return self

    def _observed(self, x: Tensor | None) -> Tensor:
        if x is not None:
            return self._checked(x)
        if self._x is None:
            raise ValueError("no observation is given: give x=..., or set one by set_default_x(x)")
        return self._x

    @abc.abstractmethod
    def _draw(self, x: Tensor, count: int, seed: int) -> Tensor:
        """Draw parameters (count, D) given one observation (V,)."""

    @abc.abstractmethod
    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(theta | x) for parameters (N, D) in the support and one observation (V,)."""

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        x: Tensor | None = None,
        *,
        seed: int = 0,
        show_progress_bars: bool = False,
    ) -> Tensor:
        """Draw from p(theta | x).

        Arguments:
            sample_shape: shape of the draws, such as (1000,).
            x: the observation with shape (V,) or (1, V); None takes the default.
            seed: seed of the draws; the same seed gives the same draws.
            show_progress_bars: taken for callers written for sbi; no bar is shown.

        Returns:
            Parameters, float32 with shape (*sample_shape, D).

        Raises:
            ValueError: the observation is missing, has another shape, or is not finite.
        """
        del show_progress_bars
        drawn = self._draw(self._observed(x), math.prod(sample_shape), seed)
        return drawn.float().reshape(*sample_shape, drawn.shape[1])

    def sample_batched(
        self,
        sample_shape: Sequence[int],
        x: Tensor,
        *,
        seed: int = 0,
        show_progress_bars: bool = False,
    ) -> Tensor:
        """Draw given every one of B observations (B, V); the result has shape (*sample_shape, B, D)."""
        del show_progress_bars
        drawn = [self.sample(sample_shape, row, seed=seed + i) for i, row in enumerate(x)]
        return torch.stack(drawn, dim=-2)

    def log_prob(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        """Return log p(theta | x) in nats, in the units of theta.

        Arguments:
            theta: parameters with shape (N, D) or (D,).
            x: the observation with shape (V,) or (1, V); None takes the default.

        Returns:
            float64 with shape (N,); -inf outside the support of the prior, with a warning of the number.

        Raises:
            ValueError: the observation is missing, or a shape does not fit.
        """
        x, theta = self._observed(x), torch.as_tensor(theta)
        theta = theta[None] if theta.ndim == 1 else theta
        inside = torch.ones(len(theta), dtype=torch.bool)
        if self.prior is not None:
            if theta.ndim != 2 or theta.shape[1] != self.prior.dim:
                raise ValueError(f"theta has shape {tuple(theta.shape)}; expected (N, {self.prior.dim})")
            inside = self.prior.contains(theta)
        if not bool(inside.all()):
            warnings.warn(
                f"{int((~inside).sum()):,} of {len(theta):,} parameters lie outside the support of the prior, where "
                "log_prob is -inf",
                stacklevel=2,
            )
        found = torch.full((len(theta),), -math.inf, dtype=torch.float64)
        if bool(inside.any()):
            found[inside] = self._log_prob(theta[inside], x)
        return found


class AmortizedPosterior(InferencePosterior):
    """Posterior that a model of theta given x has learned (posterior estimation).

    Samples outside the support of the prior are drawn again, and counted in a warning. The log-density is that of the
    model, which is not divided by its share in the support.

    Sources: Geffner et al., 2023, arXiv:2209.14249; Sharrock et al., 2024, arXiv:2210.04872 (NPSE); Wildberger et al.,
    2023, arXiv:2305.17161 (FMPE).

    Arguments:
        density: the model of theta given x.
        prior: prior of the parameters; None where it is not known.
    """

    def _checked(self, x: Tensor) -> Tensor:
        return self.density.one(x)

    def _draw(self, x: Tensor, count: int, seed: int) -> Tensor:
        noise, kept, drawn, missing = IID.seeded(seed), [], 0, count
        for _ in range(ROUNDS):
            theta = (
                self.density.sample(x.expand(missing, -1), noise=noise)
                if missing
                else torch.empty(0, self.density.dim)
            )
            inside = slice(None) if self.prior is None else self.prior.contains(theta)
            kept.append(theta[inside])
            drawn, missing = drawn + len(theta), missing - len(kept[-1])
            if not missing:
                break
        else:
            raise ValueError(
                f"{missing:,} of {count:,} samples lie outside the support of the prior after {ROUNDS} rounds: the "
                "model is hardly trained, or the observation is unlike those of the training"
            )
        if drawn > count:
            warnings.warn(
                f"{drawn - count:,} of {drawn:,} samples lie outside the support of the prior and are drawn again",
                stacklevel=3,
            )
        return torch.cat(kept)

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.density.log_prob(theta, x.expand(len(theta), -1))


class LikelihoodPosterior(InferencePosterior):
    r"""Posterior of a model of x given theta (likelihood estimation), by importance sampling.

    Parameters :math:`\theta_i` are drawn from the prior and weighed by the learned likelihood q(x | theta),

    .. math::
        p(\theta | x) = \frac{q(x | \theta) p(\theta)}{Z}, \qquad Z \approx \frac1K \sum_{i=1}^K q(x | \theta_i) .

    Arguments:
        density: the model of x given theta.
        prior: prior of the parameters.
        proposals: number K of parameters drawn from the prior.

    Raises:
        ValueError: proposals is below 1.
    """

    prior: ParameterPrior

    def __init__(self, density: ConditionalDensity, prior: ParameterPrior, proposals: int = 10_000) -> None:
        if proposals < 1:
            raise ValueError(f"proposals={proposals}: expected at least 1")
        super().__init__(density, prior)
        self.proposals = proposals

    def importance(self, x: Tensor | None = None, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return parameters (K, D) drawn from the prior, and log q(x | theta) of each, float64 with shape (K,)."""
        x = self._observed(x)
        theta = self.prior.sample(self.proposals, np.random.default_rng([seed, 0]))
        return theta, self._log_likelihood(theta, x)

    def effective_sample_size(self, x: Tensor | None = None, *, seed: int = 0) -> float:
        r"""Return :math:`(\sum w)^2 / \sum w^2` of the importance weights w."""
        return _effective(self.importance(x, seed=seed)[1])

    def _checked(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(x)
        x = x[0] if x.ndim == 2 and len(x) == 1 else x
        if tuple(x.shape) != (self.density.dim,):
            raise ValueError(f"x has shape {tuple(x.shape)}; expected ({self.density.dim},), as in training")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"x={x.tolist()} holds numbers that are not finite")
        return x

    def _log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.density.log_prob(x.expand(len(theta), -1), theta.float())

    def _draw(self, x: Tensor, count: int, seed: int) -> Tensor:
        theta, log_w = self.importance(x, seed=seed)
        effective = _effective(log_w)
        if effective < min(FEW, count):
            warnings.warn(
                f"the effective sample size is {effective:.1f} of {self.proposals:,} proposals: give more proposals",
                stacklevel=3,
            )
        weights = torch.softmax(log_w, 0).numpy()
        rng = np.random.default_rng([seed, 1])
        return theta[torch.from_numpy(rng.choice(len(theta), count, p=weights / weights.sum()))]

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        _, log_w = self.importance(x)
        log_z = torch.logsumexp(log_w, 0) - math.log(self.proposals)
        return self._log_likelihood(theta, x) + self.prior.log_prob(theta.double()) - log_z


def _effective(log_w: Tensor) -> float:
    return float(torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0)))
