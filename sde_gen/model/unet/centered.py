"""Networks that center the data themselves."""

from torch import Tensor, nn


class CenteredInput(nn.Module):
    """A network for data on [0, 1] by way of one for data on [-1, 1]: ``net(2 x - 1)``.

    Arguments:
        net: the network that sees the centered data.
    """

    def __init__(self, *, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        """Apply the network to 2 x - 1."""
        out: Tensor = self.net(2 * x - 1, c_noise, **cond)
        return out
