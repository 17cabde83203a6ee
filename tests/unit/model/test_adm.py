"""ADM: what its settings do, and that likelihoods have gradients through its attention."""

import pytest
import torch

from sde_gen.model import ADM, ADMEncoder
from sde_gen.model.adm.blocks import HeadedAttention
from sde_gen.model.classifier.pooling import AttentionPooling, AveragePooling, NormalizedMultiScalePooling
from sde_gen.model.embedding import CosinePositional


@pytest.mark.parametrize(("channels", "most", "heads"), [(64, 64, 1), (128, 64, 2), (96, 64, 2), (8, 3, 4)])
def test_heads_have_at_most_so_many_channels(channels: int, most: int, heads: int) -> None:
    assert HeadedAttention(channels, most).heads == heads


def test_heads_attend_by_themselves() -> None:
    """Two heads are two attentions over half of the channels each: torch's own module says the same."""
    torch.manual_seed(0)
    ours = HeadedAttention(8, 4).double()
    for parameter in ours.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64) * 0.5
    original = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    original.in_proj_weight.data, original.in_proj_bias.data = ours.qkv.weight[:, :, 0, 0], ours.qkv.bias
    original.out_proj.weight.data, original.out_proj.bias.data = ours.out.weight[:, :, 0, 0], ours.out.bias
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    tokens = ours.norm(x).flatten(2).transpose(1, 2)
    expected = x + original(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(ours(x), expected, rtol=1e-10, atol=1e-12)


def test_a_network_is_twice_differentiable() -> None:
    """As maximum likelihood needs it."""
    net = ADM(shape=(1, 4, 4), width=8, blocks=1).double()
    for parameter in net.parameters():
        parameter.data.normal_(std=0.3)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x, torch.ones(2).double()).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert net.middle[0].attention.qkv.weight.grad is not None
    assert bool(net.middle[0].attention.qkv.weight.grad.isfinite().all())


def test_second_outputs_are_of_every_channel() -> None:
    assert ADM(shape=(3, 8, 8), width=8, blocks=1, outputs=2)(
        torch.zeros(1, 3, 8, 8), torch.ones(1)
    ).shape == (
        1,
        6,
        8,
        8,
    )
    for wrong in ({"outputs": 0}, {"head_channels": 0}, {"heads": 0}, {"up_heads": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            ADM(shape=(3, 8, 8), **wrong)


def test_changes_of_resolution_are_one_for_each_pair_of_levels() -> None:
    for wrong in ({"down_changes": [None, None]}, {"up_changes": []}):
        with pytest.raises(ValueError, match=r"expected one for each pair of neighboring levels: 1"):
            ADM(shape=(3, 8, 8), width=8, **wrong)


def test_heads_that_do_not_share_the_channels_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match="heads=3"):
        ADM(shape=(3, 8, 8), width=8, heads=3)


def test_label_features_begin_with_cosines() -> None:
    features = CosinePositional(6)(torch.tensor([0.0, 1.0]).double())
    frequencies = torch.logspace(0, -4, 4, dtype=torch.float64)[:3]
    torch.testing.assert_close(features[0], torch.tensor([1.0, 1, 1, 0, 0, 0]).double())
    torch.testing.assert_close(features[1], torch.cat([frequencies.cos(), frequencies.sin()]))
    with pytest.raises(ValueError, match="even"):
        CosinePositional(5)


def test_levels_may_have_a_fraction_of_the_width_in_whole_channels() -> None:
    net = ADM(shape=(1, 8, 8), width=16, multipliers=(0.5, 1), blocks=1)
    assert [stage.block.conv_in.out_channels for stage in net.down] == [8, 8, 16]
    assert net.stem.out_channels == 8
    with pytest.raises(ValueError, match="whole numbers"):
        ADM(shape=(1, 8, 8), width=16, multipliers=(0.3, 1))


def test_zeros_are_no_augmentation() -> None:
    x, c_noise = torch.randn(2, 1, 4, 4).double(), torch.ones(2).double()
    net = ADM(shape=(1, 4, 4), width=8, blocks=1, augmentations=3).double()
    for parameter in net.parameters():
        parameter.data.normal_(std=0.3)
    silent = net(x, c_noise)
    assert torch.equal(net(x, c_noise, augment=torch.zeros(2, 3)), silent)
    cond = net(x, c_noise, augment=torch.ones(2, 3))
    assert float((cond - silent).detach().abs().min()) > 1e-6
    with pytest.raises(ValueError, match="without augmentations"):
        ADM(shape=(1, 4, 4), width=8)(x, c_noise, augment=torch.zeros(2, 3))
    for wrong in ({"augmentations": -1}, {"embedding_multiplier": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ADM(shape=(1, 4, 4), width=8, **wrong)


def test_pools_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="head_channels=0"):
        AttentionPooling(head_channels=0)
    with pytest.raises(ValueError, match="hidden=0"):
        NormalizedMultiScalePooling(hidden=0)
    with pytest.raises(ValueError, match="cannot be shared evenly"):
        ADMEncoder(
            shape=(1, 8, 8),
            num_classes=2,
            width=16,
            multipliers=(1, 3),
            pool=AttentionPooling(head_channels=32),
        )


def test_an_untrained_average_takes_all_classes_for_alike() -> None:
    net = ADMEncoder(shape=(1, 8, 8), num_classes=3, width=8, blocks=1, pool=AveragePooling())
    assert not net(torch.randn(2, 1, 8, 8), torch.ones(2)).any()
