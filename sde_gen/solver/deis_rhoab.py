"""DEIS with polynomials in rho."""

from dataclasses import dataclass

from sde_gen.solver._check import require_order
from sde_gen.solver.lms import LMS


@dataclass(frozen=True, kw_only=True)
class DEISRhoAB(LMS):
    r"""The diffusion exponential integrator sampler with polynomials in rho = sigma / alpha.

    In exact arithmetic it is :class:`~sde_gen.solver.lms.LMS`, derived from the flow's exponential integrator: where
    the linear part is integrated, Adams-Bashforth in rho remains.

    Source: Zhang and Chen, 2022, arXiv:2204.13902, section 3.3 and eq. 18.

    Arguments:
        order: 1 to 3.

    Raises:
        ValueError: the order is none of these.
    """

    order: int = 3

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        require_order((1, 2, 3), "; LMS has order 4", order=self.order)
