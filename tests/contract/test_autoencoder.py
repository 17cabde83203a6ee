"""Contract of all autoencoders: shapes, live parameters, independence within the batch, terms of the bound."""

import math

import pytest
import torch

from sde_gen.cli.build import networks
from sde_gen.model import Autoencoder, DiscreteAutoencoder, KLAutoencoder, LatentPosterior, VQAutoencoder
from tests.helpers.catalogue import make

SMALL = {"shape": (2, 8, 12), "channels": [8, 16], "attention_levels": [0]}
MODELS = networks(Autoencoder)


def build(name, **overrides):
    """A network whose parameters all have a value, those of the zero start too."""
    net = make("model", name, **{**SMALL, **overrides}).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net.eval()


def batch(net, count=3):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, *net.shape, generator=generator, dtype=torch.float64),
        torch.randn(count, *net.noise, generator=generator, dtype=torch.float64),
    )


def test_there_are_three():
    assert sorted(MODELS) == ["discrete_autoencoder", "kl_autoencoder", "vq_autoencoder"]


@pytest.mark.parametrize("name", MODELS)
def test_shapes(name):
    net = build(name)
    x, noise = batch(net)
    out, posterior = net(x, noise), net.encode(x)
    assert out.mean.shape == net.decode(posterior.mean).shape == x.shape
    assert posterior.mean.shape == posterior.std.shape == (3, *net.latent)
    assert net.latent[1:] == (4, 6)
    assert out.log_scale.expand(x.shape[1:]).shape == x.shape[1:]
    assert out.rate.shape == out.penalty.shape == (3,)
    assert bool((out.rate >= 0).all())
    wider = torch.cat([x, x], 3)  # any number of pixels that can be halved
    assert net.decode(net.encode(wider).mean).shape == wider.shape


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    net = build(name).train()
    out = net(*batch(net))
    (out.mean**2 + out.log_scale).sum().add(out.rate.sum() + out.penalty.sum()).backward()
    for key, parameter in net.named_parameters():
        if not key.endswith("key.bias"):  # adds the same to all weights of a softmax
            assert parameter.grad is not None, key
            assert float(parameter.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_see_its_batch(name):
    net = build(name)
    x, noise = batch(net)
    together, alone = net(x, noise), net(x[1:2], noise[1:2])
    for a, b in ((together.mean, alone.mean), (together.rate, alone.rate), (together.penalty, alone.penalty)):
        torch.testing.assert_close(a[1:2], b)


@pytest.mark.parametrize("name", MODELS)
def test_state_returns(name):
    first, second = build(name), build(name, **SMALL)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*batch(first)).mean, second(*batch(first)).mean)


@pytest.mark.parametrize("name", MODELS)
def test_refuses_the_impossible(name):
    for bad, words in (
        ({"shape": (2, 7, 8)}, "multiples of 2"),
        ({"shape": (2,)}, "takes images"),
        ({"attention_levels": [5]}, "levels 0 to 1"),
        ({"blocks": 0}, "at least one block"),
        ({"channels": []}, "positive channels"),
    ):
        with pytest.raises(Exception, match=words):
            build(name, **bad)
    for bad in ({"latent_shift": [0.0]}, {"latent_scale": [0.0] * 4}):
        if name != "discrete_autoencoder":
            with pytest.raises(Exception, match="for each of the 4 channels"):
                build(name, **bad)


def test_posterior_is_the_normal_distribution_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    mean, std, eps = torch.randn(3, 5, 2, 3, 3, generator=generator, dtype=torch.float64).unbind()
    posterior = LatentPosterior(mean, std.exp())
    expected = torch.distributions.Normal(mean, std.exp())
    z = posterior.sample(eps)
    torch.testing.assert_close(posterior.log_prob(z), expected.log_prob(z).flatten(1).sum(1))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(expected, standard).flatten(1).sum(1)
    torch.testing.assert_close(posterior.kl(), kl)


