"""PNDM."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.noise import Noise
from sde_gen.solver._exponential import move, point
from sde_gen.solver._multistep import Past
from sde_gen.solver.ipndm import IPNDM


@dataclass(frozen=True, kw_only=True)
class PNDM(IPNDM):
    r"""Pseudo numerical methods: three steps of Runge-Kutta's kind, then :class:`~sde_gen.solver.ipndm.IPNDM`.

    The first three steps have four evaluations each, at t, twice at m = (t + s) / 2 and at s. With phi DDIM's step,

    .. math::
        \epsilon_1 = \hat\epsilon(x_t, t), \quad
        \epsilon_2 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_1), m), \quad
        \epsilon_3 = \hat\epsilon(\phi_{t \to m}(x_t, \epsilon_2), m), \quad
        \epsilon_4 = \hat\epsilon(\phi_{t \to s}(x_t, \epsilon_3), s),

    .. math::
        x_s = \phi_{t \to s}\left(x_t, \tfrac{1}{6} (\epsilon_1 + 2 \epsilon_2 + 2 \epsilon_3 + \epsilon_4)\right) .

    It is of order 2, as the paper proves, for the reason given at iPNDM.

    Source: Liu et al., 2022, arXiv:2202.09778, eq. 11 to 13 and algorithm 2.
    """

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: Past, noise: Noise
    ) -> tuple[Tensor, Past]:
        """One step."""
        if state.number > 2:
            return super().step(model, x_t, t, s, state, noise)
        a, m, b = (point(model.sde, u) for u in (t, 0.5 * (t + s), s))
        e_1 = model(x_t, t).eps
        e_2 = model(move(x_t, a, m, e_1), m.t).eps
        e_3 = model(move(x_t, a, m, e_2), m.t).eps
        e_4 = model(move(x_t, a, b, e_3), s).eps
        x_s = move(x_t, a, b, (e_1 + 2 * e_2 + 2 * e_3 + e_4) / 6)
        return x_s, Past(state.number + 1, state.rows, (e_1, *state.values))

    def nfe(self, steps: int) -> int:
        """Four evaluations in each of the first three steps, then one."""
        return steps + 3 * min(steps, 3)
