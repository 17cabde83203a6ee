"""Embedded Runge-Kutta methods with per-sample adaptive step sizes."""

import abc
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.ode.adaptive import DenseOutput, PIController, integrate_adaptive
from sde_gen.ode.base import Field, Integrator, State
from sde_gen.ode.embedded_pair import EmbeddedPair, Interval, Trial
from sde_gen.ode.tableau import BOGACKI_SHAMPINE, DORMAND_PRINCE, RungeKuttaPair, weighted_sum
from sde_gen.ode.time_variable import Identity, TimeVariable
from sde_gen.utils.broadcasting import broadcast, event_numel


@dataclass(frozen=True)
class FlatField:
    """A field on states that are one matrix (B, n), the parts side by side.

    Arguments:
        field: the field.
        like: a state, for shapes and dtypes.
    """

    field: Field
    like: State

    def __call__(self, t: Tensor, flat: Tensor) -> Tensor:
        """The slope with shape (b, n) at times (b,)."""
        return self.pack(self.field(t, self.unpack(flat)))

    def select(self, index: Tensor, count: int) -> "FlatField":
        """Return the field of some samples."""
        return FlatField(self.field.select(index, count), self.like)

    def pack(self, y: State) -> Tensor:
        """Concatenate the parts, in the widest dtype."""
        return torch.cat([part.reshape(len(part), -1) for part in y], dim=1)

    def unpack(self, flat: Tensor) -> State:
        """Split into the parts, in their dtypes."""
        parts = zip(self.split(flat), self.like, strict=True)
        return tuple(part.reshape(-1, *like.shape[1:]).to(like.dtype) for part, like in parts)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Return the columns (b, n_i) of every part."""
        ends = torch.tensor([0, *(event_numel(part) for part in self.like)]).cumsum(0).tolist()
        return tuple(flat[:, start:end] for start, end in pairwise(ends))


@dataclass(frozen=True, kw_only=True)
class AdaptiveRungeKutta(EmbeddedPair[FlatField], Integrator, abc.ABC):
    r"""A pair of Runge-Kutta methods with per-sample adaptive step sizes, so that no sample depends on its batch.

    With the stages k_i of a step and the weights of both methods,

    .. math::
        y' = y + h \sum_i b_i k_i, \qquad
        E = \max_{parts} \left\| \frac{h \sum_i (b_i - \hat{b}_i) k_i}{\mathrm{atol} + \mathrm{rtol} \max(|y|, |y'|)}
        \right\|_{rms} .

    The maximum of norms over the parts of the state gives a few numbers the weight of a large image. Finished samples
    leave the batch. Between the ends of a step the states are interpolated by the cubic through both ends and their
    slopes. Step sizes: :class:`~sde_gen.ode.PIController`. No gradients flow through the integration.

    torchode (Lienen and Guennemann, 2022, arXiv:2210.12375) has per-sample steps too, but evaluates finished samples
    until the last one is finished.

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section II.4.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps attempted for one sample.
        first_step: size of the first step attempted, relative to the interval.

    Raises:
        ValueError: a number is out of its range.
    """

    first_step: float = 0.05
    pair: ClassVar[RungeKuttaPair]
    adaptive: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    nfe: ClassVar[None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.first_step <= 1:
            raise ValueError(
                f"first_step={self.first_step} must lie in (0, 1]: it is relative to the interval"
            )

    def refine(self) -> "AdaptiveRungeKutta":
        """Return the method with a tenth of the tolerances."""
        return replace(self, rtol=self.rtol / 10, atol=self.atol / 10)

    @property
    def error_order(self) -> int:
        """Order of the leading error term of the lower order method."""
        return self.pair.order

    @property
    def stages(self) -> int:
        """All stages but the first, which is the last one of the previous step."""
        return len(self.pair.tableau.c) - 1

    def variable(self, model: FlatField) -> TimeVariable:
        """Return the identity, which integrates in the field's time."""
        del model
        return Identity()

    def initial_step(self, length: float) -> float:
        """Return the fraction ``first_step`` of the interval."""
        return self.first_step * length

    def slope(self, model: FlatField, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate the field at t (B,) and x (B, D)."""
        return model(t, x)

    def attempt(self, model: FlatField, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Attempt a step of every sample."""
        length = (span.s - span.t).to(x)
        h = broadcast(length, x)
        nodes = self.pair.tableau.c

        def slope_at(k: int, state: Tensor) -> Tensor:
            inner = torch.lerp(span.t, span.s, torch.full_like(span.t, nodes[k]))
            return model(inner, state)

        end, slopes = self.pair.step(x, h, slope, slope_at)
        tol = self.atol + self.rtol * torch.maximum(x.abs(), end.abs())
        ratios = model.split(h * weighted_sum(self.pair.error, slopes) / tol)
        error = torch.stack([part.square().mean(1).sqrt() for part in ratios]).amax(0)

        def dense_output(u: Tensor, t: Tensor) -> Tensor:
            del t
            r = broadcast(((u - span.u) / (span.v - span.u)).to(x), x)
            return self.pair.dense_output(r, x, end, h, slopes)

        return Trial(end, error, slopes[-1], dense_output)

    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Integrate from t0 to t1."""
        return self.trajectory(field, y, torch.tensor([t0, t1], dtype=torch.float64))[-1]

    @torch.no_grad()
    def trajectory(self, field: Field, y: State, times: Tensor) -> list[State]:
        """Integrate through monotone times, interpolating between the two ends."""
        flat = FlatField(field, y)
        x, controller = flat.pack(y), PIController(error_order=self.error_order)
        output = DenseOutput(Identity(), x, times)
        integrate_adaptive(self, flat, x, times, controller=controller, on_accept=output)
        return [flat.unpack(state) for state in output.states]


@dataclass(frozen=True, kw_only=True)
class DormandPrince(AdaptiveRungeKutta):
    """The pair of orders 5 and 4 of Dormand and Prince, six evaluations a step.

    Source, arguments and errors: :data:`~sde_gen.ode.DORMAND_PRINCE`, :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    pair: ClassVar[RungeKuttaPair] = DORMAND_PRINCE


@dataclass(frozen=True, kw_only=True)
class BogackiShampine(AdaptiveRungeKutta):
    """The pair of orders 3 and 2 of Bogacki and Shampine, three evaluations a step.

    Source, arguments and errors: :data:`~sde_gen.ode.BOGACKI_SHAMPINE`, :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    pair: ClassVar[RungeKuttaPair] = BOGACKI_SHAMPINE
