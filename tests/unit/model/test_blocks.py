"""The parts of the networks: input features, quiet blocks, stride, dropout and forward-mode derivatives."""

import pytest
import torch

from sde_gen.model import MLP, DDPMpp, NCSNpp
from sde_gen.model.embedding import InputFeatures, LearnedEmbedding
from sde_gen.model.norms import FixedGroupsExceptMiddle, norm
from sde_gen.model.unet.blocks import AttentionBlock, Dropout, ResBlock
from sde_gen.model.unet.resample import FIR, Box, MirroredFIR
from tests.contract.test_model import build


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def randomized(net):
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return net.double().eval()


@pytest.mark.parametrize("n", [0, 3, 7])
def test_input_features_are_waves_of_their_frequency(n):
    """One wave is 2^(1 - n) long: shifted by it nothing changes, by half of it the sign, by a quarter sin is cos."""
    features, x, wave = InputFeatures([n]), draw(2, 3, 4, 4), 2.0 ** (1 - n)
    image, sin, cos = features(x).chunk(3, dim=1)
    assert torch.equal(image, x)
    _, sin_whole, cos_whole = features(x + wave).chunk(3, dim=1)
    _, sin_half, _ = features(x + wave / 2).chunk(3, dim=1)
    _, sin_quarter, _ = features(x + wave / 4).chunk(3, dim=1)
    torch.testing.assert_close((sin_whole, cos_whole, sin_half), (sin, cos, -sin), rtol=0, atol=1e-11)
    torch.testing.assert_close(sin_quarter, cos, rtol=0, atol=1e-11)
    torch.testing.assert_close(sin**2 + cos**2, torch.ones_like(x))


def test_input_features_show_a_gray_level_to_a_bfloat16_network():
    """Near 1 bfloat16 takes 1 - 2^-10 for 1; with the features the network's answer differs."""
    answers = {}
    for frequencies in ((), (7, 8)):
        net = randomized(DDPMpp(shape=(1, 8, 8), width=8, input_frequencies=frequencies)).float()
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            one = net(torch.ones(1, 1, 8, 8), torch.zeros(1))
            other = net(torch.full((1, 1, 8, 8), 1 - 2.0**-10), torch.zeros(1))
        answers[frequencies] = bool((one != other).any())
    assert answers == {(): False, (7, 8): True}