def test_kl_autoencoder_decodes_a_draw_of_its_posterior():
    net: KLAutoencoder = build("kl_autoencoder")
    x, noise = batch(net)
    posterior, out = net.encode(x), net(x, noise)
    torch.testing.assert_close(out.mean, net.decode(posterior.mean + posterior.std * noise))
    assert not torch.allclose(out.mean, net.decode(posterior.mean))
    torch.testing.assert_close(out.rate, posterior.kl())


def test_codebook_takes_the_nearest_vector_and_passes_gradients_straight_through():
    net: VQAutoencoder = build("vq_autoencoder", codes=5)
    x, noise = batch(net)
    z = net.encode(x).mean
    k = net.nearest(z)
    for b, i, j in ((0, 0, 0), (1, 2, 3), (2, 3, 5)):
        distances = [float((z[b, :, i, j] - vector).detach().norm()) for vector in net.codebook.weight]
        assert distances.index(min(distances)) == int(k[b, i, j])
        assert torch.equal(net.quantize(z)[b, :, i, j], net.codebook.weight[k[b, i, j]])
    out = net(x, noise)
    torch.testing.assert_close(out.mean, net.decode(z))
    torch.testing.assert_close(out.rate, torch.full((3,), 24 * math.log(5), dtype=torch.float64))
    # the derivative of the reconstruction by z_e is that of the decoder at z_q
    vectors = net.quantize(z).detach().requires_grad_()
    (straight,) = torch.autograd.grad(net.decode_quantized(vectors).square().sum(), vectors)
    inputs = net.encode(x).mean.detach().requires_grad_()
    (found,) = torch.autograd.grad(
        net.decode_quantized(inputs + (net.quantize(inputs) - inputs).detach()).square().sum(), inputs
    )
    torch.testing.assert_close(found, straight)
    net.zero_grad()
    out.penalty.sum().backward()
    distance = (net.quantize(z) - z).square().sum()
    torch.testing.assert_close(out.penalty.sum(), (1 + 0.25) * distance)
    moved = net.codebook.weight.grad.clone()
    expected = torch.zeros_like(moved)
    residual = 2 * (net.quantize(z) - z).movedim(1, -1).reshape(-1, z.shape[1])
    expected.index_add_(0, k.flatten(), residual.detach())
    torch.testing.assert_close(moved, expected)  # the codebook has no commitment


def test_discrete_codes_have_their_probabilities():
    """Frequencies of the codes drawn in evaluation against the softmax: false alarms below 1e-5."""
    net: DiscreteAutoencoder = build("discrete_autoencoder", codes=4, code_channels=4)
    with torch.no_grad():
        net.codebook.weight.copy_(torch.eye(4))
    seen = []
    net.decode = lambda z: seen.append(z) or z  # type: ignore[method-assign]
    x, n = batch(net, 1)[0], 20_000
    noise = torch.randn(n, *net.noise, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    logs = net.log_probs(x)
    net.log_probs = lambda x: logs.expand(len(x), -1, -1, -1)  # type: ignore[method-assign]
    out = net(x.expand(n, -1, -1, -1), noise)
    (codes,) = seen
    p = logs.exp()[0]
    assert bool(((codes == 0) | (codes == 1)).all())
    error = (p * (1 - p) / n).sqrt()
    assert float(((codes.mean(0) - p) / error).abs().max()) < 5.5  # of 96 frequencies
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=p.movedim(0, -1)),
        torch.distributions.Categorical(probs=torch.full_like(p.movedim(0, -1), 0.25)),
    ).sum()
    torch.testing.assert_close(out.rate[0], expected)


def test_relaxed_codes_become_codes_as_the_temperature_falls():
    net: DiscreteAutoencoder = build("discrete_autoencoder", codes=4, temperature=1e-8)
    x, noise = batch(net)
    hard = net(x, noise).mean
    torch.testing.assert_close(net.train()(x, noise).mean, hard, rtol=1e-6, atol=1e-6)
    warm = build("discrete_autoencoder", codes=4, temperature=1.0).train()
    assert not torch.allclose(warm(x, noise).mean, hard, atol=1e-3)
