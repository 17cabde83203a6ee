"""Latents as model space: shapes, shift and scale, masks, and the terms of the bound on a linear Gaussian model."""

import math

import pytest
import torch

from sde_gen.data.codec import Affine, Latent, TrainedAutoencoder, UniformCodec
from sde_gen.denoiser import GaussianDenoiser
from sde_gen.evaluation.metric import LatentBits
from sde_gen.likelihood import log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.model import Gaussian, KLAutoencoder, VQAutoencoder
from sde_gen.noise import IID, PerSample
from sde_gen.ode import TorchDiffEq
from sde_gen.sde import Rectified
from tests.helpers.linear_autoencoder import LinearAutoencoder, cubature

SHIFT, SCALE = [0.4, -0.3], [1.7, 0.6]


def linear(net: LinearAutoencoder, **settings) -> Latent:
    """A codec of a linear Gaussian autoencoder of continuous data."""
    net.family = Gaussian()
    opened = TrainedAutoencoder(net=net.requires_grad_(False), codec=Affine())
    return Latent(autoencoder=opened, run="runs/linear", **{"shift": SHIFT, "scale": SCALE, **settings})


def images(**settings) -> Latent:
    net = KLAutoencoder(shape=(1, 8, 8), channels=(4, 8, 8), latent_channels=2, middle_attention=False)
    opened = TrainedAutoencoder(net=net.eval().requires_grad_(False), codec=UniformCodec(levels=17))
    return Latent(autoencoder=opened, run="runs/kl", **settings)


def data(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float32)


def test_latents_are_shifted_scaled_and_taken_back() -> None:
    codec, y = linear(LinearAutoencoder().exact()), data()
    z = codec.autoencoder.encode(y).mean
    expected = (z - torch.tensor(SHIFT)) / torch.tensor(SCALE)
    torch.testing.assert_close(codec.encode(y), expected.float())
    torch.testing.assert_close(
        codec.decode(codec.encode(y)), codec.autoencoder.net.decode(z), rtol=1e-5, atol=1e-5
    )
    draws = torch.stack([codec.encode(y, PerSample(range(i, i + 4))) for i in range(0, 4000, 4)])
    std = codec.autoencoder.encode(y).std / torch.tensor(SCALE)
    error = (draws.mean(0) - codec.encode(y)).abs() / (std / 1000**0.5)
    assert float(error.max()) < 5.5
    torch.testing.assert_close(draws.std(0).double(), std, rtol=0.15, atol=0)


def test_events_masks_and_levels() -> None:
    codec = images()
    assert codec.event((1, 8, 8)) == (2, 2, 2)
    with pytest.raises(ValueError, match=r"runs/kl is for data of shape \(1, 8, 8\)"):
        codec.event((3, 8, 8))
    known = torch.ones(1, 8, 8, dtype=torch.bool)
    known[0, 5, 1] = False  # a cell of 4 x 4 pixels is known where all of them are
    assert codec.mask(known).tolist() == [[[True, True], [False, True]]]
    values = torch.arange(64).reshape(1, 1, 8, 8) % 17
    decoded = codec.decode(codec.encode(values))
    assert decoded.dtype == torch.int64
    assert 0 <= int(decoded.min()) <= int(decoded.max()) < 17
    assert codec.decode_image(codec.encode(values)).dtype == torch.uint8
    assert codec.limits is None
    with pytest.raises(ValueError, match=r"metrics=\[latent_bound\]"):
        codec.log_det(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="for each of the 2 channels"):
        images(shift=[0.0])
    with pytest.raises(ValueError, match="a positive one"):
        images(scale=[1.0, 0.0])


def test_gradients_pass_through_the_decoder() -> None:
    codec = images()
    x = torch.randn(1, 2, 2, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(codec.decode_continuous(x).sum(), x)
    assert float(slope.abs().max()) > 0


def test_deterministic_encoders_have_no_bound() -> None:
    net = VQAutoencoder(shape=(1, 8, 8), channels=(4, 8), latent_channels=2, middle_attention=False)
    codec = Latent(autoencoder=TrainedAutoencoder(net=net, codec=UniformCodec(levels=17)), run="runs/vq")
    with pytest.raises(ValueError, match="needs a KL autoencoder"):
        codec.bound(torch.zeros(1, 1, 8, 8), IID.seeded(0))
    with pytest.raises(ValueError, match=r"metrics=\[bpd\]"):
        Affine().bound(torch.zeros(1, 1, 8, 8), IID.seeded(0))


def prior(mean: torch.Tensor, std: torch.Tensor) -> GaussianDenoiser:
    """The exact denoiser of latents N(mean, std^2), which the codec shifts and scales."""
    shift, scale = torch.tensor(SHIFT, dtype=torch.float64), torch.tensor(SCALE, dtype=torch.float64)
    return GaussianDenoiser(
        sde=Rectified(t_min=1e-9), mean=(mean - shift) / scale, cov=torch.diag((std / scale) ** 2)
    )


INTEGRATOR = TorchDiffEq(rtol=1e-9, atol=1e-9)
METRIC = LatentBits(integrator=INTEGRATOR, divergence=Exact(), diagnose_every=None)


def test_with_the_exact_posterior_the_bound_is_the_likelihood() -> None:
    """For any draw of the latents: log p(y | z) + log p(z) - log q(z | y) = log p(y)."""
    net, y = LinearAutoencoder().exact(), data()
    model = prior(torch.zeros(2).double(), torch.ones(2).double())
    found = METRIC(model, y, linear(net), [3, 1, 4, 1]).value
    expected = -net.marginal().log_prob(y.double()) / (3 * math.log(2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.long
def test_of_any_linear_autoencoder_the_bound_is_the_closed_form() -> None:
    r"""Of a Gaussian model of the latents and a wrong encoder, by cubature over the posterior, against

    E_q[-log p(y | z)] + KL(q || p), with |y - W m - b|^2 + tr(W tau^2 W^T) for the expected square.
    """
    net, y = LinearAutoencoder(), data()
    mean, std = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.8, 1.4]).double()
    model, codec, posterior = prior(mean, std), linear(net), net.encode(y)

    class Given:
        """Noise with given values."""

        def __init__(self, eps: torch.Tensor) -> None:
            self.eps = eps

        def normal(self, x: torch.Tensor) -> torch.Tensor:
            return self.eps

    total = torch.zeros(4, dtype=torch.float64)
    points = cubature(4, 2)
    for eps in points:
        terms = codec.bound(y, Given(eps))
        with torch.no_grad():
            nats = log_prob(model, terms.z, integrator=INTEGRATOR, divergence=Exact()).nats
        total -= (terms.log_likelihood - terms.log_q + nats) / len(points)
    residual = y.double() - posterior.mean @ net.W.T - net.b
    spread = (net.W**2 @ posterior.std[0] ** 2).sum()
    square = (residual**2).sum(1) + spread
    distortion = square / (2 * net.variance) + 1.5 * torch.log(2 * math.pi * net.variance)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, posterior.std), torch.distributions.Normal(mean, std)
    ).sum(1)
    torch.testing.assert_close(total, distortion + divergence, rtol=0, atol=1e-6)
