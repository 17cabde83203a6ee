"""Classifier-free guidance (CFG)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance._extrapolation import extrapolate
from sde_gen.guidance._null import check_null, without
from sde_gen.guidance.requirements import Requirements
from sde_gen.utils.broadcasting import broadcast, to_device


class CFG(Denoiser):
    r"""Extrapolate from the unconditional prediction through the conditional one.

    .. math::
        \hat{x}_0 = \hat{x}_0^{uncond} + \mathrm{scale}\, (\hat{x}_0^{cond} - \hat{x}_0^{uncond}),

    the same line in eps and in the score. scale = 0 and 1 are the unconditional and the conditional model, bit for
    bit and at the cost of one evaluation; every other scale costs two. A scale above 1 does not sample a known
    distribution: the :math:`p_t(x)\, p_t(y | x)^{scale}` are not the marginals of a diffusion.

    Between ``ratio_min`` and ``ratio_max`` of sigma / alpha the scale applies, elsewhere the conditional model does.
    ``rescale`` reduces the standard deviation that large scales inflate:

    .. math::
        \hat{x}_0 \leftarrow \left(1 - \phi + \phi\, \frac{\mathrm{std}(\hat{x}_0^{cond})}{\mathrm{std}(\hat{x}_0)}
        \right) \hat{x}_0 .

    Sources: Ho and Salimans, 2022, arXiv:2207.12598, eq. 6, whose w is scale - 1; the interval: Kynkaanniemi et al.,
    2024, arXiv:2404.07724, eq. 4; rescaling: Lin et al., 2023, arXiv:2305.08891, eq. 15 and 16, there of the
    network's output, as here with ``output``.

    The unconditional prediction leaves conditioning out, or is given another in its place, such as the tokens of a
    negative prompt.

    Arguments:
        denoiser: a model trained with randomly dropped conditioning.
        scale: 0 is unconditional, 1 conditional.
        ratio_min: smallest sigma / alpha at which the scale applies.
        ratio_max: largest sigma / alpha at which it applies.
        rescale: phi in [0, 1].
        drop: names of the conditioning that is dropped for the unconditional prediction; None for all.
        null: by name, what the unconditional prediction is given in the place of what it drops, one row (1, ...) for
            all samples.
        output: parametrization in whose network output the standard deviation is reduced, in the place of x0; the
            commands give that of a converted pipeline.

    Raises:
        ValueError: a number is out of its range; or, when called, no conditioning is given.
    """

    requires: ClassVar[Requirements] = Requirements(conditional_model=True, unconditional_model=True)

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        scale: float = 1.0,
        ratio_min: float = 0.0,
        ratio_max: float = math.inf,
        rescale: float = 0.0,
        drop: Sequence[str] | None = None,
        null: Mapping[str, Tensor] = MappingProxyType({}),
        output: Parametrization | None = None,
    ) -> None:
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError(f"scale={scale} must be finite; 0 is unconditional, 1 conditional")
        if not 0 <= ratio_min < ratio_max:
            raise ValueError(
                f"ratio_min={ratio_min}, ratio_max={ratio_max}: expected 0 <= ratio_min < ratio_max"
            )
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale={rescale} must lie in [0, 1]")
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.scale = scale
        self.log_snrs = -2 * math.log(ratio_max), math.inf if ratio_min == 0 else -2 * math.log(ratio_min)
        self.rescale = rescale
        self.drop = None if drop is None else tuple(drop)
        self.null = check_null(null)
        self.output = output

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict on the line from the unconditional to the conditional prediction."""
        drop = tuple(cond) if self.drop is None else self.drop
        uncond = without(cond, drop, self.null)
        log_snr, (low, high) = self.sde.log_snr(t), self.log_snrs
        inside = (low <= log_snr) & (log_snr <= high)
        if self.scale == 1 or not bool(inside.any()):
            return self.denoiser(x_t, t, **cond)
        if self.scale == 0 and bool(inside.all()):
            return self.denoiser(x_t, t, **uncond)
        conditional = self.denoiser(x_t, t, **cond)
        scale = to_device(
            broadcast(torch.where(inside, self.scale, 1.0).double(), x_t), x_t.device, x_t.dtype
        )
        guided = extrapolate(self.denoiser(x_t, t, **uncond), conditional, scale)
        if self.rescale == 0:
            return guided
        if self.output is None:
            return guided.with_x0(self._gain(guided.x0, conditional.x0) * guided.x0)
        marginal = self.sde.marginal(t)
        out, goal = (self.output.target(each.x0, each.eps, marginal) for each in (guided, conditional))
        found = self.output.predict(self._gain(out, goal) * out, x_t, marginal)
        return replace(found, aux=guided.aux)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the guided denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))

    def _gain(self, guided: Tensor, conditional: Tensor) -> Tensor:
        """Return the factor that leads the standard deviation towards that of the conditional model."""
        over_event = tuple(range(1, conditional.ndim))
        gain = conditional.std(over_event, keepdim=True) / guided.std(over_event, keepdim=True)
        return 1 - self.rescale + self.rescale * gain
