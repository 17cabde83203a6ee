"""Networks of sequences, images and volumes: one definition for every number of axes."""

import pytest
import torch
from torch import Tensor, nn

from sde_gen.model import Conditions, DiT, MMDiT, UNetCross

KINDS = {"unet_cross": UNetCross, "dit": DiT, "mmdit": MMDiT}
SMALL = {
    "unet_cross": {"width": 8, "head_channels": 8},
    "dit": {"width": 24, "depth": 1, "heads": 2},
    "mmdit": {"width": 24, "depth": 1, "heads": 2},
}


def built(name: str, shape: tuple[int, ...]) -> nn.Module:
    """A network with texts and random weights in float64."""
    torch.manual_seed(0)
    net = KINDS[name](shape=shape, inputs=Conditions(vocabulary=5, length=3), **SMALL[name]).double().eval()
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("shape", [(2, 8), (3, 4, 8), (2, 4, 4, 8)])
@pytest.mark.parametrize("name", KINDS)
def test_every_number_of_an_event_of_any_rank_matters(name, shape) -> None:
    net, tokens = built(name, shape), torch.tensor([[2, 3, 0], [4, 0, 0]])
    x = torch.randn(2, *shape).double().requires_grad_()
    out = net(x, torch.zeros(2).double(), tokens=tokens)
    assert out.shape == x.shape
    (out**2).sum().backward()
    assert x.grad.all()
    assert not torch.allclose(net(x, torch.zeros(2).double(), tokens=tokens.flip(0)), out)


def flat(weight: Tensor) -> Tensor:
    """A kernel along one axis as one along two that sees one row."""
    return weight if weight.shape[2] == 1 else nn.functional.pad(weight[:, :, None], (0, 0, 1, 1))


def test_a_sequence_is_an_image_of_constant_rows() -> None:
    """With kernels that see one row, a network of images gives every row what that of sequences gives the sequence."""
    one, two = built("unet_cross", (2, 8)), built("unet_cross", (2, 4, 8))
    state = two.state_dict()
    for name, value in one.state_dict().items():
        kernel = value.ndim == 3
        state[name] = (value[:, :, None] if value.shape[2:] == (1,) else flat(value)) if kernel else value
    two.load_state_dict(state)
    x, c = torch.randn(3, 2, 8).double(), torch.randn(3).double()
    tokens = torch.tensor([[2, 3, 0], [4, 0, 0], [0, 0, 0]])
    rows = two(x[:, :, None].expand(-1, -1, 4, -1), c, tokens=tokens)
    expected = one(x, c, tokens=tokens)[:, :, None].expand_as(rows)
    torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-9)


def test_a_rank_that_is_none() -> None:
    for shape in ((3,), (1, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match="others of one to three axes; for vectors use model=mlp"):
            UNetCross(shape=shape)
    with pytest.raises(
        ValueError, match=r"images of 6 do not halve 2 times: .* multiples of 4, such as 4 or 8"
    ):
        UNetCross(shape=(1, 6), multipliers=(1, 1, 1))
