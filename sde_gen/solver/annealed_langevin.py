"""Annealed Langevin dynamics, the sampler of noise-conditional score networks."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._check import require_descent, require_signal, require_whole
from sde_gen.solver.base import StepSolver


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(StepSolver[None]):
    r"""At every noise level some moves of Langevin dynamics, and no step between the levels.

    The sample x / alpha goes to the next level as it is, x = (alpha_s / alpha_t) x_t, and is moved there:

    .. math::
        x \leftarrow x + \tfrac{h}{2} \nabla \log p_s(x) + \sqrt{h}\, z, \qquad h = \kappa\, \sigma_s^2 .

    The paper's process is VE, where x stays; in x / alpha and sigma / alpha every process is that one.

    Give it about 200 levels (``steps``), not the few of other solvers: the moves cannot follow a level that falls fast.
    Of the noise on data at a single point, by VP on equal steps of log-SNR, they leave 325 times the sigma that
    should be there after 20 levels, 1.8 times after 50 and 1.1 times after 200.

    Of order 0: with more levels the law tends to that which the moves leave alone, not to the marginal. Noise on
    data at a single point comes out with the variance sigma^2 / (1 - kappa / 4). Order 1 in 1 / steps comes back
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
        """Check the constructor's arguments."""
        if not 0 < self.kappa < 4:
            raise ValueError(f"kappa={self.kappa} must lie in (0, 4): from 4 on the moves run away")
        require_whole(1, moves=self.moves)

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Refuse to go up, and a start where x / alpha is infinite."""
        require_descent(type(self).__name__, times)
        require_signal(type(self).__name__, model, times[0])

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """Go to the next level and move there."""
        (alpha_s, sigma_s), alpha_t = model.sde.marginal(s), model.sde.alpha(t)
        sigma, x = float(sigma_s), float(alpha_s / alpha_t) * x_t
        for _ in range(self.moves):
            z = noise.fresh(x)  # at a fixed time: the path's own noise has no interval for it
            x = x.add(model(x, s).eps, alpha=-0.5 * self.kappa * sigma).add_(z, alpha=self.kappa**0.5 * sigma)
        return x, state

    def nfe(self, steps: int) -> int:
        """One evaluation for every move."""
        return self.moves * steps
