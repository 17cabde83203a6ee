"""SDE-DPM-Solver++ (2M)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sde_gen.solver._multistep import REACH, Row
from sde_gen.solver._reverse_multistep import ReverseForm, ReverseMultistep


@dataclass(frozen=True, kw_only=True)
class DPMSolverPPSDE2M(ReverseMultistep):
    r"""The two-step exponential integrator of the reverse SDE in data prediction.

    With lam = log(alpha / sigma), h = lam_s - lam_t and h' the length of the step before,

    .. math::
        D = \hat{x}_0(x_t, t) + \frac{h}{2 h'} \left(\hat{x}_0(x_t, t) - \hat{x}_0^{prev}\right), \quad
        x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h} x_t + \alpha_s (1 - e^{-(1 + \eta^2) h}) D
            + \sigma_s \sqrt{1 - e^{-2 \eta^2 h}}\, z .

    Mean and covariance are of order 2, a path of order 1; the first step takes D = x_0. The difference has the
    paper's weight: that of the exact integral agrees to order 2, and has 3 to 6 times the error in the covariance.
    Where h is many times h', the difference is held back as :func:`~sde_gen.solver._multistep.held` does.

    Source: Lu et al., 2022, arXiv:2211.01095, section 6 for eta = 1; other eta by the same derivation.

    Arguments:
        eta: 0 is DPM-Solver++ (2M) on the probability flow, 1 the reverse of the forward process.
        weights: a rule for the weights, such as :class:`~sde_gen.solver.multistep_weights.TaylorWeights` for the
            authors'; None: this package's, limited in long steps.

    Raises:
        ValueError: eta is negative or not finite.
    """

    order: ClassVar[int] = 2
    points: ClassVar[int] = 2

    def rows(self, form: ReverseForm, steps: int) -> list[Row]:
        """The coefficients of all steps."""
        i, h = torch.arange(steps), form.lam.diff()
        data = form.alpha[1:] * -torch.expm1(-(1 + self.eta**2) * h)
        slope = torch.minimum(0.5 * h[1:] / h[:-1] * data[1:], 0.5 * (REACH * form.alpha[2:] - data[1:]))
        keep, first = form.keep(i, i + 1).tolist(), float(data[0])
        pairs = torch.stack([data[1:] + slope, -slope], dim=1).tolist()
        return [Row(k, w) for k, w in zip(keep, [[first], *pairs], strict=True)]
