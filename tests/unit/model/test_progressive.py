"""Every way for the image to enter and leave the levels: no dead parameter, images of the right size, exact filters."""

import itertools

import pytest
import torch

from sde_gen.model import NCSNpp
from sde_gen.model.adm.level_resample import ConvResample, PlainResample, ResBlockResample
from sde_gen.model.embedding import Fourier, Positional
from sde_gen.model.unet.base import UNet
from sde_gen.model.unet.blocks import AttentionBlock
from sde_gen.model.unet.progressive import (
    JoinedInput,
    NoInput,
    NoOutput,
    ResidualInput,
    ResidualOutput,
    SkipInput,
    SkipOutput,
)
from sde_gen.model.unet.resample import FIR, Box

WAYS = list(
    itertools.product(
        (NoInput, ResidualInput, SkipInput, JoinedInput), (NoOutput, ResidualOutput, SkipOutput)
    )
)


@pytest.mark.parametrize(("enter", "leave"), WAYS, ids=lambda way: way.__name__)
def test_every_parameter_has_an_effect(enter, leave):
    generator = torch.Generator().manual_seed(0)
    net = NCSNpp(
        shape=(2, 8, 8), width=8, multipliers=(1, 2, 1), progressive_input=enter(), progressive_output=leave
    )
    net = net.double()
    x, c_noise = torch.randn(2, 2, 8, 8, generator=generator).double(), torch.tensor([0.3, -1.0]).double()
    assert not net(x, c_noise).any()
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).double() * 0.2
    out = net(x, c_noise)
    assert out.shape == x.shape
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    silent = [name for name, parameter in net.named_parameters() if not parameter.grad.abs().max() > 0]
    # a softmax does not see what is added to all keys of a query alike
    assert all(name.endswith("key.bias") for name in silent)


@pytest.mark.parametrize("resampler", [FIR(), Box(), FIR((1.0, 1.0))], ids=["FIR", "Box", "FIR2"])
@pytest.mark.parametrize(
    "change", [ResBlockResample(), ConvResample(), PlainResample()], ids=lambda c: str(c)
)
def test_every_change_of_resolution_keeps_every_parameter_alive(change, resampler):
    generator = torch.Generator().manual_seed(0)
    net = UNet(
        shape=(2, 8, 8),
        width=8,
        multipliers=(1, 2, 1),
        blocks=1,
        attention_levels=(),
        dropout=0.0,
        num_classes=0,
        input_frequencies=(),
        embedding=Positional(8),
        resampler=resampler,
        progressive_input=JoinedInput(),
        progressive_output=ResidualOutput,
        change=change,
        scale=1.0,
        embedding_multiplier=2,
    )
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    out = net(torch.randn(2, 2, 8, 8, generator=generator), torch.tensor([0.3, -1.0]))
    assert out.shape == (2, 2, 8, 8)
    assert net.embed[2].out_features == 16
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    silent = [name for name, parameter in net.named_parameters() if not parameter.grad.abs().max() > 0]
    assert all(name.endswith("key.bias") for name in silent)


@pytest.mark.parametrize("taps", [(1.0, 3.0, 3.0, 1.0), (1.0, 1.0), (1.0, 2.0, 4.0, 4.0, 2.0, 1.0)], ids=len)
def test_filtered_convolutions_see_past_the_border(taps):
    """Filter and convolution of an image in a wide frame of zeros, one after the other, are the same inside it."""
    fir, x = FIR(taps).double(), torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    wide = torch.nn.functional.pad(x, (16,) * 4)
    up = fir.up_convolution(2, 3).double()
    expected = torch.nn.functional.conv2d(fir.up(wide), up.weight, up.bias, padding=1)
    torch.testing.assert_close(up(x), expected[..., 32:48, 32:48], rtol=1e-12, atol=1e-12)
    down = fir.down_convolution(2, 3).double()
    conv = down.conv  # filters commute
    expected = fir.down(torch.nn.functional.conv2d(wide, conv.weight, padding=1)) + conv.bias.view(-1, 1, 1)
    torch.testing.assert_close(down(x), expected[..., 8:12, 8:12], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("resampler", [FIR(), Box()], ids=lambda r: type(r).__name__)
def test_resampling_keeps_constants_and_linear_ramps(resampler):
    """Inside the image the filters reproduce constants; the FIR filters reproduce ramps at the pixels' centers too."""
    ones = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(resampler.down(ones)[..., 1:-1, 1:-1], torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(resampler.up(ones)[..., 1:-1, 1:-1], torch.ones(1, 3, 14, 14))
    centers = (torch.arange(8) + 0.5).expand(1, 1, 8, 8)
    fine = (torch.arange(16) + 0.5).expand(1, 1, 16, 16) / 2
    torch.testing.assert_close(
        resampler.down(centers)[..., 1:-1, 1:-1], torch.tensor([3.0, 5.0]).expand(1, 1, 2, 2)
    )
    if isinstance(resampler, FIR):
        torch.testing.assert_close(resampler.up(centers)[..., 1:-1, 1:-1], fine[..., 1:-1, 1:-1])


def test_box_convolution_starts_at_the_first_pixel():
    down = Box().down_convolution(1, 1)
    conv = down[-1]
    conv.weight.data = torch.zeros(1, 1, 3, 3)
    conv.weight.data[0, 0, 0, 0] = 1
    x = torch.randn(1, 1, 6, 6)
    torch.testing.assert_close(down(x), x[..., ::2, ::2] + conv.bias)


def test_attention_is_that_of_torch():
    """With more channels than pixels, and one head."""
    torch.manual_seed(0)
    layer = AttentionBlock(16, scale=1.0).double()
    for parameter in layer.parameters():
        parameter.data.normal_()
    x = torch.randn(2, 16, 3, 2).double()
    h = layer.norm(x)
    query, key, value = (part(h).flatten(2).mT for part in (layer.query, layer.key, layer.value))
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value).mT.reshape(x.shape)
    torch.testing.assert_close(layer(x), x + layer.out(mixed))


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_fourier_frequencies_have_their_scale(scale):
    """Six standard errors of the standard deviation of 10,000 numbers; sin and cos share their angles."""
    layer = Fourier(10_000, scale)
    assert float(layer.frequencies.std()) == pytest.approx(scale, rel=6 / 20_000**0.5)
    sine, cosine = layer(torch.tensor([0.3])).chunk(2, dim=1)
    torch.testing.assert_close(sine**2 + cosine**2, torch.ones(1, 10_000))
    torch.testing.assert_close(
        sine[0], torch.exp(2j * torch.pi * 0.3 * layer.frequencies).imag, atol=1e-4, rtol=0
    )


def test_two_equal_taps_are_a_box():
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(FIR((1.0, 1.0)).down(x), Box().down(x))
    torch.testing.assert_close(FIR((1.0, 1.0)).up(x), Box().up(x))


def test_filter_needs_an_even_number_of_taps():
    with pytest.raises(ValueError, match="even number of taps"):
        FIR((1.0, 2.0, 1.0))
