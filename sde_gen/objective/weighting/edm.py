"""The objective of EDM."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.objective.time_sampler.log_normal import LogNormal
from sde_gen.objective.weighting.base import Weighting
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class EDMWeighting(Weighting):
    r"""The weight 1 / c_out^2 on the error of x_0, averaged over log-normal noise levels.

    With s = sigma / alpha, |x_0 error|^2 = s^2 |eps error|^2, and p(t) the density of ``times``,

    .. math::
        w = p(t)\, s^2 \frac{s^2 + \sigma_d^2}{(s \sigma_d)^2} = p(t) \frac{s^2 + \sigma_d^2}{\sigma_d^2} .

    The distribution of noise levels is part of this objective; the same distribution as time sampler gives it the
    least variance.

    Source: Karras et al., 2022, arXiv:2206.00364, table 1 and appendix B.6.

    Arguments:
        sigma_data: standard deviation of the data in model space.
        mean: mean of log(sigma / alpha).
        std: its standard deviation.
    """

    sigma_data: float = 0.5
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(
                f"sigma_data={self.sigma_data} must be positive: give the data's standard deviation"
            )
        LogNormal(mean=self.mean, std=self.std)

    def __call__(self, sde: SDE, t: Tensor) -> Tensor:
        """Density times 1 + (s / sigma_data)^2."""
        distribution = LogNormal(mean=self.mean, std=self.std)
        return distribution.density(sde, t) * (1 + (sde.sigma(t) / sde.alpha(t) / self.sigma_data) ** 2)
