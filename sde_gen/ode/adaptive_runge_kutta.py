"""Embedded Runge-Kutta methods with steps of every sample's own."""

import abc
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.ode.base import Field, Integrator, State
from sde_gen.ode.embedded import EmbeddedPair, Interval, Trial
from sde_gen.ode.per_sample import PerSampleStepper
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
        """The field of some samples."""
        return FlatField(self.field.select(index, count), self.like)

    def pack(self, y: State) -> Tensor:
        """Make a matrix, in the widest dtype."""
        return torch.cat([part.reshape(len(part), -1) for part in y], dim=1)

    def unpack(self, flat: Tensor) -> State:
        """Make the parts, in their dtypes."""
        parts = zip(self.split(flat), self.like, strict=True)
        return tuple(part.reshape(-1, *like.shape[1:]).to(like.dtype) for part, like in parts)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Columns (b, n_i) of every part."""
        ends = torch.tensor([0, *(event_numel(part) for part in self.like)]).cumsum(0).tolist()
        return tuple(flat[:, start:end] for start, end in pairwise(ends))


@dataclass(frozen=True, kw_only=True)
class AdaptiveRungeKutta(EmbeddedPair[FlatField], Integrator, abc.ABC):
    r"""A pair of Runge-Kutta methods whose steps are every sample's own, so that no sample depends on its batch.

    With the stages k_i of a step and the weights of both methods,

    .. math::
        y' = y + h \sum_i b_i k_i, \qquad
        E = \max_{parts} \left\| \frac{h \sum_i (b_i - \hat{b}_i) k_i}{\mathrm{atol} + \mathrm{rtol} \max(|y|, |y'|)}
        \right\|_{rms} .

    Every part of the state has a norm of its own, so that a few numbers beside a large image count as much as it
    does. Samples that have arrived leave the batch. How steps are chosen:
    :class:`~sde_gen.solver.AdaptiveSolver`. No gradients flow through it.

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section II.4.

    Arguments:
        rtol: relative tolerance.
        atol: absolute tolerance.
        max_steps: most steps tried for one sample.

    Raises:
        ValueError: a tolerance is not positive, or max_steps is below 1.
    """

    pair: ClassVar[RungeKuttaPair]

    def refine(self) -> "AdaptiveRungeKutta":
        """A tenth of the tolerances."""
        return replace(self, rtol=self.rtol / 10, atol=self.atol / 10)

    @property
    def adaptive(self) -> bool:
        """It is."""
        return True

    @property
    def differentiable(self) -> bool:
        """It is not."""
        return False

    @property
    def exponent(self) -> int:
        """The two differ by a term of the lower order's first error."""
        return self.pair.order

    @property
    def stages(self) -> int:
        """All but the first, which is the last of the step before."""
        return len(self.pair.tableau.c) - 1

    def variable(self, model: FlatField) -> TimeVariable:
        """The field's own."""
        del model
        return Identity()

    def first(self, whole: float) -> float:
        """A twentieth of the way."""
        return 0.05 * whole

    def slope(self, model: FlatField, x: Tensor, t: Tensor) -> Tensor:
        """The field."""
        return model(t, x)

    def attempt(self, model: FlatField, x: Tensor, slope: Tensor, span: Interval) -> Trial:
        """Try a step of every sample."""
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

        def inside(u: Tensor, t: Tensor) -> Tensor:
            del t
            r = broadcast(((u - span.u) / (span.v - span.u)).to(x), x)
            return self.pair.inside(r, x, end, h, slopes)

        return Trial(end, error, slopes[-1], inside)

    @torch.no_grad()
    def integrate(self, field: Field, y: State, t0: float, t1: float) -> State:
        """Carry y from t0 to t1."""
        packed = FlatField(field, y)
        walk = PerSampleStepper(self, packed, packed.pack(y), torch.tensor([t0, t1], dtype=torch.float64))
        while len(walk.select):
            walk.look()
            span = walk.propose()
            attempt = self.attempt(walk.here, walk.x[walk.select], walk.slope[walk.select], span)
            walk.move(attempt, span, walk.check_error(attempt, span))
        return packed.unpack(walk.x)


@dataclass(frozen=True, kw_only=True)
class DormandPrince(AdaptiveRungeKutta):
    """The pair of orders 5 and 4 of Dormand and Prince, six evaluations a step, every sample by itself.

    Source, arguments and errors: :data:`~sde_gen.ode.DORMAND_PRINCE`, :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    pair: ClassVar[RungeKuttaPair] = DORMAND_PRINCE


@dataclass(frozen=True, kw_only=True)
class BogackiShampine(AdaptiveRungeKutta):
    """The pair of orders 3 and 2 of Bogacki and Shampine, three evaluations a step, every sample by itself.

    Source, arguments and errors: :data:`~sde_gen.ode.BOGACKI_SHAMPINE`, :class:`AdaptiveRungeKutta`.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    pair: ClassVar[RungeKuttaPair] = BOGACKI_SHAMPINE
