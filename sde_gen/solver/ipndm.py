"""iPNDM."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.solver._form import Form, NoiseForm
from sde_gen.solver._multistep import MultistepSolver, Row
from sde_gen.solver._weights import adams, window


class EqualForm(NoiseForm):
    """Noise prediction, polynomials in the number of the step: Adams-Bashforth for equal steps, DDIM for the rest."""

    def weights(self, start: Tensor, end: Tensor, nodes: Tensor) -> Tensor:
        r"""Of the mean noise over the step, times what DDIM has of noise, ``sigma_s - sigma_t alpha_s / alpha_t``."""
        places = torch.where(nodes < 0, torch.nan, nodes.double())
        sums = adams(torch.ones_like, places, start.double(), end.double())
        noise = -self.sigma[end] * torch.expm1(self.lam[end] - self.lam[start])
        return (noise / (end - start)).unsqueeze(-1) * sums


@dataclass(frozen=True, kw_only=True)
class IPNDM(MultistepSolver):
    r"""DDIM's step with the noise that Adams-Bashforth's fourth order predicts for equal steps.

    .. math::
        \epsilon' = \tfrac{1}{24} (55 \hat\epsilon_t - 59 \hat\epsilon_{t+1} + 37 \hat\epsilon_{t+2} - 9
        \hat\epsilon_{t+3}), \qquad
        x_s = \frac{\alpha_s}{\alpha_t} x_t + \left(\sigma_s - \frac{\alpha_s}{\alpha_t} \sigma_t\right) \epsilon'

    with fewer terms in the first three steps. The mean noise over a step is that in the number of the step, while
    the flow's weight is rho = sigma / alpha: on grids where rho(n) is no straight line the product of the two slopes
    remains, an error of h^3 per step. So it is of order 2 on every smooth grid, though the coefficients alone would
    have 4.

    Sources: Zhang and Chen, 2022, arXiv:2204.13902, section 3.3 (iPNDM); Liu et al., 2022, arXiv:2202.09778, eq. 12.
    """

    order: ClassVar[int] = 2
    form: ClassVar[type[Form]] = EqualForm

    def rows(self, form: Form, steps: int) -> list[Row]:
        """Four nodes from the fourth step on."""
        i = torch.arange(steps)
        weights = form.weights(i, i + 1, window(i, min(4, steps))).tolist()
        keep = form.keep(i, i + 1).tolist()
        return [Row(k, w[: n + 1]) for n, (k, w) in enumerate(zip(keep, weights, strict=True))]
