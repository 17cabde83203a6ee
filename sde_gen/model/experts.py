"""Two networks, each for some of the noise levels."""

import torch
from torch import Tensor, nn


class NoiseExperts(nn.Module):
    """A network for noise labels below a boundary, such as the last steps of a chain, and one for all others.

    Source: Balaji et al., 2022, arXiv:2211.01324, section 4.1 (expert denoisers).

    Arguments:
        net: network of the labels from the boundary on.
        last: network of the labels below it.
        boundary: the boundary, in units of the noise label.
    """

    def __init__(self, *, net: nn.Module, last: nn.Module, boundary: float) -> None:
        super().__init__()
        self.net, self.last, self.boundary = net, last, boundary

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        """Apply to every sample the network of its noise label, both only where a batch has labels of both."""
        below = c_noise < self.boundary
        if bool(below.all()):
            out: Tensor = self.last(x, c_noise, **cond)
            return out
        if not bool(below.any()):
            out = self.net(x, c_noise, **cond)
            return out
        rows = below.view(-1, *[1] * (x.ndim - 1))
        return torch.where(rows, self.last(x, c_noise, **cond), self.net(x, c_noise, **cond))
