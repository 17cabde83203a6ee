"""Conditioning on a measurement by projection."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.operator.base import Operator
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_descent, require_steps
from sde_gen.solver.ancestral import Ancestral
from sde_gen.solver.base import Stepping, StepSolver
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection(StepSolver[Any]):
    r"""After every step, replace the measured components by the noisy measurement at the level of the samples.

    .. math::
        x_s \leftarrow x_s + A^+ (\alpha_s y + \sigma_s A z - A x_s)

    For a mask this replaces known pixels by those of the noisy known image. It needs no derivative and no further
    evaluation, but influences unmeasured coordinates through the next step only: no number of steps makes the method
    exact (order 0).

    Source: Song et al., 2021, arXiv:2011.13456, appendix I.2 and I.3, for any linear A.

    Arguments:
        operator: A, linear.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples; it is taken as exact.
        inner: any step solver; a multistep solver restarts in every step, because its previous evaluations are of
            other samples.

    Raises:
        ValueError: the operator is not linear, or the inner solver does not step.
    """

    operator: Operator
    y: Tensor
    inner: Stepping = Ancestral()  # noqa: RUF009 (frozen)
    order: ClassVar[int] = 0
    wraps_solver: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    pathwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.operator.linear:
            raise ValueError(
                f"{type(self.operator).__name__} is not linear, as {type(self).__name__} needs; "
                "the guidance DPS takes any operator"
            )
        require_steps("inner", self.inner)

    @property
    def batch_coupled(self) -> bool:
        """True if the inner solver couples the samples of a batch."""
        return self.inner.batch_coupled

    def check(self, model: Denoiser, times: Tensor) -> None:
        """Raise ValueError for ascending times, and as the inner solver does."""
        require_descent(type(self).__name__, times)
        self.inner.check(model, times)

    def init(self, model: Denoiser, x: Tensor, times: Tensor) -> Any:
        """Return the inner solver's initial state."""
        return self.inner.init(model, x, times)

    def reinit(self, model: Denoiser, x: Tensor, times: Tensor, state: Any) -> Any:
        """Return the state unchanged: every step restarts the inner solver."""
        del model, x, times
        return state

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        """Take a step of the inner solver and project its result onto the noisy measurement."""
        state = self.inner.reinit(model, x_t, torch.stack([t, s]), state)
        x_s, state = self.inner.step(model, x_t, t, s, state, noise)
        alpha, sigma = model.sde.marginal(s)
        noised = broadcast_like(alpha, x_s) * self.y.to(x_s) + broadcast_like(sigma, x_s) * self.operator(
            noise.normal(x_s)
        )
        return self.operator.project(x_s, noised), state

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations of the inner solver, restarted at every step."""
        return self.inner.nfe_reinit(steps)

    def nfe_reinit(self, steps: int) -> int:
        """Return :meth:`nfe`, since every step restarts the inner solver."""
        return self.nfe(steps)
