"""Strength of hints of a controlled network, and the times at which they act."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance.requirements import Requirements
from sde_gen.utils.broadcasting import to_device


class ControlStrength(Denoiser):
    r"""Scale hints, each between two times.

    Hint k has the scale :math:`s_k` where its interval contains t, and 0 elsewhere: where all are 0, the network is
    called without hints, bit for bit.

    With ``ramp`` r below 1 features of fine levels act less, by :math:`r^{1 - k / K}` from the finest level k = 0 to
    the middle k = K. r = 0.1 is the mode that guesses what the hints show where the text is empty; classifier-free
    guidance that drops text and hints together goes with it.

    Source: Zhang et al., 2023, arXiv:2302.05543, section 3.4 and the code; the interval: von Platen et al., diffusers
    0.42, control_guidance_start and control_guidance_end.

    Arguments:
        denoiser: a model with a controlled network.
        scale: scale of every hint, or one for all.
        t_min: smallest time at which a hint acts, of every hint, or one for all.
        t_max: largest time.
        ramp: r in (0, 1].

    Raises:
        ValueError: a number is out of its range; or, when called, there are other hints than scales.
    """

    requires: ClassVar[Requirements] = Requirements(conditional_model=True)

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        scale: Sequence[float] = (1.0,),
        t_min: Sequence[float] = (0.0,),
        t_max: Sequence[float] = (1.0,),
        ramp: float = 1.0,
    ) -> None:
        super().__init__()
        count = max(len(scale), len(t_min), len(t_max))
        scales, starts, ends = ([*part] * (count if len(part) == 1 else 1) for part in (scale, t_min, t_max))
        if not len(scales) == len(starts) == len(ends) == count or count == 0:
            raise ValueError(
                f"scale={list(scale)}, t_min={list(t_min)}, t_max={list(t_max)}: expected a number for "
                "every hint, or one"
            )
        if not all(0 <= low <= high <= 1 for low, high in zip(starts, ends, strict=True)):
            raise ValueError(f"t_min={list(t_min)}, t_max={list(t_max)}: expected 0 <= t_min <= t_max <= 1")
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp={ramp} must lie in (0, 1]; 1 is none")
        self.denoiser, self.sde = denoiser, denoiser.sde
        self.scales, self.intervals, self.ramp = scales, list(zip(starts, ends, strict=True)), ramp

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with scaled hints."""
        control = cond.get("control")
        if control is None:
            return self.denoiser(x_t, t, **cond)
        count = len(self.scales)
        if not control.shape[1] > count:
            raise ValueError(f"there are {count} scales for hints with {control.shape[1]} channels in all")
        inside = torch.stack([(low <= t) & (t <= high) for low, high in self.intervals], dim=-1)
        scales = torch.where(inside, torch.tensor(self.scales, dtype=torch.float64, device=t.device), 0.0)
        if not bool(scales.any()):
            return self.denoiser(x_t, t, **{name: part for name, part in cond.items() if name != "control"})
        factor = to_device(scales.reshape(-1, count, 1, 1), control.device, control.dtype)
        hints, strengths = control[:, :-count], control[:, -count:]
        cond["control"] = torch.cat([hints, factor * strengths], dim=1)
        if self.ramp != 1:
            cond["control_ramp"] = control.new_full((len(control),), self.ramp)
        return self.denoiser(x_t, t, **cond)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
