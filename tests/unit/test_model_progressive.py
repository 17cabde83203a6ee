"""Every way for the image to enter and leave the levels: no dead parameter, images of the right size, exact filters."""

import itertools

import pytest
import torch

from sde_gen.model import NCSNpp
from sde_gen.model.pyramid import NoInput, NoOutput, ResidualInput, ResidualOutput, SkipInput, SkipOutput
from sde_gen.model.resample import FIR, Box

WAYS = list(itertools.product((NoInput, ResidualInput, SkipInput), (NoOutput, ResidualOutput, SkipOutput)))


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


@pytest.mark.parametrize("resampler", [FIR(), Box()], ids=lambda r: type(r).__name__)
def test_resampling_keeps_constants_and_linear_ramps(resampler):
    """Inside the image the filters reproduce constants; the FIR filters reproduce ramps at the pixels' centres too."""
    ones = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(resampler.down(ones)[..., 1:-1, 1:-1], torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(resampler.up(ones)[..., 1:-1, 1:-1], torch.ones(1, 3, 14, 14))
    centres = (torch.arange(8) + 0.5).expand(1, 1, 8, 8)
    fine = (torch.arange(16) + 0.5).expand(1, 1, 16, 16) / 2
    torch.testing.assert_close(
        resampler.down(centres)[..., 1:-1, 1:-1], torch.tensor([3.0, 5.0]).expand(1, 1, 2, 2)
    )
    if isinstance(resampler, FIR):
        torch.testing.assert_close(resampler.up(centres)[..., 1:-1, 1:-1], fine[..., 1:-1, 1:-1])


def test_filter_needs_four_taps():
    with pytest.raises(ValueError, match="four taps"):
        FIR((1.0, 2.0, 1.0))
