"""Halving and doubling the resolution of feature maps."""

import abc
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.unet.axes import AVERAGES, CONVOLVE, KINDS, PADS, TRANSPOSE, Convolution


class Resampler(nn.Module, abc.ABC):
    """A parameter-free change of resolution by two: (B, C, *sides) to (B, C, *sides / 2) and back.

    Arguments:
        rank: number of axes: 1, 2 or 3.
    """

    def __init__(self, *, rank: int = 2) -> None:
        super().__init__()
        self.rank = rank

    @abc.abstractmethod
    def along(self, rank: int) -> "Resampler":
        """Return the change of resolution along ``rank`` axes."""

    @abc.abstractmethod
    def down(self, x: Tensor) -> Tensor:
        """Halve the resolution."""

    @abc.abstractmethod
    def up(self, x: Tensor) -> Tensor:
        """Double the resolution."""

    @abc.abstractmethod
    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A learned convolution of size 3 that halves."""

    @abc.abstractmethod
    def up_convolution(self, inputs: int, outputs: int) -> Convolution:
        """A learned convolution of size 3 that doubles."""


class Box(Resampler):
    """Averages of blocks of two down, nearest neighbors up (Ho et al., 2020, arXiv:2006.11239)."""

    def along(self, rank: int) -> "Box":
        """Return the same along ``rank`` axes."""
        return self if rank == self.rank else type(self)(rank=rank)

    def down(self, x: Tensor) -> Tensor:
        """Average blocks of two pixels along every axis."""
        return AVERAGES[self.rank - 1](x, 2)

    def up(self, x: Tensor) -> Tensor:
        """Repeat every pixel in a block of two along every axis."""
        return F.interpolate(x, scale_factor=2, mode="nearest")

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A convolution of stride 2, padded at the end of every axis."""
        return nn.Sequential(
            PADS[self.rank - 1]((0, 1) * self.rank), KINDS[self.rank - 1](inputs, outputs, 3, stride=2)
        )

    def up_convolution(self, inputs: int, outputs: int) -> Convolution:
        """Repeat pixels, then a convolution."""
        layer: Any = REPEATED[self.rank - 1](inputs, outputs, 3, padding=1)
        layer.box = self
        built: Convolution = layer
        return built


class CenteredBox(Box):
    """As :class:`Box`, halving convolutions padded on all sides (Nichol and Dhariwal, 2021, arXiv:2102.09672)."""

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """A convolution of stride 2, padded on all sides."""
        return KINDS[self.rank - 1](inputs, outputs, 3, stride=2, padding=1)