def test_learned_features_are_those_of_the_step_and_lines_between():
    features = LearnedEmbedding(4, steps=3).double()
    rows = features.rows.weight
    found = features(torch.tensor([0.0, 2.0, 0.25, 1.5, -3.0, 9.0], dtype=torch.float64))
    expected = [
        rows[0],
        rows[2],
        0.75 * rows[0] + 0.25 * rows[1],
        0.5 * rows[1] + 0.5 * rows[2],
        rows[0],
        rows[2],
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    with pytest.raises(ValueError, match="steps=0"):
        LearnedEmbedding(4, steps=0)


def test_the_middle_may_have_groups_of_its_own_or_none():
    x = draw(2, 8, 4, 4)
    assert torch.equal(FixedGroupsExceptMiddle(groups=4).middle(8)(x), x)
    own = FixedGroupsExceptMiddle(groups=4, middle_groups=1, eps=1e-9)
    normal = own.middle(8).double()(x).flatten(1)
    torch.testing.assert_close(normal.mean(1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(normal.var(1, unbiased=False), torch.ones(2, dtype=torch.float64))
    assert own.attention(8).num_groups == own.block(8).num_groups == 4
    with pytest.raises(ValueError, match="middle_groups=0"):
        FixedGroupsExceptMiddle(middle_groups=0)


def test_blocks_start_as_their_skip():
    x, embedding = draw(2, 8, 4, 4), draw(2, 16)
    block = ResBlock(8, 8, embedding=16, dropout=0.0, scale=0.5).double()
    torch.testing.assert_close(block(x, embedding), x / 2)
    torch.testing.assert_close(AttentionBlock(8, scale=0.5).double()(x), x / 2)


def test_box_convolution_starts_at_the_first_pixel():
    """A kernel of its first tap alone keeps every second pixel from the first: padding is right and below."""
    down = Box().down_convolution(1, 1).double()
    (_, weight), (_, bias) = down.named_parameters()
    weight.data.zero_()
    weight.data[..., 0, 0] = 1
    bias.data.zero_()
    x = draw(2, 1, 8, 8)
    assert torch.equal(down(x), x[..., ::2, ::2])


@pytest.mark.parametrize("taps", [[1, 3], [1, 3, 3, 1], [-1, 2, 5, 5, 1, -1]], ids=str)
def test_a_mirrored_filter_sees_the_image_in_a_mirror(taps):
    """The filter equals that of an image padded by reflection, with its border cropped."""
    x, plain, mirrored = draw(2, 3, 8, 8), FIR(taps), MirroredFIR(taps)
    order = [4, 3, 2, 1, *range(8), 6, 5, 4, 3]
    large = x[:, :, order][:, :, :, order]
    for found, whole, cut in (
        (mirrored.down(x), plain.down(large), 2),
        (mirrored.up(x), plain.up(large), 8),
        (mirrored.smooth(x), plain.smooth(large), 4),
        (mirrored.spread(x), plain.up(large), 7),
    ):
        torch.testing.assert_close(found, whole[..., cut:-cut, cut:-cut])
        assert not found.allclose(0 * found)


def test_mlp_blocks_add_to_their_input():
    """Blocks that give zero leave a network that sees the vector and not the noise label."""
    net = randomized(MLP(shape=(3,), width=16))
    for layer in net.outer:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x, c_noise = draw(4, 3), draw(4)
    assert torch.equal(net(x, c_noise), net(x, c_noise + 1))
    assert (net(x + 1, c_noise) - net(x, c_noise)).abs().min() > 1e-6


@pytest.mark.parametrize("name", ["ncsnpp", "ddpmpp", "kunet", "hdit"])
def test_forward_and_batched_reverse_derivatives(name):
    net, x, c_noise = randomized(build(name)), draw(2, 1, 8, 8), draw(2)

    def call(y):
        return net(y, c_noise)

    v = draw(3, *x.shape)
    _, forward = torch.func.jvp(call, (x,), (v[0],))
    _, pullback = torch.func.vjp(call, x)
    batched = torch.vmap(lambda w: pullback(w)[0])(v)
    leaf = x.clone().requires_grad_()
    out = call(leaf)
    for one, found in zip(v, batched, strict=True):
        torch.testing.assert_close(found, torch.autograd.grad(out, leaf, one, retain_graph=True)[0])
    # <w, J v> = <J^T w, v>
    torch.testing.assert_close((v[1] * forward).sum(), (batched[1] * v[0]).sum())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_repeats_with_its_seed_and_keeps_the_layout(layout):
    x = torch.ones(4, 16, 6, 6).contiguous(memory_format=layout)
    dropout, out = Dropout(0.5).train(), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        out.append(dropout(x))
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])
    assert out[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_dropout_draws_every_element_apart(dim):
    """Neighbors agree as often as chance says, along every axis: five standard errors of 131072 pairs."""
    torch.manual_seed(0)
    keep = Dropout(0.5).train()(torch.ones(64, 32, 8, 8).contiguous(memory_format=torch.channels_last)) > 0
    agree = (keep == keep.roll(1, dim)).double()
    assert abs(float(agree.mean()) - 0.5) < 5 * 0.5 / agree.numel() ** 0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_normalization_keeps_the_layout_and_pytorchs_answer(layout, dtype):
    """The oracle is PyTorch's own kernel in float64; two roundings to bfloat16 are 2^-8 of values up to 4."""
    x = draw(4, 16, 6, 6).to(dtype).contiguous(memory_format=layout)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    cotangent = draw(4, 16, 6, 6).to(dtype)
    out, exact = norm(16).to(dtype)(leaf), torch.nn.functional.group_norm(wide, 4, eps=1e-6)
    out.backward(cotangent)
    exact.backward(cotangent.double())
    assert out.is_contiguous(memory_format=layout)
    tolerance = 2.0**-6 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance)
    torch.testing.assert_close(leaf.grad.double(), wide.grad, rtol=0, atol=2 * tolerance)


@pytest.mark.parametrize("build", [NCSNpp, DDPMpp])
def test_layouts_give_one_function_under_bfloat16(build):
    """Same weights and images in channels_last order, and batched pullbacks of it: equal to bfloat16's rounding."""
    net, x, c_noise = randomized(build(shape=(1, 8, 8), width=8)).float(), draw(2, 1, 8, 8).float(), draw(2)
    c_noise = c_noise.float()
    exact = net(x, c_noise)
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        near, pullback = torch.func.vjp(lambda z: net(z, c_noise), x)
        batched = torch.vmap(lambda w: pullback(w)[0])(torch.stack([near, -near]))
    assert (near.float() - exact).norm() < 0.1 * exact.norm()
    torch.testing.assert_close(batched[0], -batched[1])


@pytest.mark.parametrize("change", ["down", "up", "smooth"])
def test_filter_is_exact_under_autocast(change):
    """Of integers in bfloat16 the filter's sums need more digits than bfloat16 has: the answer is rounded once."""
    x = torch.randint(-128, 128, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    exact = getattr(FIR().double(), change)(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = getattr(FIR(), change)(x.bfloat16())
    assert torch.equal(found, exact.bfloat16())
    assert not torch.equal(found.double(), exact)
