"""Linear extrapolation from one prediction through another."""

from dataclasses import replace

import torch
from torch import Tensor

from sde_gen.denoiser.prediction import Prediction


def extrapolate(start: Prediction, end: Prediction, scale: Tensor) -> Prediction:
    r"""Return the prediction ``start + scale (end - start)``, linear in the scale.

    Clean sample and noise change together, and so does the score.

    Arguments:
        start: prediction at scale 0.
        end: prediction at scale 1, whose ``aux`` is kept.
        scale: position on the line, broadcastable against x_t.
    """
    return replace(end, x0=torch.lerp(start.x0, end.x0, scale), eps=torch.lerp(start.eps, end.eps, scale))
