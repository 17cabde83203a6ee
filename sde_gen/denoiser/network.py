"""A neural network as a denoiser."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.parametrization.base import LinearCoefficients, Parametrization, combine, scale
from sde_gen.denoiser.parametrization.edm import EDM
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE, Marginal
from sde_gen.utils.broadcasting import to_device
from sde_gen.utils.hashing import Memo, is_constant

MAX_TIMES = 4096
"""Number of times whose coefficients a denoiser stores at most."""

HALF = torch.tensor(0.5, dtype=torch.float64)
ONE = torch.tensor(1.0, dtype=torch.float64)


class DenoiserCoefficients(NamedTuple):
    """Time-dependent coefficients: scalars, and the noise label with shape (1,) that the network expects."""

    marginal: Marginal
    c_in: float
    label: Tensor
    linear: LinearCoefficients


class NetworkDenoiser(Denoiser):
    """A network, the process that it was trained on and the prediction type of its output.

    This is the only place where dtypes change: coefficients are computed in float64, the network runs in
    its own dtype (or under autocast) on x_t and on conditions of floating point in that dtype, the prediction has the
    dtype of x_t. Coefficients at a scalar time are
    memoized: a grid is used for many batches.

    Arguments:
        net: a module ``net(x, c_noise, **cond)`` with x of shape (B, *event) and c_noise of shape (B,).
        sde: the process.
        parametrization: scaling of the network's input, its noise label, and the prediction type of its output.
        context: factory of the context in which the network is called, such as autocast.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        sde: SDE,
        parametrization: Parametrization = EDM(),
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.parametrization = parametrization
        self.context = context
        self._constant = (
            is_constant(sde, parametrization) and parametrization.linear(sde.marginal(HALF)) is not None
        )
        self._coefficients = Memo[DenoiserCoefficients](MAX_TIMES)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise."""
        dtype = self._dtype(x_t)
        cond = {name: value.to(dtype) if value.is_floating_point() else value for name, value in cond.items()}
        if t.ndim == 0 and self._memoizes(t):
            key = float(t), x_t.device, dtype
            coefficients = self._coefficients(key, lambda: self._at(t, x_t.device, dtype))
            x_in = scale(coefficients.c_in, x_t)
            with self.context():
                out = self.net(x_in.to(dtype), coefficients.label.expand(len(x_t)), **cond)
            return combine(coefficients.linear, out.to(x_t.dtype), x_t, coefficients.marginal)
        marginal = self.sde.marginal(t)
        x_in, c_noise = self.parametrization.inputs(x_t, marginal, t.double())
        with self.context():
            out = self.net(
                x_in.to(dtype),
                to_device(c_noise, x_t.device, self._label_dtype(dtype)).expand(len(x_t)),
                **cond,
            )
        return self.parametrization.predict(out.to(x_t.dtype), x_t, marginal)

    def _memoizes(self, t: Tensor) -> bool:
        """Return whether coefficients at t are constants: not where t is differentiated, mapped or traced."""
        return (
            self._constant
            and t.is_cpu
            and t.dtype == torch.float64
            and not t.requires_grad
            and not is_functorch_wrapped_tensor(t)
            and forward_ad._current_level < 0
            and not torch.compiler.is_compiling()
        )

    def _at(self, t: Tensor, device: torch.device, dtype: torch.dtype) -> DenoiserCoefficients:
        """Compute the coefficients at one time."""
        marginal = self.sde.marginal(t)
        linear = self.parametrization.linear(marginal)
        assert linear is not None  # checked by the constructor
        c_in, label = self.parametrization.inputs(ONE, marginal, t)
        return DenoiserCoefficients(
            marginal,
            float(c_in),
            to_device(label.reshape(1), device, self._label_dtype(dtype)),
            LinearCoefficients(*map(float, linear)),
        )

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the denoiser itself, which stores no values per sample."""
        del index, count
        return self

    def _dtype(self, x_t: Tensor) -> torch.dtype:
        parameter = next(self.net.parameters(), None)
        return x_t.dtype if parameter is None else parameter.dtype

    def _label_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of the noise label: under autocast float32, as 16 bits round most steps of a chain."""
        return dtype if dtype.itemsize > 2 or self.context is nullcontext else torch.float32
