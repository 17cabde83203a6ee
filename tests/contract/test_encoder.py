"""Contract of all encoders: logits of single samples, a use for every parameter."""

import pytest
import torch

from sde_gen.cli.build import networks
from sde_gen.model.classifier.base import ClassifierNetwork
from tests.helpers.catalogue import make

VECTORS = "vector_encoder"
"""The encoder of vectors; the others are of images."""
IMAGES = [name for name in networks(ClassifierNetwork) if name != VECTORS]


def build(name: str, **overrides):
    torch.manual_seed(0)
    shape = [2] if name == VECTORS else [2, 8, 8]
    net = make("model", name, **{"shape": shape, "num_classes": 5, "width": 8, **overrides}).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # some begin at zero, and would hide what comes before them
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return net


def batch(name: str, n: int = 3):
    generator, sides = torch.Generator().manual_seed(0), () if name == VECTORS else (8, 8)
    return torch.randn(n, 2, *sides, generator=generator), torch.linspace(-1, 1, n)


@pytest.mark.parametrize("name", networks(ClassifierNetwork))
def test_gives_a_logit_per_class_sample_by_sample(name: str) -> None:
    net, (x, c) = build(name), batch(name)
    together = net(x, c).detach()
    assert together.shape == (3, 5)
    alone = torch.cat([net(x[i : i + 1], c[i : i + 1]).detach() for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert float((net(x, c + 1).detach() - together).abs().max()) > 1e-6, "the noise label must be heard"


@pytest.mark.parametrize("name", networks(ClassifierNetwork))
def test_every_parameter_matters(name: str) -> None:
    net, (x, c) = build(name), batch(name)
    net(x, c).square().sum().backward()
    for key, parameter in net.named_parameters():
        if not key.endswith("key.bias"):  # adds the same to all weights of a softmax
            assert parameter.grad is not None, key
            assert float(parameter.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", IMAGES)
def test_refuses_the_impossible(name: str) -> None:
    for bad, words in [
        ({"num_classes": 1}, "at least two classes"),
        ({"shape": [2, 7, 8]}, "multiples of 2"),
        ({"attention_levels": [5]}, "attention_levels"),
    ]:
        with pytest.raises(Exception, match=words):
            build(name, **bad)


def test_encoder_of_vectors_refuses_the_impossible() -> None:
    for bad, words in [
        ({"num_classes": 1}, "at least two classes"),
        ({"shape": [2, 8, 8]}, "takes vectors"),
        ({"depth": 0}, "expected at least 1"),
    ]:
        with pytest.raises(Exception, match=words):
            build(VECTORS, **bad)
