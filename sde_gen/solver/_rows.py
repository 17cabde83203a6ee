"""A denoiser for some samples of a batch, when the others have left it."""

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from sde_gen.denoiser.base import Bound, Denoiser
from sde_gen.denoiser.exact import MixtureDenoiser
from sde_gen.denoiser.network import NetworkDenoiser
from sde_gen.prediction import Prediction


@singledispatch
def for_rows(model: Denoiser, rows: Tensor, count: int) -> Denoiser:
    """Make the denoiser of some samples.

    A denoiser may hold something for every sample, such as a label or a measurement. One that is not known to hold
    nothing is asked with a full batch, whose other places are filled with the first of the samples.

    Arguments:
        model: the denoiser of the whole batch.
        rows: indices of samples with shape (b,).
        count: number of samples B of the whole batch.

    Returns:
        The denoiser of batches with shape (b, *event).
    """
    return _Padded(model, rows, count)


@for_rows.register
def _(model: NetworkDenoiser, rows: Tensor, count: int) -> Denoiser:
    del rows, count
    return model


@for_rows.register
def _(model: MixtureDenoiser, rows: Tensor, count: int) -> Denoiser:
    del rows, count
    return model


@for_rows.register
def _(model: Bound, rows: Tensor, count: int) -> Denoiser:
    cond = {name: value[rows] if value.shape[:1] == (count,) else value for name, value in model.cond.items()}
    return Bound(for_rows(model.denoiser, rows, count), cond)


class _Padded(Denoiser):
    """A denoiser that is asked with a batch of fixed length."""

    def __init__(self, inner: Denoiser, rows: Tensor, count: int) -> None:
        super().__init__()
        self.inner, self.sde, self.rows = inner, inner.sde, rows
        self.place = torch.zeros(count, dtype=torch.long)
        self.place[rows] = torch.arange(len(rows))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Fill the batch, predict, and pick the samples."""
        full = {name: value[self.place] for name, value in cond.items()}
        prediction = self.inner(x_t[self.place], t if t.ndim == 0 else t[self.place], **full)
        alpha, sigma = (a if a.ndim == 0 else a[self.rows] for a in (prediction.alpha, prediction.sigma))
        aux = None if prediction.aux is None else prediction.aux[self.rows]
        return replace(
            prediction,
            x_t=x_t,
            x0=prediction.x0[self.rows],
            eps=prediction.eps[self.rows],
            alpha=alpha,
            sigma=sigma,
            aux=aux,
        )
