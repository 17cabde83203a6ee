"""The abstract denoiser."""

import abc
import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import select_rows, times


class Denoiser(nn.Module, Checked, abc.ABC):
    """A function (x_t, t) -> :class:`~sde_gen.denoiser.Prediction`, with the process it belongs to.

    Attributes:
        sde: the process.
    """

    sde: SDE

    @abc.abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise.

        Arguments:
            x_t: noisy samples with shape (B, *event), float32 or float64.
            t: times with shape () or (B,), float64.
            **cond: conditioning with one row per sample, such as ``label`` with shape (B,).
        """

    def __call__(self, x_t: Tensor, t: Tensor | float, **cond: Tensor) -> Prediction:
        """Call :meth:`forward` through the module's hooks; a number is a time for all samples."""
        prediction: Prediction = super().__call__(x_t, times(t), **cond)
        return prediction

    def precompute(self, times: Tensor) -> None:
        """Learn of the times that will be asked for, so that what depends on time alone can be made at once.

        A denoiser around others tells them. What was expected before is forgotten; the answers are the same.

        Arguments:
            times: float64 on the CPU with shape (n,); none, to forget.
        """
        for part in self.children():
            getattr(part, "expect", _ignore)(times)

    def select(self, index: Tensor, count: int) -> "Denoiser":
        """Make the denoiser of some samples of a batch, when the others have left it.

        A denoiser may hold something for every sample, such as a label or a measurement; that of these samples goes
        with them. One that does not say what it holds is asked with a full batch still, whose other places are filled
        with the first of the samples. A subclass says so by overriding this, most easily with :meth:`replace_modules`.

        Arguments:
            index: which samples, with shape (b,).
            count: number of samples B of the whole batch.

        Returns:
            The denoiser of batches with shape (b, *event).
        """
        return Padded(self, index, count)

    def replace_modules(self, **parts: Tensor | nn.Module) -> "Denoiser":
        """Copy the denoiser, with other modules or buffers in place of some; the rest is shared."""
        other = copy.copy(self)
        other._modules, other._buffers = dict(self._modules), dict(self._buffers)
        for name, part in parts.items():
            setattr(other, name, part)
        return other

    def bind(self, **cond: Tensor) -> "Denoiser":
        """Fix the conditioning."""
        return Conditioned(self, cond)


def _ignore(times: Tensor) -> None:
    """What a part does that is no denoiser."""
    del times


class Conditioned(Denoiser):
    """A denoiser with its conditioning fixed."""

    def __init__(self, denoiser: Denoiser, cond: dict[str, Tensor]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.cond = cond

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the fixed conditioning and what is given on top of it."""
        return self.denoiser(x_t, t, **{**self.cond, **cond})

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Bind the conditioning of these samples."""
        cond = {name: select_rows(value, index, count) for name, value in self.cond.items()}
        return Conditioned(self.denoiser.select(index, count), cond)


class Padded(Denoiser):
    """A denoiser of some samples that is asked with a batch of fixed length.

    Arguments:
        denoiser: the denoiser of the whole batch.
        index: which samples, with shape (b,).
        count: number of samples B of the whole batch.
    """

    def __init__(self, denoiser: Denoiser, index: Tensor, count: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.index = index
        self.place = torch.zeros(count, dtype=torch.long)
        self.place[index] = torch.arange(len(index))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Fill the batch, predict, and pick the samples."""
        full = {name: select_rows(value, self.place, len(x_t)) for name, value in cond.items()}
        prediction = self.denoiser(x_t[self.place], t if t.ndim == 0 else t[self.place], **full)
        alpha, sigma = (a if a.ndim == 0 else a[self.index] for a in (prediction.alpha, prediction.sigma))
        return replace(
            prediction,
            x_t=x_t,
            x0=prediction.x0[self.index],
            eps=prediction.eps[self.index],
            alpha=alpha,
            sigma=sigma,
            aux=None if prediction.aux is None else prediction.aux[self.index],
        )
