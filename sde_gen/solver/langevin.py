"""Langevin dynamics: correctors at a fixed time that (nearly) preserve the marginal, and annealed Langevin dynamics."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent, require_int, require_signal, require_stable
from sde_gen.solver.base import StepSolver
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast, broadcast_like, sum_event, to_device


@dataclass(frozen=True, kw_only=True)
class Corrector(Checked, abc.ABC):
    """A move at the end s of a predictor's step from t to s, or at its begin.

    Arguments:
        steps: number of moves, each with one evaluation of the denoiser.

    Attributes:
        order: order of what it adds to the error of a sampler; 0 is a bias that more steps need not remove.
        batch_coupled: whether a sample depends on the others of its batch.
    """

    steps: int = 1
    order: ClassVar[int]
    batch_coupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_int(1, steps=self.steps)  # for none use the predictor alone

    def correct(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Noise, *, at: Tensor | None = None
    ) -> Tensor:
        """Move samples at one end of a step from t to s.

        Arguments:
            model: the denoiser.
            x: samples at time s, or at ``at``, with shape (B, *event).
            t: begin of the step, float64 scalar: its length decides how far to move.
            s: its end, float64 scalar.
            noise: source of noise; the moves take fresh noise, not the path's.
            at: the samples' time, t or s; None: s.

        Returns:
            Samples at the same time with shape (B, *event).
        """
        where = {} if at is None else {"at": at}
        for _ in range(self.steps):
            x = self.move(model, x, t, s, noise.normal(x), **where)
        return x

    @abc.abstractmethod
    def move(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, z: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Take a Langevin step at the time ``at`` (None: s) with z ~ N(0, I) of shape (B, *event)."""


