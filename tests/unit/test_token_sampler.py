"""Sampling of codes against the probabilities of all sequences."""

import pytest
import torch
from scipy.stats import chisquare

from sde_gen.denoiser import AutoregressiveModel
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.sde import VP
from sde_gen.solver.callbacks import NFECounter, Progress
from sde_gen.token_sampler import TokenSampler
from tests.unit.model.test_token_transformer import TEXT, network, sequences, texts

SHAPE = (1, 1, 3)
COUNT = 8_000


@pytest.fixture(scope="module")
def model():
    return AutoregressiveModel(net=network(SHAPE), sde=VP())


def frequencies(x):
    return torch.bincount((x.flatten(1) * torch.tensor([9, 3, 1])).sum(1), minlength=27)


def enumerated(model, temperature=1.0, top_k=3):
    """Probabilities of all 27 sequences, from the conditionals of a table, code by code."""
    every, total = sequences(count=3), torch.ones(27, dtype=torch.float64)
    logs = model(every.view(-1, *SHAPE))
    for i in range(3):
        weight = logs[:, i].exp() ** (1 / temperature)
        weight = weight * (weight >= weight.sort(1, descending=True).values[:, top_k - 1 : top_k])
        total *= (weight / weight.sum(1, keepdim=True))[torch.arange(27), every[:, i]]
    return total


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.6, None), (1.5, 2)])
def test_frequencies_are_the_probabilities(model, temperature, top_k):
    """A chi-square test whose false-alarm rate is 1e-6."""
    sampler = TokenSampler(temperature=temperature, top_k=top_k)
    found = frequencies(sampler(model, (COUNT, *SHAPE), noise=IID.seeded(0)))
    expected = enumerated(model, temperature, top_k or 3)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-12)
    possible = expected > 0
    assert int(found[~possible].sum()) == 0
    assert chisquare(found[possible], COUNT * expected[possible]).pvalue > 1e-6
    other = enumerated(model, 1.0 if temperature != 1 else 0.6)
    assert chisquare(found, COUNT * other).pvalue < 1e-6  # the test can fail


def test_a_temperature_of_zero_is_the_likeliest_code_and_the_limit(model):
    cold, zero = (
        TokenSampler(temperature=t)(model, (50, *SHAPE), noise=IID.seeded(1)) for t in (1e-300, 0.0)
    )
    assert torch.equal(cold, zero)
    for i in range(3):
        likeliest = model(zero)[:, i].argmax(1)
        assert torch.equal(zero.flatten(1)[:, i], likeliest)
    assert torch.equal(
        TokenSampler(top_k=1)(model, (50, *SHAPE), noise=IID.seeded(2)), zero
    )  # whatever is drawn


def test_all_codes_in_top_k_change_no_bit(model):
    every = [TokenSampler(top_k=k)(model, (500, *SHAPE), noise=IID.seeded(3)) for k in (None, 3, 100)]
    assert torch.equal(every[0], every[1])
    assert torch.equal(every[0], every[2])


def test_stored_keys_and_values_draw_the_same_samples():
    net = network((1, 3, 3), 5, inputs=TEXT)
    model = AutoregressiveModel(net=net, sde=VP()).bind(tokens=texts(200))
    steps = []
    with NFECounter(net) as counter:
        samples = [
            TokenSampler(cached=cached)(
                model,
                (200, 1, 3, 3),
                noise=PerSample(spawn_seeds(0, 200)),
                hooks=[Progress(lambda *done: steps.append(done))],
            )
            for cached in (True, False)
        ]
    assert torch.equal(*samples)  # a difference of rounding moves a code with a chance of 1e-12
    assert counter.calls == 18
    assert steps == [(i + 1, 9) for i in range(9)] * 2


def test_a_sample_does_not_depend_on_its_batch(model):
    seeds = spawn_seeds(0, 10)
    whole = TokenSampler()(model, (10, *SHAPE), noise=PerSample(seeds))
    assert torch.equal(TokenSampler()(model, (3, *SHAPE), noise=PerSample(seeds[4:7])), whole[4:7])


def test_known_codes_are_kept_and_the_others_follow_from_them(model):
    known = torch.tensor([[2, 1]]).expand(COUNT, -1)
    x = TokenSampler()(model, (COUNT, *SHAPE), noise=IID.seeded(4), known=known).flatten(1)
    assert torch.equal(x[:, :2], known)
    joint = enumerated(model).view(3, 3, 3)[2, 1]
    assert chisquare(torch.bincount(x[:, 2], minlength=3), COUNT * joint / joint.sum()).pvalue > 1e-6


def test_mistakes(model):
    for settings, words in (({"temperature": -1.0}, "from 0 on"), ({"top_k": 0}, "at least 1")):
        with pytest.raises(ValueError, match=words):
            TokenSampler(**settings)
    with pytest.raises(ValueError, match="number of samples"):
        TokenSampler()(model, (2, 3), noise=IID.seeded(0))
    with pytest.raises(ValueError, match="leave some"):
        TokenSampler()(model, (2, *SHAPE), noise=IID.seeded(0), known=torch.zeros(2, 3, dtype=torch.int64))
    broken = AutoregressiveModel(net=network(SHAPE), sde=VP())
    with torch.no_grad():
        broken.net.start[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"samples \[0, 1\] are not finite"):
        TokenSampler()(broken, (2, *SHAPE), noise=IID.seeded(0))
