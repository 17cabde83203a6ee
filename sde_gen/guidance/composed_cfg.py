"""Classifier-free guidance with a scale for every condition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance._null import check_null, without
from sde_gen.guidance.requirements import Requirements


class ComposedCFG(Denoiser):
    r"""Add one condition after the other, each with its own scale.

    With the conditions :math:`c_1, c_2, \ldots` in the order of ``scales``, and :math:`\hat{x}_0^k` the prediction
    given the first k of them,

    .. math::
        \hat{x}_0 = \hat{x}_0^0 + \sum_k \mathrm{scale}_k\, (\hat{x}_0^k - \hat{x}_0^{k-1}),

    whose score is that of :math:`p_t(x) \prod_k p_t(c_k | x, c_1, \ldots, c_{k-1})^{\mathrm{scale}_k}`. Scales of 1
    are the conditional model and scales of 0 the unconditional one, bit for bit and at the cost of one evaluation;
    in general K conditions cost K + 1, less those of neighboring equal scales.

    Source: Brooks et al., 2023, arXiv:2211.09800, eq. 3, of an image and a text.

    Arguments:
        denoiser: a model trained with conditioning that was dropped now and then, by itself and together.
        scales: scale of every conditioning by name, in the order in which they are added; others are never dropped.
        null: by name, what takes the place of what is dropped, one row (1, ...) for all samples.
        together: by name of a scale, the names of all conditioning that is added with it, such as tokens and mask; by
            default that name alone.

    Raises:
        ValueError: a scale is not finite, or there is none; or, when called, a conditioning is missing.
    """

    requires: ClassVar[Requirements] = Requirements(conditional_model=True, unconditional_model=True)

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        scales: Mapping[str, float],
        null: Mapping[str, Tensor] = MappingProxyType({}),
        together: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        if not scales or not all(math.isfinite(scale) for scale in scales.values()):
            raise ValueError(
                f"scales={dict(scales)}: expected a finite number by name of a condition, such as label: 2.0"
            )
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.scales = dict(scales)
        self.null = check_null(null)
        self.together = {name: tuple(together.get(name, (name,))) for name in scales}

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the conditions added one after the other."""
        missing = [name for name in self.scales if name not in cond]
        if missing:
            raise ValueError(f"guidance needs the conditioning {', '.join(missing)}; bind it to the denoiser")
        names, weights = list(self.scales), [1.0, *self.scales.values(), 0.0]
        terms: list[tuple[float, Prediction]] = []
        for known in range(len(names) + 1):
            weight = weights[known] - weights[known + 1]  # of the prediction given the first of them
            if weight != 0:
                left = [key for name in names[known:] for key in self.together[name]]
                given = without(cond, left, self.null) if left else cond
                terms.append((weight, self.denoiser(x_t, t, **given)))
        (first, guided), *others = terms  # the weights add up to one
        if not others and first == 1:
            return guided
        x0, eps = first * guided.x0, first * guided.eps
        for weight, prediction in others:
            x0, eps = x0 + weight * prediction.x0, eps + weight * prediction.eps
        return replace(terms[-1][1], x0=x0, eps=eps)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the guided denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
