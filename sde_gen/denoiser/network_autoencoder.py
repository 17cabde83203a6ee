"""An autoencoder network in training."""

from torch import Tensor, nn

from sde_gen.model.autoencoder.base import Autoencoder
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked


class NetworkAutoencoder(nn.Module, Checked):
    """An autoencoder network, with a process for the log of its training.

    Arguments:
        net: the network, a :class:`~sde_gen.model.Autoencoder`.
        sde: process of the log; an autoencoder adds no noise, and its errors count at the process's last time.
    """

    def __init__(self, *, net: Autoencoder, sde: SDE) -> None:
        super().__init__()
        self.net = net
        self.sde = sde

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Reconstruct data in model space from the mean of their latents; no time matters, but a denoiser has one."""
        del t
        out: Tensor = self.net.decode(self.net.encode(x).mean)
        return out
