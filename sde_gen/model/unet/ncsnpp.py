"""U-Net of NCSN++ (score_sde)."""

from collections.abc import Sequence

from sde_gen.model.conditional import NO_CONDITIONS, Conditions
from sde_gen.model.embedding import Fourier
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.progressive import NoOutput, ProgressiveInput, ProgressiveOutput, ResidualInput
from sde_gen.model.unet.resample import FIR


class NCSNpp(UNet):
    """NCSN++: filtered resampling, random Fourier features of the noise label, a progressive input.

    Source: Song et al., 2021, arXiv:2011.13456, appendix H. Its CIFAR-10 network is width 128, multipliers
    (1, 2, 2, 2), 4 blocks, attention at level 1: 62.8 million parameters.

    Arguments:
        shape: event shape (C, *sides) of one to three axes; sides must be divisible by 2^(levels - 1).
        width: channels of the finest level.
        multipliers: channels of every level, fine to coarse, in units of width.
        blocks: residual blocks a level.
        attention_levels: levels with attention, 0 being the finest.
        dropout: dropout rate.
        num_classes: number of classes, 0 for none.
        input_frequencies: sin and cos of 2^n pi x are given to the network beside x, for these n.
        fourier_scale: standard deviation of the frequencies of the noise label.
        taps: taps of the resampling filter.
        progressive_input: how the image enters the coarser levels.
        progressive_output: class of how it leaves them.
        inputs: sizes of the conditions besides the class.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 32,
        multipliers: Sequence[float] = (1, 2),
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        dropout: float = 0.0,
        num_classes: int = 0,
        input_frequencies: Sequence[int] = (),
        fourier_scale: float = 16.0,
        taps: Sequence[float] = (1.0, 3.0, 3.0, 1.0),
        progressive_input: ProgressiveInput = ResidualInput(),  # noqa: B008 (frozen)
        progressive_output: type[ProgressiveOutput] = NoOutput,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__(
            shape=shape,
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            attention_levels=attention_levels,
            dropout=dropout,
            num_classes=num_classes,
            input_frequencies=input_frequencies,
            embedding=Fourier(width, fourier_scale),
            resampler=FIR(taps),
            progressive_input=progressive_input,
            progressive_output=progressive_output,
            inputs=inputs,
        )