@dataclass(frozen=True, kw_only=True)
class Langevin(Corrector):
    r"""The Langevin corrector of the score-SDE paper, each sample with its own norms.

    .. math::
        x \leftarrow x + h g + \sqrt{2 h}\, z, \quad g = \nabla \log p_s(x), \quad
        h = \min\left\{2 a \left(r \frac{\|z\|}{\|g\|}\right)^2,\; \sigma_s^2\right\}

    The paper has no minimum, which ``limited=False`` gives: where the score is nearly zero, its step is as long as one
    likes. sigma_s^2 is the step to alpha_s x_0.

    The paper's a is 1 on VE and 1 - beta on VP; here it is the squared scale of the transition from s to t,
    which is both and has a meaning on every process. The ratio of drift to noise of a move is r sqrt(a).
    The step is a random number, heavy-tailed in few dimensions D, since E[1 / ||g||^2] grows as 1 / (D - 2):
    after 120 steps of reverse diffusion on a Gaussian the variance is 2.1 times the data's for D = 2, 1.5 for
    D = 4, 1.1 for D = 16 and 1.03 for D = 64, on VP, sub-VP and VE alike. More steps need not remove it.

    Source: Song et al., 2021, arXiv:2011.13456, algorithms 4 and 5, appendix G (r = 0.16 on CIFAR-10).

    Arguments:
        snr: the ratio r.
        steps: moves per step of the predictor.
        limited: whether h is at most sigma_s^2.

    Raises:
        ValueError: snr is not positive or steps is below 1.
    """

    snr: float = 0.16
    limited: bool = True
    order: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.snr > 0:
            raise ValueError(f"snr={self.snr} must be positive; the paper has 0.16")

    def move(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, z: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Take a Langevin step on the samples x (B, *event)."""
        at = s if at is None else at
        g = model(x, at).score
        tiny = torch.finfo(x.dtype).tiny  # a score of zero, as at the mode of a Gaussian
        ratio = self.norm(z) / self.norm(g).clamp(min=tiny)
        a, sigma = model.sde.transition(s, t).scale ** 2, model.sde.sigma(at)
        h = 2 * broadcast_like(a, x) * broadcast(self.snr * ratio, x) ** 2
        if self.limited:
            h = torch.minimum(h, to_device(broadcast_like(sigma, x), x.device, x.dtype) ** 2)
        return x + h * g + torch.sqrt(2 * h) * z

    def norm(self, x: Tensor) -> Tensor:
        """Euclidean norm of each sample with shape (B,)."""
        return torch.sqrt(sum_event(x * x))


@dataclass(frozen=True, kw_only=True)
class BatchLangevin(Langevin):
    """The Langevin corrector as the paper's experiments had it: norms averaged over the batch.

    A sample depends on its neighbors. Source: Song et al., 2021, arXiv:2011.13456, appendix G.

    Arguments:
        snr: the ratio r.
        steps: moves per step of the predictor.
        limited: whether h is at most sigma_s^2.
    """

    batch_coupled: ClassVar[bool] = True

    def norm(self, x: Tensor) -> Tensor:
        """Mean Euclidean norm of the batch with shape (1,)."""
        return super().norm(x).mean().reshape(1)


@dataclass(frozen=True, kw_only=True)
class AffineLangevin(Corrector):
    r"""A Langevin corrector whose moves shrink with the steps of the sampler.

    .. math::
        x \leftarrow x + h \nabla \log p_s(x) + \sqrt{h (2 - h / \sigma_s^2)}\, z, \qquad
        h = \tfrac{1}{2} \eta^2 \tilde\beta(s, t)

    with the variance tilde beta of the posterior q(x_s | x_t, x_0), at most sigma_s^2. In the limit of many
    steps it adds Langevin noise of strength eta to the predictor's: with a solver of the probability flow the
    sampler follows the reverse SDE of strength eta sqrt(steps), so the bias vanishes with the step (order 1).
    The noise is what leaves the marginals of data at a single point exactly as they are, whatever h.

    Unlike :class:`Langevin` it takes no norms: it is affine on Gaussian data.

    Source: the split of the reverse SDE into flow and Langevin noise, Karras et al., 2022, arXiv:2206.00364,
    eq. 6; the step size is ours.

    Arguments:
        eta: strength of the noise put in, in (0, 2].
        steps: moves per step of the predictor.

    Raises:
        ValueError: eta lies outside (0, 2] or steps is below 1.
    """

    eta: float = 1.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eta <= 2:
            raise ValueError(f"eta={self.eta} must lie in (0, 2]: above, a move may be longer than 2 sigma^2")

    def move(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, z: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Take a Langevin step on the samples x (B, *event)."""
        at = s if at is None else at
        h = 0.5 * self.eta**2 * model.sde.posterior(t, s).std ** 2
        std = torch.sqrt(h * (2 - h / model.sde.sigma(at) ** 2).clamp(min=0))  # rounding at eta = 2
        return x + broadcast_like(h, x) * model(x, at).score + broadcast_like(std, x) * z


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(StepSolver[None]):
    r"""At every noise level some moves of Langevin dynamics, and no step between the levels.

    The sample x / alpha goes to the next level as it is, x = (alpha_s / alpha_t) x_t, and is moved there:

    .. math::
        x \leftarrow x + \tfrac{h}{2} \nabla \log p_s(x) + \sqrt{h}\, z, \qquad h = \kappa\, \sigma_s^2 .

    The paper's process is VE, where x stays; in x / alpha and sigma / alpha every process is that one.

    It needs about 200 levels (``steps``): the moves cannot follow a level that falls fast. On data N(0, 1) and equal
    steps of VP's log-SNR samples end with 16 times their standard deviation after 20 levels, 2.0 times after 50 and
    1.1 times after 200; grids with more than 3 times are an error.

    Of order 0: with more levels the distribution tends to the stationary one of the moves, not to the marginal. Noise
    on data at a single point comes out with the variance sigma^2 / (1 - kappa / 4). Order 1 in 1 / steps comes back
    if kappa shrinks as 1 / steps while ``moves`` grow as steps.

    Source: Song and Ermon, 2019, arXiv:1907.05600, algorithm 1, there with kappa = 2e-5 / 0.01^2 = 0.2, 100 moves
    and 10 levels; the defaults are those of Song and Ermon, 2020, arXiv:2006.09011, for CIFAR-10 (232 levels;
    their step size is half of ours).

    Arguments:
        kappa: step size relative to the variance of the noise.
        moves: moves at every level, each with one evaluation.

    Raises:
        ValueError: kappa lies outside (0, 4), beyond which a move overshoots, or moves is below 1.
    """

    kappa: float = 0.124
    moves: int = 5
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.kappa < 4:
            raise ValueError(f"kappa={self.kappa} must lie in (0, 4): from 4 on the moves run away")
        require_int(1, moves=self.moves)

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise an error for ascending times, a start where x / alpha is infinite, and too few levels."""
        require_descent(type(self).__name__, times)
        require_signal(type(self).__name__, model, times[0])
        levels = torch.exp(-0.5 * model.sde.log_snr(times)).tolist()
        remedy = "use more steps (about 200 for the defaults), more moves, or a solver with steps between the levels"
        require_stable(type(self).__name__, self.std_gain(levels), remedy)

    def std_gain(self, levels: Sequence[float]) -> float:
        r"""Standard deviation of data N(0, 1) after the last level, relative to the exact one.

        With q = (1 - kappa rho^2 / (2 (1 + rho^2)))^2 the variance of x / alpha after all moves at a level rho is

        .. math::
            v \leftarrow q^{moves}\, v + \kappa \rho^2 \frac{1 - q^{moves}}{1 - q}, \qquad v_0 = 1 + \rho_0^2 .

        Arguments:
            levels: sigma / alpha at the times of the grid.
        """
        v = 1 + levels[0] ** 2
        for rho in levels[1:]:
            q = (1 - 0.5 * self.kappa * rho**2 / (1 + rho**2)) ** 2
            v = q**self.moves * v + self.kappa * rho**2 * (1 - q**self.moves) / (1 - q)
        return math.sqrt(v / (1 + levels[-1] ** 2))

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """Go to the next level and move there."""
        (alpha_s, sigma_s), alpha_t = model.sde.marginal(s), model.sde.alpha(t)
        sigma, x = float(sigma_s), float(alpha_s / alpha_t) * x_t
        for _ in range(self.moves):
            z = noise.normal(x)  # at a fixed time: the path's own noise has no interval for it
            x = x.add(model(x, s).eps, alpha=-0.5 * self.kappa * sigma).add_(z, alpha=self.kappa**0.5 * sigma)
        return x, state

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations, one per Langevin step."""
        return self.moves * steps
