"""A neural network as a denoiser."""

import torch
from torch import Tensor, nn

from sde_gen.denoiser.base import Denoiser
from sde_gen.parametrization.base import Parametrization
from sde_gen.prediction import Prediction
from sde_gen.sde.base import SDE


class NetworkDenoiser(Denoiser):
    """A network, the process it was trained on and the meaning of its output.

    This is the only place where dtypes change: coefficients are computed in float64, the network runs in
    its own dtype (or under autocast), the prediction has the dtype of x_t.

    Arguments:
        net: a module ``net(x, c_noise, **cond)`` with x of shape (B, *event) and c_noise of shape (B,).
        sde: the process.
        parametrization: the meaning of the network's input, label and output.
    """

    def __init__(self, *, net: nn.Module, sde: SDE, parametrization: Parametrization) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.parametrization = parametrization

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise."""
        marginal = self.sde.marginal(t)
        x_in, c_noise = self.parametrization.inputs(x_t, marginal, t.double())
        dtype = self._dtype(x_t)
        out = self.net(x_in.to(dtype), c_noise.to(x_t.device, dtype).expand(len(x_t)), **cond)
        return self.parametrization.predict(out.to(x_t.dtype), x_t, marginal)

    def _dtype(self, x_t: Tensor) -> torch.dtype:
        parameter = next(self.net.parameters(), None)
        return x_t.dtype if parameter is None else parameter.dtype
