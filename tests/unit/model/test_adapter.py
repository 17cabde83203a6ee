"""Low-rank adapters against the two products of their definition, at the start, merged and trained."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sde_gen.checkpoint.matching import load_matching
from sde_gen.model.adapter import LoRA, NoAdapter, merge, merged
from tests.helpers.catalogue import make


def small() -> nn.Module:
    torch.manual_seed(0)
    return make("model", "ncsnpp", shape=(1, 8, 8), width=8, blocks=1)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 1, 8, 8, generator=generator), torch.randn(3, generator=generator)


def randomize(net: nn.Module, seed: int = 2) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return net


@pytest.mark.long
@pytest.mark.parametrize("name", ["ncsnpp", "adm", "hdit", "ho", "kunet", "mlp"])
@pytest.mark.parametrize("rank", [1, 4])
def test_output_is_unchanged_at_the_start(name: str, rank: int) -> None:
    shape = (3,) if name == "mlp" else (1, 16, 16)
    net = make("model", name, shape=shape).eval()
    randomize(net)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0.1, 0.7])
    expected = net(x, label)
    adapted = LoRA(rank=rank)(copy.deepcopy(net))
    assert torch.equal(adapted(x, label), expected)
    additions = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert additions
    assert all(name.rpartition(".")[2] in ("a", "b") for name in additions)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 5), (4, 6)),
        (nn.Conv1d(3, 5, 3, padding=1), (2, 3, 9)),
        (nn.Conv2d(3, 5, 3, stride=2, bias=False), (2, 3, 9, 8)),
    ],
)
def test_is_the_sum_of_two_layers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """W x + (alpha / r) B (A x), the two products one after the other (Hu et al., 2021, eq. 3)."""
    x = torch.randn(shape, dtype=torch.float64)
    layer = layer.double()
    net = LoRA(rank=2, alpha=3.0)(nn.Sequential(copy.deepcopy(layer)))
    added = net[0].parametrizations.weight[0]
    randomize(added)
    if isinstance(layer, nn.Linear):
        beside = F.linear(F.linear(x, added.a), added.b)
    else:
        first = copy.deepcopy(layer)
        first.weight.data = added.a.reshape(2, *layer.weight.shape[1:])
        first.bias = None
        kernel = (1,) * (layer.weight.ndim - 2)
        beside = (F.conv1d if layer.weight.ndim == 3 else F.conv2d)(first(x), added.b.reshape(5, 2, *kernel))
    torch.testing.assert_close(net(x), layer(x) + 1.5 * beside, rtol=1e-12, atol=1e-12)


def test_only_updates_and_trainable_parameters_are_trained() -> None:
    net = LoRA(rank=2, targets=("down_blocks.*",), trainable=("stem.*",))(small())
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if name.startswith("stem")} == {"stem.weight", "stem.bias"}
    assert {name.partition(".")[0] for name in trained} == {"down_blocks", "stem"}
    assert all(".parametrizations.weight.0." in name for name in trained if name.startswith("down"))
    randomize(net)
    (net(*batch()) ** 2).sum().backward()
    assert {name for name, parameter in net.named_parameters() if parameter.grad is not None} == trained


def test_updates_are_drawn_in_the_order_of_the_layers() -> None:
    """Not in that of a set, which differs from process to process."""
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(12)))
    torch.manual_seed(7)
    LoRA(rank=2)(net)
    torch.manual_seed(7)
    for layer in net:
        assert torch.equal(layer.parametrizations.weight[0].a, torch.randn(2, 3) / 3**0.5)


@pytest.mark.parametrize("autocast", [False, True])
def test_merged_is_the_same_network(autocast: bool) -> None:
    net = randomize(LoRA(rank=3, alpha=2.0)(small()))
    plain = merge(copy.deepcopy(net))
    assert set(plain.state_dict()) == set(small().state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(plain(*batch()), net(*batch()))
    stored = merged(net.state_dict())
    assert all(torch.equal(stored[name][()], value) for name, value in plain.state_dict().items())


def test_plain_weights_load_into_an_adapted_network_and_back() -> None:
    original = randomize(small(), seed=5)
    ours = LoRA(rank=2)(small())
    found = load_matching(ours, original.state_dict(), what="there")
    assert set(found.taken) == set(original.state_dict())
    assert not found.left_over
    assert all(name.rpartition(".")[2] in ("a", "b", "scale") for name in found.new)
    assert torch.equal(ours(*batch()), original(*batch()))
    randomize(ours, seed=6)
    back = small()
    load_matching(back, ours.state_dict(), what="there")
    assert torch.equal(back(*batch()), ours(*batch()))


def test_no_adapter_returns_the_network_unchanged() -> None:
    net = small()
    assert NoAdapter()(net) is net
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha=0"),
        ({"alpha": float("inf")}, "alpha=inf"),
        ({"targets": ("nothing.*",)}, r"nothing\.\* names no linear or convolution"),
        ({"trainable": ("nothing.*",)}, r"nothing\.\* names no parameter"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LoRA(**settings)(small())
