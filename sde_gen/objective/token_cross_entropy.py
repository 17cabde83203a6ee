"""Training of an autoregressive model of codes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.autoregressive import AutoregressiveModel
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.sde.base import SDE


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropy(Objective):
    r"""The cross-entropy of the codes of an image, in nats per code.

    .. math:: -\frac1N \log p(k | \mathrm{text}) = -\frac1N \sum_{i=1}^{N} \log p(k_i | k_{<i}, \mathrm{text})

    Source: Ramesh et al., 2021, arXiv:2102.12092, section 2.2, without its loss of the text.
    """

    trains: ClassVar[type] = AutoregressiveModel

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw nothing: codes have no noise."""
        del noise
        t = torch.full((len(x0),), sde.t_min, dtype=torch.float64, device=x0.device)
        return NoiseDraw(t, torch.ones_like(t), torch.empty(len(x0), 0, device=x0.device))

    def loss(self, model: AutoregressiveModel, /, x0: Tensor, draw: NoiseDraw, **cond: Tensor) -> Loss:
        """Evaluate the loss; its error is the share of codes that are not the likeliest."""
        k = x0.flatten(1)
        logs = model(x0, **cond)
        nats = -logs.gather(2, k.unsqueeze(2)).squeeze(2)
        return Loss(nats.mean(1), draw.t, (logs.argmax(2) != k).to(logs.dtype).mean(1))
