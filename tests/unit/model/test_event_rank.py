"""Networks of sequences, images and volumes: one definition for every number of axes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sde_gen.model import (
    ADM,
    Conditions,
    DDPMpp,
    DDPMUNet,
    DiT,
    HDiT,
    JoinedInput,
    KDiffusionUNet,
    MMDiT,
    NCSNpp,
    QuarterGroups,
    ResidualInput,
    ResidualOutput,
    SkipInput,
    SkipOutput,
    SongUNet,
    UNetCross,
)
from sde_gen.model.adm.level_resample import ConvResample, PlainResample
from sde_gen.model.unet.resample import FIR, Box, CenteredBox, MirroredFIR

UNET = {"width": 8, "blocks": 1}
NETWORKS = {
    "unet_cross": (UNetCross, {"width": 8, "head_channels": 8}),
    "dit": (DiT, {"width": 24, "depth": 1, "heads": 2}),
    "mmdit": (MMDiT, {"width": 24, "depth": 1, "heads": 2}),
    "ddpmpp": (DDPMpp, UNET),
    "ncsnpp": (NCSNpp, UNET),
    "song_unet": (SongUNet, UNET | {"augmentations": 2}),
    "song_unet_filtered": (SongUNet, UNET | {"resampler": FIR()}),
    "adm": (ADM, UNET | {"head_channels": 4}),
    "adm_added": (
        ADM,
        UNET | {"modulated": False, "change": PlainResample(), "heads": 2, "norms": QuarterGroups()},
    ),
    "ho": (DDPMUNet, UNET),
    "ho_centered": (DDPMUNet, UNET | {"resampler": CenteredBox(), "head_channels": 4}),
}
TWO = {"taps": (1.0, 1.0)}
"""A filter whose border of zeros does not reach the rows that a network sees."""
BLIND = {
    **{name: NETWORKS[name] for name in NETWORKS if name not in ("dit", "mmdit", "ncsnpp", "song_unet_filtered")},
    "ncsnpp": (NCSNpp, UNET | TWO),
    "ncsnpp_skip": (NCSNpp, UNET | TWO | {"progressive_input": SkipInput(), "progressive_output": SkipOutput}),
    "ncsnpp_joined": (NCSNpp, UNET | TWO | {"progressive_input": JoinedInput()}),
    "song_unet_residual": (
        SongUNet,
        UNET
        | {
            "resampler": Box(),
            "progressive_input": ResidualInput(),
            "progressive_output": ResidualOutput,
            "input_frequencies": (1,),
        },
    ),
    "ho_filtered": (DDPMUNet, UNET | {"resampler": FIR((1.0, 1.0)), "change": ConvResample()}),
}  # fmt: skip


def built(network: tuple[type[nn.Module], dict], shape: tuple[int, ...]) -> nn.Module:
    """A network with texts and images as conditions and random weights in float64."""
    kind, settings = network
    torch.manual_seed(0)
    inputs = Conditions(vocabulary=5, length=3, image=1)
    net = kind(shape=shape, inputs=inputs, **settings).double().eval()
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return net


@pytest.mark.long
@pytest.mark.parametrize("shape", [(2, 8), (3, 4, 8), (2, 4, 4, 8)])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_of_an_event_of_any_rank_matters(name, shape) -> None:
    net, tokens = built(NETWORKS[name], shape), torch.tensor([[2, 3, 0], [4, 0, 0]])
    x = torch.randn(2, *shape).double().requires_grad_()
    out = net(x, torch.zeros(2).double(), tokens=tokens)
    assert out.shape == x.shape
    (out**2).sum().backward()
    assert x.grad.all()
    assert not torch.allclose(net(x, torch.zeros(2).double(), tokens=tokens.flip(0)), out)


def along_one_more(kernel: Tensor) -> Tensor:
    """A kernel along some axes as one along one more, at the front, of which it sees one row."""
    sides = kernel.shape[2:]
    kernel = kernel.unsqueeze(2)
    return kernel if set(sides) == {1} else nn.functional.pad(kernel, (0, 0) * len(sides) + (1, 1))


@pytest.mark.long
@pytest.mark.parametrize("shape", [(2, 8), (2, 4, 8)])
@pytest.mark.parametrize("name", BLIND)
def test_an_event_is_one_of_constant_rows_along_one_axis_more(name, shape) -> None:
    """With kernels that see one row, a network of one axis more gives every row what the other gives the event."""
    small, large = built(BLIND[name], shape), built(BLIND[name], (shape[0], 4, *shape[1:]))
    state, kernels = large.state_dict(), {id(part.weight) for part in small.modules() if is_convolution(part)}
    parameters = dict(small.named_parameters())
    for key, value in small.state_dict().items():
        state[key] = along_one_more(value) if id(parameters.get(key)) in kernels else value
    large.load_state_dict(state)
    x, image = torch.randn(3, *shape).double(), torch.randn(3, 1, *shape[1:]).double()
    c, tokens = torch.randn(3).double(), torch.tensor([[2, 3, 0], [4, 0, 0], [0, 0, 0]])

    def rows(event: Tensor) -> Tensor:
        return event.unsqueeze(2).expand(-1, -1, 4, *[-1] * (event.ndim - 2))

    found = large(rows(x), c, tokens=tokens, image=rows(image))
    expected = rows(small(x, c, tokens=tokens, image=image))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def is_convolution(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d)


@pytest.mark.parametrize("kind", [FIR, MirroredFIR])
@pytest.mark.parametrize("turned", [False, True])
def test_a_filter_is_that_of_one_axis_along_each_in_turn(kind, turned) -> None:
    taps = (1.0, 2.0, 5.0, 0.5)
    line, volume = kind(taps, turned=turned, rank=1), kind(taps, turned=turned, rank=3)
    x = torch.randn(2, 3, 6, 4, 8).double()
    for change in ("down", "up", "spread"):
        expected = x
        for axis in (2, 3, 4):
            moved = expected.movedim(axis, -1)
            changed = getattr(line, change)(moved.reshape(-1, 1, moved.shape[-1]))
            expected = changed.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
        torch.testing.assert_close(getattr(volume, change)(x), expected, rtol=1e-5, atol=1e-5)


def test_a_filter_along_one_axis() -> None:
    """A filter along an axis equals NumPy's convolution."""
    taps, x = np.array([1.0, 2.0, 5.0, 0.5]), np.random.default_rng(0).standard_normal(8)
    line = FIR(tuple(taps)).along(1)
    h, row = taps / taps.sum(), torch.from_numpy(x)[None, None]
    down = np.correlate(np.pad(x, 1), h, "valid")[::2]
    np.testing.assert_allclose(line.down(row)[0, 0].numpy(), down, atol=1e-6)
    zeros = np.zeros(16)
    zeros[::2] = x
    up = 2 * np.convolve(zeros, h)[1:17]
    np.testing.assert_allclose(line.up(row)[0, 0].numpy(), up, atol=1e-6)


def test_a_rank_that_is_none() -> None:
    for kind in (UNetCross, NCSNpp, DDPMpp, SongUNet, ADM, DDPMUNet):
        with pytest.raises(ValueError, match="others of one to three axes; for vectors use model=mlp"):
            kind(shape=(3,))
        with pytest.raises(ValueError, match="events of one to three axes after the channels"):
            kind(shape=(1, 2, 2, 2, 2))
    with pytest.raises(
        ValueError, match=r"images of 6 do not halve 2 times: .* multiples of 4, such as 4 or 8"
    ):
        UNetCross(shape=(1, 6), multipliers=(1, 1, 1))


def test_networks_of_images_alone_name_another() -> None:
    for kind in (KDiffusionUNet, HDiT):
        for shape in ((1, 8), (1, 4, 8, 8)):
            with pytest.raises(
                ValueError, match=r"images \(C, H, W\) alone; use model=unet_cross or another"
            ):
                kind(shape=shape)
        with pytest.raises(ValueError, match=r"images \(C, H, W\) alone; use model=mlp"):
            kind(shape=(3,))
