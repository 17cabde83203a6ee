"""Codes as model space: the bound against the exact likelihood, by a sum over all codes of a tiny autoencoder."""

import math

import pytest
import torch

from sde_gen.data.codec import Codes, TrainedAutoencoder, UniformCodec
from sde_gen.denoiser import AutoregressiveModel
from sde_gen.evaluation.metric import CodeBits
from sde_gen.model import DiscreteAutoencoder, KLAutoencoder, VQAutoencoder
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.sde import VP
from tests.unit.model.test_token_transformer import network, sequences

SMALL = {"shape": (1, 4, 4), "channels": (4, 8), "middle_attention": False, "codes": 3}
LEVELS = 5


def opened(kind, **settings):
    torch.manual_seed(0)
    net = kind(**{**SMALL, **settings}).double().eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        if kind is VQAutoencoder:
            net.codebook.weight.copy_(torch.randn_like(net.codebook.weight))
    return Codes(autoencoder=TrainedAutoencoder(net=net, codec=UniformCodec(levels=LEVELS)), run="runs/ae")


def images(count=4):
    return torch.randint(LEVELS, (count, 1, 4, 4), generator=torch.Generator().manual_seed(1))


def marginal(codec, model, values):
    """-log p(data) in nats, by the sum over all 3^4 codes; the decoder's probabilities from torch's distributions."""
    every, net = sequences().view(-1, 2, 2), codec.autoencoder.net
    place, scale = net.decode_codes(every), net.log_scale.exp()
    low, high = codec.autoencoder.codec.bins(codec.autoencoder.codec.encode(values))
    cdf = [torch.sigmoid((edge.unsqueeze(1) - place) / scale) for edge in (low, high)]
    likelihood = (cdf[1] - cdf[0]).log().flatten(2).sum(2)
    return -torch.logsumexp(likelihood + model.log_prob(every.unsqueeze(1)), dim=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", [DiscreteAutoencoder, VQAutoencoder])
def test_the_bound_lies_above_the_exact_marginal(kind):
    """By the divergence of q(k | x) from the exact posterior, in the mean over draws; six standard errors."""
    codec, values = opened(kind), images()
    model = AutoregressiveModel(net=network((1, 2, 2)), sde=VP())
    exact = marginal(codec, model, values) / 16 / math.log(2)
    draws = torch.stack([CodeBits()(model, values, codec, spawn_seeds(seed, 4)).value for seed in range(60)])
    bound, error = draws.mean(0), draws.std(0) / 60**0.5
    assert bool((bound + 6 * error > exact).all())
    logs = codec.autoencoder.net.log_probs(codec.autoencoder.codec.encode(values).double()).flatten(2)
    q = torch.stack([logs[:, row, place] for place, row in enumerate(sequences().T)], 0).sum(0)
    every, place = sequences().view(-1, 2, 2), codec.autoencoder.net.decode_codes(sequences().view(-1, 2, 2))
    prior = model.log_prob(every.unsqueeze(1))
    likelihood = torch.stack([codec.autoencoder.log_prob(v.expand(81, -1, -1, -1), place) for v in values])
    weight = q.exp()
    terms = torch.where(weight > 0, weight * (q - likelihood - prior), torch.zeros_like(q))
    mean = terms.sum(1) / 16 / math.log(2)  # of the bound over all codes
    assert bool(((bound - mean).abs() < 6 * error + 1e-12).all())
    assert bool((mean > exact).all())


def test_the_bound_of_the_exact_posterior_is_an_equality():
    """With q(k | x) the exact posterior every draw gives -log p(x): encoder and decoder ignore the data's codes."""
    codec, values = opened(DiscreteAutoencoder), images()
    net = codec.autoencoder.net
    model = AutoregressiveModel(net=network((1, 2, 2)), sde=VP())
    with torch.no_grad():
        net.codebook.weight.copy_(net.codebook.weight[:1].expand_as(net.codebook.weight))  # no code matters
        model.net.out.weight.zero_()  # uniform codes
        for parameter in net.encoder.parameters():
            parameter.zero_()
    found = CodeBits()(model, values, codec, spawn_seeds(0, 4)).value
    expected = marginal(codec, model, values) / 16 / math.log(2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)  # a difference of two sigmoids


def test_frequencies_of_drawn_codes_are_those_of_the_encoder():
    codec, values = opened(DiscreteAutoencoder), images(1).expand(4000, -1, -1, -1)
    k = codec.encode(values, IID.seeded(0))
    assert k.shape == (4000, 1, 2, 2)
    assert k.dtype == torch.int64
    q = codec.autoencoder.net.log_probs(codec.autoencoder.codec.encode(values[:1]).double()).exp()[0]
    share = torch.stack([(k[:, 0] == code).double().mean(0) for code in range(3)])
    error = (q * (1 - q) / 4000).sqrt()
    assert bool(((share - q).abs() < 6 * error).all())
    assert torch.equal(codec.encode(values[:1])[0, 0], q.argmax(0))


def test_vq_codes_are_the_nearest_vectors_whatever_the_noise():
    codec, values = opened(VQAutoencoder), images()
    net = codec.autoencoder.net
    z = net.encode(codec.autoencoder.codec.encode(values).double()).mean
    distance = (z.unsqueeze(1) - net.codebook.weight[None, :, :, None, None]).square().sum(2)
    k = codec.encode(values, PerSample(range(4)))
    assert torch.equal(k[:, 0], distance.argmin(1))
    torch.testing.assert_close(codec.decode_continuous(k), net.decode(z), rtol=0, atol=1e-12)
    terms = codec.bound(values, PerSample(range(4)))
    assert torch.equal(terms.log_q, torch.zeros(4, dtype=torch.float64))
    assert codec.event((1, 4, 4)) == (1, 2, 2)
    assert codec.decode(k).shape == codec.decode_image(k).shape == (4, 1, 4, 4)


def test_mistakes():
    with pytest.raises(ValueError, match=r"data have \(1, 8, 8\)"):
        opened(VQAutoencoder).event((1, 8, 8))
    net = KLAutoencoder(shape=(1, 4, 4), channels=(4, 8), middle_attention=False)
    with pytest.raises(ValueError, match="KLAutoencoder in runs/kl has no codes"):
        Codes(autoencoder=TrainedAutoencoder(net=net, codec=UniformCodec(levels=5)), run="runs/kl")