class FIR(Resampler):
    """A separable finite impulse response filter, without aliasing.

    Source: Karras et al., 2020, arXiv:1912.04958; its use in NCSN++: Song et al., 2021, arXiv:2011.13456,
    appendix H. Here as a grouped convolution, and as its transpose for doubling: no compiled operator.

    Two equal taps are the averages and repeated pixels of :class:`Box`; only their halving convolution is another one.

    Arguments:
        taps: the taps of the filter in one direction, an even number of them; normalized here.
        turned: whether a filter that is not its mirror image is turned round where it halves, so that doubling and
            halving are convolutions with it both, and not each the transpose of the other.
        rank: number of axes: 1, 2 or 3.
    """

    kernel: Tensor

    def __init__(
        self, taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0), *, turned: bool = False, rank: int = 2
    ) -> None:
        super().__init__(rank=rank)
        if len(taps) < 2 or len(taps) % 2:
            raise ValueError(
                f"taps={list(taps)}: the filter needs an even number of taps, such as [1, 3, 3, 1]"
            )
        line = torch.tensor(taps, dtype=torch.float32)
        kernel = reduce(lambda outer, axis: outer.unsqueeze(-1) * axis, [line] * rank)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)
        self.taps = tuple(taps)
        self.margin = len(taps) // 2 - 1
        self.turned = turned

    def along(self, rank: int) -> "FIR":
        """Return the filter along ``rank`` axes."""
        return self if rank == self.rank else type(self)(self.taps, turned=self.turned, rank=rank)

    def down(self, x: Tensor) -> Tensor:
        """Filter and keep every second pixel."""
        return self._thin(x, stride=2, padding=self.margin)

    def up(self, x: Tensor) -> Tensor:
        """Insert zeros and filter, with twice the gain along every axis."""
        return self._grow(x, padding=self.margin)

    def smooth(self, x: Tensor) -> Tensor:
        """Filter at full resolution: (B, C, *sides) to (B, C, *sides + 1)."""
        return self._thin(x, stride=1, padding=self.margin + 1)

    def spread(self, x: Tensor) -> Tensor:
        """Double with a border of one pixel, which the filter reaches: (B, C, *sides) to (B, C, *2 sides + 2)."""
        if self.margin == 0:
            return F.pad(self.up(x), (1, 1) * self.rank)
        return self._grow(x, padding=self.margin - 1)

    def down_convolution(self, inputs: int, outputs: int) -> nn.Module:
        """Filter at full resolution, then a convolution of stride 2."""
        return _FilteredConvolution(self, inputs, outputs)

    def up_convolution(self, inputs: int, outputs: int) -> Convolution:
        """Double, then a convolution that sees what the filter leaves beyond the border."""
        layer: Any = SPREAD[self.rank - 1](inputs, outputs, 3)
        layer.fir = self
        built: Convolution = layer
        return built

    def _thin(self, x: Tensor, *, stride: int, padding: int) -> Tensor:
        """Filter, with a border of ``padding`` pixels around the image, and keep every ``stride``-th pixel."""
        kernel = self.kernel.flip(tuple(range(2, 2 + self.rank))) if self.turned else self.kernel
        return self._filter(CONVOLVE[self.rank - 1], x, kernel, stride=stride, padding=padding)

    def _grow(self, x: Tensor, *, padding: int) -> Tensor:
        """Insert zeros and filter, without the ``padding`` outermost pixels of what the filter reaches."""
        kernel = 2.0**self.rank * self.kernel
        return self._filter(TRANSPOSE[self.rank - 1], x, kernel, stride=2, padding=padding)

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
        """Double with a border of one pixel, the mirror's: (B, C, *sides) to (B, C, *2 sides + 2)."""
        return self._grow(x, padding=self.margin - 1)

    def _thin(self, x: Tensor, *, stride: int, padding: int) -> Tensor:
        return super()._thin(_mirrored(x, padding), stride=stride, padding=0)

    def _grow(self, x: Tensor, *, padding: int) -> Tensor:
        border = self.margin // 2 + 1
        return super()._grow(_mirrored(x, border), padding=padding + 2 * border)


def _mirrored(x: Tensor, border: int) -> Tensor:
    return F.pad(x, (border, border) * (x.ndim - 2), mode="reflect")


class _FilteredConvolution(nn.Module):
    def __init__(self, fir: FIR, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fir = fir
        self.conv = KINDS[fir.rank - 1](inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.fir.smooth(x))
        return out


class _Repeated(nn.Module):
    """A convolution of repeated pixels."""

    box: Box

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(self.box.up(input))
        return out


class _Repeated1d(_Repeated, nn.Conv1d):
    pass


class _Repeated2d(_Repeated, nn.Conv2d):
    pass


class _Repeated3d(_Repeated, nn.Conv3d):
    pass


class _Spread(nn.Module):
    """A convolution of what the filter makes of doubled pixels."""

    fir: FIR

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(self.fir.spread(input))
        return out


class _Spread1d(_Spread, nn.Conv1d):
    pass


class _Spread2d(_Spread, nn.Conv2d):
    pass


class _Spread3d(_Spread, nn.Conv3d):
    pass


REPEATED: tuple[Any, ...] = (_Repeated1d, _Repeated2d, _Repeated3d)
SPREAD: tuple[Any, ...] = (_Spread1d, _Spread2d, _Spread3d)
