"""Importance sampling of steps by the second moment of their losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sde_gen.objective.step_sampler.base import StepSampler


@dataclass(frozen=True, kw_only=True)
class SecondMoment(StepSampler):
    r"""Probabilities proportional to the root mean square of the last losses of every step.

    .. math::
        p_n = (1 - u) \frac{\sqrt{E[L_n^2]}}{\sum_m \sqrt{E[L_m^2]}} + \frac{u}{T}

    They minimize the variance of the estimate L_n / (T p_n) of the mean loss. E is the mean over the last ``history``
    losses of step n; until every step has as many, the steps are uniform. The losses are a state, which is a function
    of the global batches alone and is the same in every process.

    Source: Nichol and Dhariwal, 2021, arXiv:2102.09672, section 3.3 and eq. 18 (history 10); the uniform share is that
    of their code.

    Arguments:
        history: number of losses kept per step.
        uniform: share u of uniform steps.

    Raises:
        ValueError: history is below 1, or uniform outside (0, 1).
    """

    history: int = 10
    uniform: float = 0.001
    _state: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.history < 1 or not 0 < self.uniform < 1:
            raise ValueError(
                f"history={self.history}, uniform={self.uniform}: expected at least 1 loss per step, and a share in "
                "(0, 1), without which a step of loss zero would never be drawn again"
            )

    def probabilities(self, count: int, device: torch.device) -> Tensor:
        """Return the probabilities of the steps, uniform until the history is full."""
        losses, counts = self._tensors(count, device)
        root = losses.square().mean(1).sqrt()
        share = root / root.sum()
        full = (counts.min() >= self.history) & (root.sum() > 0)
        return torch.where(full, (1 - self.uniform) * share + self.uniform / count, 1 / count)

    def observe(self, count: int, index: Tensor, losses: Tensor) -> None:
        """Replace the oldest losses of the steps, in the order of the batch; a batch that is not finite is left out."""
        kept, counts = self._tensors(count, index.device)
        found = torch.isfinite(losses).all()
        same = index.unsqueeze(0) == index.unsqueeze(1)
        before = same.tril(-1).sum(1)  # earlier samples of the batch with the same step
        newest = before >= same.sum(1) - self.history
        slot = index * self.history + (counts[index] + before) % self.history
        end = torch.full_like(slot, kept.numel())
        flat = torch.cat(
            [kept.flatten(), kept.new_zeros(1)]
        )  # the last number takes what is replaced at once
        flat = flat.scatter(0, torch.where(newest, slot, end), losses.double())
        self._state["losses"] = torch.where(found, flat[:-1].reshape(kept.shape), kept)
        self._state["counts"] = torch.where(found, counts + torch.bincount(index, minlength=count), counts)

    def state(self) -> dict[str, Tensor]:
        """Return the last losses with shape (T, history), float64, and their numbers with shape (T,), int64."""
        return dict(self._state)

    def load_state(self, count: int, tensors: Mapping[str, Tensor]) -> None:
        """Restore the last losses."""
        shapes = {"losses": (count, self.history), "counts": (count,)}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found not in ({}, shapes):
            raise ValueError(
                f"the stored losses of steps have shapes {found}, expected {shapes}; keep the steps and the history of "
                "the training, or choose another run folder"
            )
        self._state.clear()
        self._state.update({name: value.clone() for name, value in tensors.items()})

    def _tensors(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the last losses and their numbers on a device."""
        if not self._state:
            self._state["losses"] = torch.zeros(count, self.history, dtype=torch.float64)
            self._state["counts"] = torch.zeros(count, dtype=torch.int64)
        if self._state["losses"].device != device:
            self._state.update({name: value.to(device) for name, value in self._state.items()})
        return self._state["losses"], self._state["counts"]
