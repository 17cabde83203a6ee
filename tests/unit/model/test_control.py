"""Controlled U-Nets: untrained they are their base, hints are scaled one by one, and the base stays as it is."""

import copy

import pytest
import torch
from torch import Tensor

from sde_gen.model import Conditions, Controlled, UNetCross

SHAPE = (1, 8, 8)


def base() -> UNetCross:
    torch.manual_seed(0)
    inputs = Conditions(vocabulary=5, length=3, image=2)
    net = UNetCross(shape=SHAPE, width=8, head_channels=8, num_classes=3, inputs=inputs)
    for weight in net.parameters():
        weight.data = 0.3 * torch.randn(weight.shape)
    return net


def trained(net: Controlled) -> Controlled:
    """Give every weight a value, the zeros of the start too."""
    for weight in net.parameters():
        weight.data = 0.2 * torch.randn(weight.shape)
    return net.eval()


def batch() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)
    given = {
        "label": torch.tensor([0, 2, 3]),
        "tokens": torch.tensor([[1, 2, 0], [3, 0, 0], [4, 4, 1]]),
        "image": torch.randn(3, 2, 8, 8),
    }
    return torch.randn(3, *SHAPE), torch.randn(3), given


def hint(scale: float = 1.0, channels: int = 1) -> Tensor:
    torch.manual_seed(2)
    return torch.cat([torch.rand(3, channels, 8, 8), torch.full((3, 1, 8, 8), scale)], 1)


@pytest.mark.parametrize("given", [True, False])
def test_an_untrained_control_is_its_base_to_the_bit(given: bool) -> None:
    net = base()
    controlled = Controlled(base=net, run="base", hint=1)
    x, c_noise, cond = batch()
    cond = cond if given else {}
    assert torch.equal(controlled(x, c_noise, control=hint(), **cond), net(x, c_noise, **cond))


def test_a_hint_of_scale_zero_and_none_are_the_base_to_the_bit() -> None:
    net = base()
    controlled = trained(Controlled(base=net, run="base", hint=1))
    x, c_noise, cond = batch()
    expected = net(x, c_noise, **cond)
    assert torch.equal(controlled(x, c_noise, **cond), expected)
    mixed = torch.cat([hint(0.0)[:1], hint()[1:]])
    out = controlled(x, c_noise, control=mixed, **cond)
    assert torch.equal(out[0], expected[0])
    assert ((out - expected)[1:].flatten(1).norm(dim=1) > 1e-3).all()


def test_only_the_branch_is_trained_and_stored() -> None:
    net = base()
    before = copy.deepcopy(net.state_dict())
    controlled = Controlled(base=net, run="base", hint=1)
    assert all(name.startswith("branches.0.") for name in controlled.state_dict())
    trained(controlled)
    x, c_noise, cond = batch()
    controlled.train()
    (controlled(x, c_noise, control=hint(), **cond) ** 2).sum().backward()
    dead = [name for name, weight in controlled.named_parameters() if weight.grad is None]
    assert not dead
    assert all(weight.grad is None for weight in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert copy.deepcopy(controlled).base is net  # as an average of the weights copies it
    assert controlled.double().base.out.weight.dtype == torch.float64


def test_hints_act_each_with_its_own_scale() -> None:
    net = base()
    first, second = (trained(Controlled(base=net, run="base", hint=channels)) for channels in (1, 2))
    both = copy.deepcopy(first)
    both.extend(second)
    x, c_noise, cond = batch()
    one, two = hint(), hint(channels=2)

    def out(a: float, b: float, **more: Tensor) -> Tensor:
        like = torch.ones_like(one[:, :1])
        planes = torch.cat([one[:, :1], two[:, :2], a * like, b * like], 1)
        result: Tensor = both(x, c_noise, control=planes, **cond, **more)
        return result

    assert torch.equal(out(1, 0), first(x, c_noise, control=one, **cond))
    assert torch.equal(out(0, 1), second(x, c_noise, control=two, **cond))
    assert (out(1, 1) - out(1, 0)).abs().max() > 1e-3
    assert torch.equal(out(1, 1, control_ramp=torch.ones(3)), out(1, 1))
    assert (out(1, 1, control_ramp=torch.full((3,), 0.1)) - out(1, 1)).abs().max() > 1e-3


def test_networks_without_encoder_are_refused() -> None:
    with pytest.raises(
        ValueError, match="Linear of base cannot be controlled; expected a network of model=unet_cross"
    ):
        Controlled(base=torch.nn.Linear(1, 1), run="base", hint=1)
    with pytest.raises(ValueError, match="widths="):
        Controlled(base=base(), run="base", hint=1, widths=())
