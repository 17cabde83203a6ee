"""The bound of an autoencoder against the exact likelihood of a linear Gaussian one, and its derivatives."""

import math

import pytest
import torch

from sde_gen.data.codec import Affine, UniformCodec
from sde_gen.denoiser import NetworkAutoencoder, NoisyClassifier
from sde_gen.denoiser.parametrization import Eps
from sde_gen.model import DiscreteAutoencoder, Gaussian, KLAutoencoder, Logistic, VQAutoencoder
from sde_gen.noise import IID, PerSample
from sde_gen.objective import Autoencoding, NoiseDraw
from sde_gen.sde import VP
from tests.helpers.linear_autoencoder import LinearAutoencoder, cubature


def data(count: int = 5, dim: int = 3) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def bound(net: LinearAutoencoder, x: torch.Tensor, **settings) -> torch.Tensor:
    """The expectation over the noise, by cubature: the loss is quadratic in it."""
    objective = Autoencoding(codec=Affine(), noise=net.noise, family=Gaussian(), **settings)
    model, t = NetworkAutoencoder(net=net, sde=VP()), torch.zeros(len(x), dtype=torch.float64)
    draws = [NoiseDraw(t, t, eps) for eps in cubature(len(x), net.latent[0])]
    return torch.stack([objective.loss(model, x, draw).per_sample for draw in draws]).mean(0)


def test_with_the_exact_posterior_the_bound_is_the_likelihood() -> None:
    net, x = LinearAutoencoder().exact(), data()
    torch.testing.assert_close(bound(net, x), -net.marginal().log_prob(x), rtol=1e-12, atol=1e-12)


def test_otherwise_it_is_larger_by_the_divergence_of_the_posteriors() -> None:
    net, x = LinearAutoencoder(), data()
    found, exact = net.encode(x), LinearAutoencoder().exact().encode(x)
    gap = torch.distributions.kl_divergence(
        torch.distributions.Normal(found.mean, found.std), torch.distributions.Normal(exact.mean, exact.std)
    ).sum(1)
    expected = gap - net.marginal().log_prob(x)
    torch.testing.assert_close(bound(net, x), expected, rtol=1e-12, atol=1e-12)


def test_the_weight_multiplies_the_rate_alone() -> None:
    net, x = LinearAutoencoder(), data()
    torch.testing.assert_close(bound(net, x, rate=3.0) - bound(net, x), 2 * net.encode(x).kl())
    with pytest.raises(ValueError, match="must not be negative"):
        Autoencoding(codec=Affine(), rate=-1.0)


class Blocks(torch.nn.Module):
    """A classifier whose only block is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.path = torch.nn.ModuleList([torch.nn.Identity()])
        self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return self.path[0](x).flatten(2).mean(2) * self.scale


def test_the_perceptual_term_is_an_angle_between_features() -> None:
    """|u - v|^2 = 2 - 2 cos of unit features; it moves the decoder and leaves every other term as it is."""
    net = KLAutoencoder(shape=(2, 4, 4), channels=(4, 8), middle_attention=False, latent_channels=2)
    model, x = NetworkAutoencoder(net=net, sde=VP()), torch.randn(3, 2, 4, 4)
    classifier = NoisyClassifier(net=Blocks(), sde=VP(), parametrization=Eps())
    draw = Autoencoding(codec=Affine(), noise=net.noise).draw(VP(), x, IID.seeded(0))
    plain, found = (
        Autoencoding(codec=Affine(), noise=net.noise, **more).loss(model, x, draw)
        for more in ({}, {"perceptual": 3.0, "classifier": classifier})
    )
    mean = net(x, draw.eps).mean
    expected = 3 * (2 - 2 * torch.nn.functional.cosine_similarity(x, mean, dim=1)).mean((1, 2)).double()
    torch.testing.assert_close(found.per_sample - plain.per_sample, expected, rtol=1e-4, atol=1e-4)
    gradient = torch.autograd.grad(
        (found.per_sample - plain.per_sample).sum(), list(net.parameters()), allow_unused=True
    )
    assert any(each is not None and bool(each.abs().max() > 0) for each in gradient)
    with pytest.raises(ValueError, match="needs both a weight and the run"):
        Autoencoding(codec=Affine(), perceptual=1.0)


SMALL = {"shape": (1, 4, 4), "channels": (4, 8), "middle_attention": False}


@pytest.mark.parametrize(
    "net",
    [
        KLAutoencoder(**SMALL, latent_channels=2),
        DiscreteAutoencoder(**SMALL, codes=3, code_channels=2),
    ],
    ids=lambda net: type(net).__name__,
)
@pytest.mark.parametrize("family", [Logistic(), Gaussian()])
def test_gradients_are_those_of_finite_differences(net, family) -> None:
    """Along a random direction of all parameters; the levels include the first and the last."""
    net = net.double()
    net.zero_grad()
    codec, generator = UniformCodec(levels=4), torch.Generator().manual_seed(0)
    levels = torch.randint(0, 4, (2, 1, 4, 4), generator=generator)
    x = codec.encode(levels, IID(generator)).double()
    objective, model = (
        Autoencoding(codec=codec, noise=net.noise, family=family),
        NetworkAutoencoder(net=net, sde=VP()),
    )
    draw = objective.draw(model.sde, x, PerSample([1, 2]))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    way = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in net.parameters()]

    def loss(step: float) -> torch.Tensor:
        moved = {name: p + step * w for (name, p), w in zip(net.named_parameters(), way, strict=True)}
        other = lambda *inputs: torch.func.functional_call(net, moved, inputs)  # noqa: E731
        double = NetworkAutoencoder(net=net, sde=VP())
        double._modules["net"] = other  # type: ignore[assignment]
        return objective.loss(double, x, draw).per_sample.sum()

    objective.loss(model, x, draw).per_sample.sum().backward()
    slope = sum(float((p.grad * w).sum()) for p, w in zip(net.parameters(), way, strict=True))
    with torch.no_grad():
        coarse, fine = (float((loss(h) - loss(-h)) / (2 * h)) for h in (2e-5, 1e-5))
    assert slope == pytest.approx((4 * fine - coarse) / 3, rel=1e-6)  # Richardson: of fourth order


def test_codes_cost_their_nats() -> None:
    net = VQAutoencoder(**SMALL, codes=8)
    codec = UniformCodec(levels=256)
    x = codec.encode(torch.full((2, 1, 4, 4), 255))
    model, noise = NetworkAutoencoder(net=net, sde=VP()), IID.seeded(0)
    with_codes, without = (
        Autoencoding(codec=codec, noise=net.noise, rate=rate)(model, x, noise=noise).per_sample
        for rate in (1.0, 0.0)
    )
    expected = torch.full((2,), 4 * math.log(8), dtype=torch.float64)
    torch.testing.assert_close(with_codes - without, expected)
