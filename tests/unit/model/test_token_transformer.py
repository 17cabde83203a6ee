"""Transformer of codes: causality to the bit, probabilities that sum to one, conditions, stored keys and values."""

import math

import pytest
import torch

from sde_gen.denoiser import AutoregressiveModel
from sde_gen.model import Conditions, KeyValueCache, TokenTransformer
from sde_gen.noise import IID
from sde_gen.objective import TokenCrossEntropy
from sde_gen.sde import VP

TEXT = Conditions(vocabulary=7, length=3)


def network(shape=(1, 2, 2), codes=3, **settings):
    """A network whose parameters all have a value, those of the zero start too."""
    torch.manual_seed(0)
    net = TokenTransformer(shape=shape, codes=codes, width=16, depth=2, heads=2, **settings).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net.eval().requires_grad_(False)


def sequences(codes=3, count=4):
    return torch.cartesian_prod(*[torch.arange(codes)] * count)


def texts(rows):
    return torch.tensor([[2, 5, 0], [1, 1, 1], [0, 0, 0]])[torch.arange(rows) % 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_code_changes_only_the_logits_after_it(dtype):
    net, x = network((1, 3, 4), 5, inputs=TEXT).to(dtype), torch.randint(5, (6, 12))
    before = net(x, tokens=texts(6))
    for j in range(12):
        other = x.clone()
        other[:, j] = (other[:, j] + 1) % 5
        after = net(other, tokens=texts(6))
        assert torch.equal(before[:, : j + 1], after[:, : j + 1])
        assert j == 11 or bool((before[:, j + 1 :] != after[:, j + 1 :]).any(2).all())


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 1, 4)])
def test_probabilities_of_all_sequences_sum_to_one(shape):
    model, every = AutoregressiveModel(net=network(shape, inputs=TEXT), sde=VP()), sequences()
    logs = []
    for text in range(3):
        tokens = texts(3)[text].expand(len(every), -1)
        logs.append(model.log_prob(every.view(-1, *shape), tokens=tokens))
        assert float(logs[-1].exp().sum()) == pytest.approx(1, abs=1e-12)
    assert float((logs[0] - logs[1]).abs().max()) > 0.1  # the text matters


def test_a_new_network_has_uniform_codes():
    net = TokenTransformer(shape=(1, 2, 3), codes=11, width=16, depth=2, heads=2)
    model, x = AutoregressiveModel(net=net, sde=VP()), torch.randint(11, (5, 1, 2, 3))
    loss = TokenCrossEntropy()(model, x, noise=IID.seeded(0))
    torch.testing.assert_close(loss.per_sample, torch.full((5,), math.log(11)))
    assert loss.error.shape == loss.t.shape == (5,)


def test_loss_is_the_mean_surprise_of_a_code():
    model, every = AutoregressiveModel(net=network(), sde=VP()), sequences()
    found = TokenCrossEntropy()(model, every.view(-1, 1, 2, 2), noise=IID.seeded(0))
    conditionals = []  # by marginalizing the joint, that is by other sums than the loss
    joint = model.log_prob(every.view(-1, 1, 2, 2)).exp().view(3, 3, 3, 3)
    for i in range(4):
        upper = joint.flatten(i + 1).sum(-1) if i < 3 else joint
        lower = joint.flatten(i).sum(-1)
        conditionals.append((upper / lower.unsqueeze(-1))[tuple(every[:, : i + 1].T)])
    expected = -torch.stack(conditionals).log().mean(0)
    torch.testing.assert_close(found.per_sample, expected, rtol=0, atol=1e-12)


def test_no_text_is_the_empty_text_and_no_label_the_null_class():
    net = network(inputs=TEXT, num_classes=4)
    x = sequences()
    empty = torch.zeros(len(x), 3, dtype=torch.int64)
    null = torch.full((len(x),), 4)
    assert torch.equal(net(x), net(x, tokens=empty, label=null))
    assert not torch.equal(net(x), net(x, label=torch.zeros_like(null)))


def test_padding_is_not_attended_to():
    net = network(inputs=TEXT)
    x, tokens = sequences(), texts(3)[:1].expand(81, -1)
    before = net(x, tokens=tokens)
    with torch.no_grad():
        net.text.weight[0] += 1
        net.text_places[2] += 1
    assert torch.equal(net(x, tokens=tokens), before)


@pytest.mark.parametrize("inputs", [Conditions(), TEXT])
def test_stored_keys_and_values_change_nothing_but_rounding(inputs):
    net, x = network((1, 3, 3), 5, inputs=inputs), torch.randint(5, (4, 9))
    cond = {"tokens": texts(4)} if inputs.text else {}
    whole, cache, parts = net(x, **cond), KeyValueCache(), []
    for given in (2, 3, 6, 7, 8):  # some codes at once, some alone
        parts.append(net(x[:, :given], cache=cache, **cond))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="give one more"):
        net(x[:, :8], cache=cache, **cond)


def test_dropout_and_gradients_reach_all_parameters():
    net = network(inputs=TEXT, num_classes=2, dropout=0.1).requires_grad_(True).train()
    net(sequences(), tokens=texts(81), label=torch.zeros(81, dtype=torch.int64)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shape": (3, 4, 4)}, r"grid \(1, h, w\)"),
        ({"heads": 3}, "heads that divide"),
        ({"codes": 1}, "at least two"),
        ({"inputs": Conditions(image=1)}, "text as tokens"),
    ],
)
def test_mistakes(settings, words):
    with pytest.raises(ValueError, match=words):
        TokenTransformer(**{"shape": (1, 4, 4), "codes": 3, **settings})


def test_a_condition_for_a_network_without():
    with pytest.raises(ValueError, match="conditioning=text"):
        network()(sequences(), tokens=texts(81))
    with pytest.raises(ValueError, match="conditioning=label"):
        network()(sequences(), label=torch.zeros(81, dtype=torch.int64))
