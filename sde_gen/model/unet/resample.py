"""Halving and doubling the resolution of feature maps."""

import abc
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Resampler(nn.Module, abc.ABC):
    """A parameter-free change of resolution by two: (B, C, H, W) to (B, C, H/2, W/2) and back."""

    @abc.abstractmethod
    def down(self, x: Tensor) -> Tensor:
        """Halve the resolution."""

    @abc.abstractmethod
    def up(self, x: Tensor) -> Tensor:
        """Double the resolution."""

    @abc.abstractmethod
    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A learned 3x3 convolution that halves."""

    @abc.abstractmethod
    def up_convolution(self, inputs: int, outputs: int) -> nn.Conv2d:
        """A learned 3x3 convolution that doubles."""


class Box(Resampler):
    """Averages of 2x2 blocks down, nearest neighbors up (Ho et al., 2020, arXiv:2006.11239)."""

    def down(self, x: Tensor) -> Tensor:
        """Average blocks of 2 x 2 pixels."""
        return F.avg_pool2d(x, 2)

    def up(self, x: Tensor) -> Tensor:
        """Repeat every pixel in a block of 2 x 2."""
        return F.interpolate(x, scale_factor=2, mode="nearest")

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A convolution of stride 2, padded at the right and at the bottom."""
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(inputs, outputs, 3, stride=2))

    def up_convolution(self, inputs: int, outputs: int) -> nn.Conv2d:
        """Repeat pixels, then a convolution."""
        return _RepeatedConvolution(self, inputs, outputs)


class CenteredBox(Box):
    """As :class:`Box`, halving convolutions padded on all sides (Nichol and Dhariwal, 2021, arXiv:2102.09672)."""

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A convolution of stride 2, padded on all sides."""
        return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


class FIR(Resampler):
    """A separable finite impulse response filter, without aliasing.

    Source: Karras et al., 2020, arXiv:1912.04958; its use in NCSN++: Song et al., 2021, arXiv:2011.13456,
    appendix H. Here as a grouped convolution, and as its transpose for doubling: no compiled operator.

    Two equal taps are the averages and repeated pixels of :class:`Box`; only their halving convolution is another one.

    Arguments:
        taps: the taps of the filter in one direction, an even number of them; normalized here.
        turned: whether a filter that is not its mirror image is turned round where it halves, so that doubling and
            halving are convolutions with it both, and not each the transpose of the other.
    """

    kernel: Tensor

    def __init__(self, taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0), *, turned: bool = False) -> None:
        super().__init__()
        if len(taps) < 2 or len(taps) % 2:
            raise ValueError(
                f"taps={list(taps)}: the filter needs an even number of taps, such as [1, 3, 3, 1]"
            )
        line = torch.tensor(taps, dtype=torch.float32)
        plane = torch.outer(line, line)
        self.register_buffer("kernel", (plane / plane.sum())[None, None], persistent=False)
        self.margin = len(taps) // 2 - 1
        self.turned = turned

    def down(self, x: Tensor) -> Tensor:
        """Filter and keep every second pixel."""
        return self._thin(x, stride=2, padding=self.margin)

    def up(self, x: Tensor) -> Tensor:
        """Insert zeros and filter, with four times the gain."""
        return self._grow(x, padding=self.margin)

    def smooth(self, x: Tensor) -> Tensor:
        """Filter at full resolution: (B, C, H, W) to (B, C, H + 1, W + 1)."""
        return self._thin(x, stride=1, padding=self.margin + 1)

    def spread(self, x: Tensor) -> Tensor:
        """Double with a border of one pixel, which the filter reaches: (B, C, H, W) to (B, C, 2 H + 2, 2 W + 2)."""
        if self.margin == 0:
            return F.pad(self.up(x), (1, 1, 1, 1))
        return self._grow(x, padding=self.margin - 1)

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """Filter at full resolution, then a convolution of stride 2."""
        return _FilteredConvolution(self, inputs, outputs)

    def up_convolution(self, inputs: int, outputs: int) -> nn.Conv2d:
        """Double, then a convolution that sees what the filter leaves beyond the border."""
        return _SpreadConvolution(self, inputs, outputs)

    def _thin(self, x: Tensor, *, stride: int, padding: int) -> Tensor:
        """Filter, with a border of ``padding`` pixels around the image, and keep every ``stride``-th pixel."""
        kernel = self.kernel.flip((2, 3)) if self.turned else self.kernel
        return self._filter(F.conv2d, x, kernel, stride=stride, padding=padding)

    def _grow(self, x: Tensor, *, padding: int) -> Tensor:
        """Insert zeros and filter, without the ``padding`` outermost pixels of what the filter reaches."""
        return self._filter(F.conv_transpose2d, x, 4.0 * self.kernel, stride=2, padding=padding)

    def _filter(
        self, convolve: Callable[..., Tensor], x: Tensor, kernel: Tensor, *, stride: int, padding: int
    ) -> Tensor:
        """Filter in float32 or finer, under autocast too: PyTorch's bfloat16 kernels for this are ten times slower."""
        dtype, channels = torch.promote_types(x.dtype, torch.float32), x.shape[1]
        weight = kernel.to(dtype).expand(channels, *kernel.shape[1:])
        with torch.autocast(x.device.type, enabled=False):
            out = convolve(x.to(dtype), weight, stride=stride, padding=padding, groups=channels)
        return out.to(x.dtype)


class MirroredFIR(FIR):
    """As :class:`FIR`, of an image that goes on beyond its border as in a mirror, not as zeros (k-diffusion 0.1.1).

    Sides must be longer than half the filter.
    """

    def spread(self, x: Tensor) -> Tensor:
        """Double with a border of one pixel, the mirror's: (B, C, H, W) to (B, C, 2 H + 2, 2 W + 2)."""
        return self._grow(x, padding=self.margin - 1)

    def _thin(self, x: Tensor, *, stride: int, padding: int) -> Tensor:
        return super()._thin(_mirrored(x, padding), stride=stride, padding=0)

    def _grow(self, x: Tensor, *, padding: int) -> Tensor:
        border = self.margin // 2 + 1
        return super()._grow(_mirrored(x, border), padding=padding + 2 * border)


def _mirrored(x: Tensor, border: int) -> Tensor:
    return F.pad(x, (border, border, border, border), mode="reflect")


class _FilteredConvolution(nn.Module):
    def __init__(self, fir: FIR, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fir = fir
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.fir.smooth(x))
        return out


class _RepeatedConvolution(nn.Conv2d):
    def __init__(self, box: Box, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.box = box

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.box.up(input))


class _SpreadConvolution(nn.Conv2d):
    def __init__(self, fir: FIR, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)
        self.fir = fir

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self.fir.spread(input))
