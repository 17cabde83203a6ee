"""A neural network as a denoiser."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import LinearCoefficients, Parametrization, combine, scale
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE, Marginal
from sde_gen.utils.broadcasting import to_device


class CachedCoefficients(NamedTuple):
    """What depends on one expected time alone: scalars, and the label with shape (1,) where the network is."""

    marginal: Marginal
    c_in: float
    label: Tensor
    linear: LinearCoefficients


class NetworkDenoiser(Denoiser):
    """A network, its process and its parametrization.

    This is the only place where dtypes change: coefficients are computed in float64, the network runs in
    its own dtype (or under autocast), the prediction has the dtype of x_t.

    Arguments:
        net: a module ``net(x, c_noise, **cond)`` with x of shape (B, *event) and c_noise of shape (B,).
        sde: the process.
        parametrization: input scaling, noise label and prediction type.
        context: makes what the network is called in, such as autocast.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        sde: SDE,
        parametrization: Parametrization,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.parametrization = parametrization
        self.context = context
        self._known: dict[float, CachedCoefficients] = {}

    def precompute(self, times: Tensor) -> None:
        """Make marginals, coefficients and labels of all these times."""
        self._known = {}
        marginal = self.sde.marginal(times)
        linear = self.parametrization.linear(marginal)
        if linear is None or times.numel() == 0:
            return
        c_in, label = self.parametrization.inputs(torch.ones_like(times), marginal, times)
        parameter = next(self.net.parameters(), None)
        if parameter is not None:
            label = to_device(label, parameter.device, parameter.dtype)
        pairs = zip(marginal.alpha.unbind(), marginal.sigma.unbind(), strict=True)
        columns = [a.tolist() if isinstance(a, Tensor) else [a] * len(times) for a in linear]
        rows = zip(pairs, c_in.tolist(), label.unsqueeze(1).unbind(), zip(*columns, strict=True), strict=True)
        known = [
            CachedCoefficients(Marginal(*pair), c_in, label, LinearCoefficients(*row))
            for pair, c_in, label, row in rows
        ]
        self._known = dict(zip(times.tolist(), known, strict=True))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise."""
        dtype = self._dtype(x_t)
        known = self._known.get(float(t)) if self._known and t.ndim == 0 else None
        if known is not None:
            x_in = scale(known.c_in, x_t)
            with self.context():
                out = self.net(x_in.to(dtype), known.label.to(x_t.device, dtype).expand(len(x_t)), **cond)
            return combine(known.linear, out.to(x_t.dtype), x_t, known.marginal)
        marginal = self.sde.marginal(t)
        x_in, c_noise = self.parametrization.inputs(x_t, marginal, t.double())
        with self.context():
            out = self.net(x_in.to(dtype), to_device(c_noise, x_t.device, dtype).expand(len(x_t)), **cond)
        return self.parametrization.predict(out.to(x_t.dtype), x_t, marginal)

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return itself: nothing is held for a sample."""
        del index, count
        return self

    def _dtype(self, x_t: Tensor) -> torch.dtype:
        parameter = next(self.net.parameters(), None)
        return x_t.dtype if parameter is None else parameter.dtype
