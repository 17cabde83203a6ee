"""UniPC: a multistep predictor, and a corrector by the evaluation of the next step."""

import abc
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from sde_gen.solver._integrals import FlowIntegral, X0Integral
from sde_gen.solver._lagrange import node_indices
from sde_gen.solver._multistep import MultistepSolver, StepCoefficients, limit_extrapolation
from sde_gen.solver._validation import require_int, require_order
from sde_gen.solver.multistep_weights import points_of_steps


class UniPCIntegral(X0Integral, abc.ABC):
    """Data prediction whose straight lines are weighed by half of a function B instead of exactly."""

    @staticmethod
    @abc.abstractmethod
    def b(h: Tensor) -> Tensor:
        """Return B(-h), with ``B(-h) / -h -> 1`` for short steps."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        """Exact weights but where there are two nodes, the step's begin and another at ``lam_t + r h``."""
        exact = super().weights(start, end, nodes)
        h, alpha = self.lam[end] - self.lam[start], self.alpha[end]
        valid = nodes >= 0
        other = torch.where(nodes != start.unsqueeze(-1), nodes, -1).amax(-1)
        slope = -0.5 * alpha * self.b(h) * h / (self.lam[other] - self.lam[start])
        level = -alpha * torch.expm1(-h) - slope
        lines = torch.where(nodes == start.unsqueeze(-1), level.unsqueeze(-1), slope.unsqueeze(-1))
        use = (valid.sum(-1) == 2) & h.isfinite()
        return torch.where(use.unsqueeze(-1), lines.masked_fill(~valid, 0), exact)


class BH1Integral(UniPCIntegral):
    """UniPC with B(h) = h."""

    @staticmethod
    def b(h: Tensor) -> Tensor:
        """Return ``B(-h) = -h``."""
        return -h


class BH2Integral(UniPCIntegral):
    """UniPC with B(h) = e^h - 1."""

    @staticmethod
    def b(h: Tensor) -> Tensor:
        """Return ``B(-h) = e^-h - 1``."""
        return torch.expm1(-h)


@dataclass(frozen=True, kw_only=True)
class UniPC(MultistepSolver, abc.ABC):
    r"""Predict by p past evaluations in data prediction; correct by those and the one that the next step needs.

    With the weights w of the predictor and c of the corrector from t to s, over nodes newest first,

    .. math::
        x_s = a\, x^c_t + \sum_{j \ge 0} w_j m_{t_j}, \qquad
        x^c_s = a\, x^c_t + c_{-1} m_s + \sum_{j \ge 0} c_j m_{t_j} .

    So x^c_s - x_s is a combination of predictions alone, and a step from x_t by p + 1 of them is the whole method:
    the samples that hooks see are the predictor's, as is the last, which is not corrected.

    Where two nodes are involved (the predictor of p = 2, the corrector of p = 1) the paper takes half of B(h); with
    more, B cancels, and the exact integrals remain.

    Order: 2 for p = 1 and 3 for p = 2, one more than the predictor's. p = 3 would have 4, but the paper's start, with
    one evaluation in the first step, leaves an error of h^3: 3.

    Source: Zhao et al., 2023, arXiv:2302.04867, algorithms 5 to 8, sections 3.1 to 3.3.

    Arguments:
        predictor_order: p, from 1 to 3.
        limit: whether long steps are :func:`limited <sde_gen.solver.limit_extrapolation>`, which the authors' are not.
        last_points: predictions that the last step's predictor combines; the one before has one more, and so on
            (``lower_order_final`` of other libraries: 1 if their last step ends at the same time, 2 if it
            goes on to clean data). None: no fewer.

    Raises:
        ValueError: the order is none of these, or last_points is not positive.
    """

    predictor_order: int = 3
    limit: bool = True
    last_points: int | None = None

    def __post_init__(self) -> None:
        require_order((1, 2, 3), predictor_order=self.predictor_order)
        if self.last_points is not None:
            require_int(1, last_points=self.last_points)

    @property
    def order(self) -> int:
        """Order of the predictor plus one, at most 3 and at most one above that of the last, uncorrected step."""
        last = 3 if self.last_points is None else self.last_points + 1
        return min(self.predictor_order + 1, 3, last)

    def coefficients(self, integral: FlowIntegral, steps: int) -> list[StepCoefficients]:
        """Return the predictor's coefficients, with the correction of the step before."""
        weights = partial(limit_extrapolation, integral) if self.limit else integral.weights
        i, p = torch.arange(steps), min(self.predictor_order, steps)
        counts = points_of_steps(p, steps, self.last_points)
        nodes = node_indices(i, p)
        nodes = nodes.masked_fill(torch.arange(p) >= counts.unsqueeze(-1), -1)
        begin, end, older = nodes[:-1, :1], i[1:].unsqueeze(-1), nodes[:-1, 1:]
        predictor = pad(weights(i, i + 1, nodes), (0, 1))
        corrector = weights(i[:-1], i[1:], torch.cat([begin, end, older], dim=1))
        corrector = corrector[:, [1, 0, *range(2, p + 1)]]  # newest first: end, begin, older
        # x_s = a x^c_t + predictor m, and x^c_t = x_t + (corrector - predictor of the step before) m
        a, before = integral.x_coef(i, i + 1), pad(predictor[:-1, :-1], (1, 0))
        combined = predictor.clone()
        combined[1:] += a[1:].unsqueeze(-1) * (corrector - before)
        rows = zip(a.tolist(), combined.tolist(), strict=True)
        return [StepCoefficients(x_coef, row[: n + 1]) for n, (x_coef, row) in enumerate(rows)]


@dataclass(frozen=True, kw_only=True)
class UniPCBH1(UniPC):
    """UniPC with B(h) = h."""

    integral: ClassVar[type[FlowIntegral]] = BH1Integral


@dataclass(frozen=True, kw_only=True)
class UniPCBH2(UniPC):
    """UniPC with B(h) = e^h - 1."""

    integral: ClassVar[type[FlowIntegral]] = BH2Integral
