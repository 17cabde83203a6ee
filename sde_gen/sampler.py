"""Sampling: prior, solver and the final denoising step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.grid.angle import Angle
from sde_gen.grid.base import Grid
from sde_gen.noise import Noise
from sde_gen.sde.base import Prior
from sde_gen.solver.base import Solver
from sde_gen.solver.callbacks import Hook
from sde_gen.solver.straight_adams import StraightAdams
from sde_gen.utils.arguments import Checked, checked
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Sampler(Checked):
    r"""Draw from the prior at the grid's first time, solve down to its last, and denoise.

    The grid ends at a small t_min, where noise of sigma(t_min) is left. One Tweedie step,
    ``x_0 = E[x_0 | x_t]``, takes it away.

    Sources: Song et al., 2021, arXiv:2011.13456, appendix G;
    the last step: Jolicoeur-Martineau et al., 2021, arXiv:2009.05475.

    Arguments:
        solver: integrates from noise to data along the grid.
        grid: discretization of time.
        steps: number of steps of the grid.
        denoise_final: whether to take the Tweedie step, one more evaluation; none after solvers of
            flow maps and generators.
        final_gain: factor of the sample of that step; other than 1 for a converted pipeline that multiplies by its own
            rounding.

    Raises:
        ValueError: steps is below 1, or the factor is not positive.
    """

    solver: Solver = field(default_factory=StraightAdams)
    grid: Grid = field(default_factory=Angle)
    steps: int = 20
    denoise_final: bool = True
    final_gain: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: at least one step is needed")
        if not self.final_gain > 0:
            raise ValueError(f"final_gain={self.final_gain}: expected a positive factor")

    @property
    def nfe(self) -> int | None:
        """Evaluations of the denoiser per sample; None for adaptive step sizes."""
        nfe = self.solver.nfe(self.steps)
        return None if nfe is None else nfe + int(self.denoises)

    @property
    def denoises(self) -> bool:
        """Return whether the Tweedie step is taken: never after a solver of flow maps or generators."""
        return self.denoise_final and self.solver.needs_denoiser

    @checked
    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        shape: Shape,
        *,
        noise: Noise,
        hooks: Iterable[Hook] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw samples.

        Arguments:
            denoiser: the denoiser, conditioning bound.
            shape: shape (B, *event) of the batch.
            noise: source of all randomness.
            hooks: called after every step of the solver.
            dtype: of the samples, float32 or float64.
            device: of the samples.

        Returns:
            Samples in model space with shape (B, *event).

        Raises:
            ValueError: the shape holds no sample, or the solver cannot work on this process and grid.
            FloatingPointError: a sample is not finite; the hook StopOnNaN says in which step that begins.
        """
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"shape={tuple(shape)}: expected (number of samples, *event), each at least 1")
        times = self.grid(denoiser.sde, self.steps)
        prior = Prior(float(denoiser.sde.sigma(times[0])))
        x = prior.sample(shape, noise=noise, dtype=dtype, device=device)
        x = self.solver.solve(denoiser, x, times, noise=noise, hooks=hooks)
        x = self.finish(denoiser, x, times[-1])
        if not bool(torch.isfinite(x).all()):
            rows = (~torch.isfinite(x.flatten(1))).any(1).nonzero().flatten().tolist()
            raise FloatingPointError(
                f"samples {rows[:8]} are not finite; give hooks=[StopOnNaN()] to see in which step that begins"
            )
        return x

    def finish(self, denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """Take the Tweedie step from the last time t of the grid, if it is to be taken."""
        if not self.denoises:
            return x
        x0 = denoiser(x, t).x0
        return x0 if self.final_gain == 1 else self.final_gain * x0
