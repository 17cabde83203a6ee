"""What solvers check before they start."""

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser


def require_finite_diffusion(solver: str, model: Denoiser, t: Tensor) -> None:
    """Refuse to start a solver that needs g(t) where g(t) is infinite.

    Arguments:
        solver: name of the solver, for the message.
        model: the denoiser, whose process is asked.
        t: the first time with shape ().

    Raises:
        ValueError: g(t) is not finite, as that of the straight path at t = 1.
    """
    if not bool(torch.isfinite(model.sde.diffusion(t)).all()):
        raise ValueError(
            f"g({float(t):g}) of {type(model.sde).__name__} is infinite, which {solver} needs finite: "
            "give the grid a t_max below 1, such as 0.999, or use eta=0 or an exponential solver such as Ancestral or DDIM"
        )
