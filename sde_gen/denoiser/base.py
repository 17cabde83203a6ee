"""Denoiser: the interface between networks and samplers, likelihoods and guidance."""

import abc
import copy
import reprlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import Noise
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import select_rows, times


class Denoiser(nn.Module, Checked, abc.ABC):
    """A function (x_t, t) -> :class:`~sde_gen.denoiser.Prediction` on a diffusion process.

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
        if not isinstance(x_t, Tensor):
            raise ValueError(
                f"x_t={reprlib.repr(x_t)} must be a tensor of noisy samples with shape (B, *event)"
            )
        prediction: Prediction = super().__call__(x_t, times(t), **cond)
        return prediction

    def select(self, index: Tensor, count: int) -> "Denoiser":
        """Return the denoiser of some samples of a batch, after the others have finished.

        A denoiser may store a value per sample, such as a label or a measurement. A subclass selects these values by
        overriding this method, most easily with :meth:`replace_modules`. By default the denoiser is called with full
        batches still, padded with the first of the samples.

        Arguments:
            index: which samples, with shape (b,).
            count: number of samples B of the whole batch.

        Returns:
            The denoiser of batches with shape (b, *event).
        """
        return Padded(self, index, count)

    def replace_modules(self, **parts: Tensor | nn.Module) -> "Denoiser":
        """Return a shallow copy with some modules or buffers replaced; the others are shared."""
        other = copy.copy(self)
        other._modules, other._buffers = dict(self._modules), dict(self._buffers)
        for name, part in parts.items():
            setattr(other, name, part)
        return other

    def chord(self, x_t: Tensor, t: Tensor | float, s: Tensor | float, **cond: Tensor) -> Prediction:
        """Return the pair (x0, eps) of a flow map: x_t has it at time t, and its sample at time s is the end.

        Arguments:
            x_t: noisy samples with shape (B, *event).
            t: their times with shape () or (B,).
            s: times to map to with shape () or (B,).
            **cond: conditioning as in :meth:`forward`.

        Raises:
            ValueError: the model is no :class:`~sde_gen.denoiser.FlowMap`.
        """
        del x_t, t, s, cond
        raise ValueError(
            f"{type(self).__name__} is no flow map: train one with objective=mean_flow or objective=lagrangian, or use "
            "another solver, such as solver=ddim"
        )

    def draw(self, x_t: Tensor, t: Tensor | float, noise: Noise, **cond: Tensor) -> Tensor:
        """Draw x_0 of the model's p(x_0 | x_t), which a denoiser alone does not know.

        Arguments:
            x_t: noisy samples with shape (B, *event).
            t: their times with shape () or (B,).
            noise: source of noise.
            **cond: conditioning as in :meth:`forward`.

        Returns:
            Clean samples with shape (B, *event).

        Raises:
            ValueError: the model is no :class:`~sde_gen.denoiser.DenoisingGAN`.
        """
        del x_t, t, noise, cond
        raise ValueError(
            f"{type(self).__name__} is no generator: train one with objective=diffusion_gan, or use another solver, "
            "such as solver=ancestral"
        )

    def bind(self, **cond: Tensor) -> "Denoiser":
        """Return the denoiser with its conditioning fixed, as solvers expect it."""
        return Conditioned(self, cond)


class Conditioned(Denoiser):
    """A denoiser with its conditioning fixed."""

    def __init__(self, denoiser: Denoiser, cond: dict[str, Tensor]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.cond = cond

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the fixed conditioning, updated by the given one."""
        return self.denoiser(x_t, t, **{**self.cond, **cond})

    def chord(self, x_t: Tensor, t: Tensor | float, s: Tensor | float, **cond: Tensor) -> Prediction:
        """Return the chord with the fixed conditioning, updated by the given one."""
        return self.denoiser.chord(x_t, t, s, **{**self.cond, **cond})

    def draw(self, x_t: Tensor, t: Tensor | float, noise: Noise, **cond: Tensor) -> Tensor:
        """Draw x_0 with the fixed conditioning, updated by the given one."""
        return self.denoiser.draw(x_t, t, noise, **{**self.cond, **cond})

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Bind the conditioning of these samples."""
        cond = {name: select_rows(value, index, count) for name, value in self.cond.items()}
        return Conditioned(self.denoiser.select(index, count), cond)


class Padded(Denoiser):
    """A denoiser of some samples, evaluated on padded batches of fixed length.

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
        self.inverse_index = torch.zeros(count, dtype=torch.long)
        self.inverse_index[index] = torch.arange(len(index))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Fill the batch, predict, and pick the samples."""
        full = {name: select_rows(value, self.inverse_index, len(x_t)) for name, value in cond.items()}
        prediction = self.denoiser(
            x_t[self.inverse_index], t if t.ndim == 0 else t[self.inverse_index], **full
        )
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
