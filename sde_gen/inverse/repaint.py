"""RePaint: projection with repeated steps."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.inverse.projection import Projection
from sde_gen.noise import Noise
from sde_gen.solver._validation import require_int
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True, eq=False)
class RePaint(Projection):
    r"""Repeat every step several times, with fresh noise in between, so that known and unknown parts become consistent.

    After the projected step from t to s the samples go forward again by the process's transition,

    .. math::
        x_t = \mathrm{scale}\, x_s + \mathrm{std}\, z, \qquad q(x_t | x_s) = N(\mathrm{scale}\, x_s, \mathrm{std}^2),

    and the step is repeated. With repeats = 1 it is :class:`~sde_gen.inverse.Projection`.

    Source: Lugmayr et al., 2022, arXiv:2201.09865, algorithm 1, with jumps of one step.

    Arguments:
        operator: A, linear.
        y: measurement with shape (B, *measurement), or (1, *measurement) for all samples; it is taken as exact.
        inner: any step solver, restarted in every step as for :class:`~sde_gen.inverse.Projection`.
        repeats: number of repetitions of every step.

    Raises:
        ValueError: the operator is not linear, or repeats is below 1.
    """

    repeats: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(1, repeats=self.repeats)

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        """Take the step ``repeats`` times, with noise added back in between."""
        x_s, new = super().step(model, x_t, t, s, state, noise)
        scale, std = model.sde.transition(s, t)
        for _ in range(self.repeats - 1):
            x_t = broadcast_like(scale, x_s) * x_s + broadcast_like(std, x_s) * noise.normal(x_s)
            x_s, new = super().step(model, x_t, t, s, state, noise)
        return x_s, new

    def nfe(self, steps: int) -> int:
        """Return the number of evaluations, ``repeats`` times that of the projected solver."""
        return self.repeats * super().nfe(steps)
