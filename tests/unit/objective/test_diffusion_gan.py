"""Adversarial losses against separate ones, closed forms and quadrature; steps of training against the process."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sde_gen.denoiser import DenoisingGAN
from sde_gen.denoiser.parametrization import X0
from sde_gen.model import MLP, Conditions, Encoder, GeneratorPair, NCSNpp, VectorEncoder
from sde_gen.noise import IID
from sde_gen.objective import DiffusionGAN, NoiseDraw, adversarial_loss
from sde_gen.sde import VE, VP, Rectified

PENALTY = 0.7


def randomize(net: nn.Module) -> None:
    """Move all weights, some of which begin at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def of_vectors() -> DenoisingGAN:
    generator = MLP(shape=(2,), width=8, depth=1, inputs=Conditions(vector=3))
    pair = GeneratorPair(
        generator=generator,
        discriminator=lambda **sizes: VectorEncoder(**sizes, width=8, depth=1),
        shape=(2,),
        latent=3,
    )
    randomize(pair)
    return DenoisingGAN(net=pair, sde=VP(), parametrization=X0()).double()


def data(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def plain(steps: int = 1) -> DiffusionGAN:
    return DiffusionGAN(steps=steps, latent=3, penalty=PENALTY)


def test_each_network_has_the_gradient_of_its_own_loss():
    """The two losses of a plain GAN, each written down and differentiated alone."""
    model, x = of_vectors(), data()
    draw, (generator, discriminator) = plain().draw(model.sde, x, IID.seeded(0)), model.net.children()
    alpha, sigma = model.sde.marginal(torch.ones((), dtype=torch.float64))
    x_t = alpha * x + sigma * draw.eps[:, 2:4]
    label = X0().label(model.sde.marginal(draw.t), draw.t)

    def odds(x_s: torch.Tensor) -> torch.Tensor:
        logits = discriminator.classifier(torch.cat([x_s, x_t], 1), label)
        return logits[:, 1] - logits[:, 0]

    generated = generator(x_t, label, vector=draw.eps[:, 6:])
    real = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(odds(real).sum(), real, create_graph=True)
    of_d = (
        -nn.functional.logsigmoid(odds(x))
        - nn.functional.logsigmoid(-odds(generated.detach()))
        + PENALTY / 2 * slope.square().sum(1)
    )
    of_g = -nn.functional.logsigmoid(odds(generated))
    expected = [
        *torch.autograd.grad(of_g.mean(), [*generator.parameters()], retain_graph=True),
        *torch.autograd.grad(of_d.mean(), [*discriminator.parameters()]),
    ]
    found = plain().loss(model, x, draw)
    gradient = torch.autograd.grad(found.per_sample.mean(), [*model.net.parameters()])
    assert all(float(each.abs().max()) > 0 for each in gradient)
    torch.testing.assert_close(gradient, tuple(expected), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.per_sample, (of_d + of_g).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.error, (generated - x).square().mean(1).detach())


def test_validation_has_the_value_of_training():
    """Without gradients of the weights; R1 differentiates the discriminator in x all the same."""
    model, x = of_vectors(), data()
    draw = plain(4).draw(model.sde, x, IID.seeded(0))
    trained = plain(4).loss(model, x, draw).per_sample
    frozen = model.requires_grad_(False)
    with torch.no_grad():
        found = plain(4).loss(frozen, x, draw).per_sample
    assert not found.requires_grad
    torch.testing.assert_close(found, trained.detach(), rtol=1e-12, atol=1e-12)


def test_penalty_of_a_linear_discriminator_is_its_squared_slope():
    x, w = data(), torch.tensor([0.5, -2.0], dtype=torch.float64)
    loss = {g: adversarial_loss(lambda x: x @ w + 1, x, -x, penalty=g) for g in (0.0, 3.0)}
    torch.testing.assert_close(loss[3.0] - loss[0.0], torch.full((6,), 1.5 * (0.25 + 4), dtype=torch.float64))


def test_best_discriminator_of_two_gaussians_measures_their_jensen_shannon_divergence():
    """D = log p / q: L_D is 2 log 2 - 2 JSD, by quadrature over quantiles and over the line; any other D has more."""
    n, shift = 100_000, 1.5
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    z = normal.icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n).unsqueeze(1)

    @torch.no_grad()
    def value(odds) -> float:
        total = adversarial_loss(odds, z, z + shift, penalty=0.0)
        return float((total - nn.functional.softplus(-odds(z + shift))).mean())

    def log_ratio(x: torch.Tensor) -> torch.Tensor:
        return (normal.log_prob(x) - normal.log_prob(x - shift)).squeeze(1)

    x = np.linspace(-12, 12, 20_001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, shift))
    middle = (p + q) / 2
    divergence = np.trapezoid(0.5 * p * np.log(p / middle) + 0.5 * q * np.log(q / middle), x)
    assert value(log_ratio) == pytest.approx(2 * math.log(2) - 2 * divergence, abs=1e-5)
    for factor in (0.9, 1.1):
        assert value(lambda x, factor=factor: factor * log_ratio(x)) > value(log_ratio) + 1e-4


class Recorder:
    """A model whose generated samples are the data, and that records what its discriminator is shown."""

    def __init__(self, sde, x0: torch.Tensor) -> None:
        self.sde, self.x0 = sde, x0

    def judged(self, x_t, t, latent, judge):
        shown = []

        def odds(x_s: torch.Tensor) -> torch.Tensor:
            shown.append(x_s.detach())
            return x_s.sum(1)

        result = judge(self.x0, odds)
        self.real, self.fake, self.x_t = *shown, x_t
        return result


@pytest.mark.parametrize("step", [0, 2], ids=["first", "last"])
@pytest.mark.parametrize("sde", [VP(), VE(), Rectified()], ids=lambda sde: type(sde).__name__)
def test_samples_generated_from_the_data_have_the_distribution_of_the_data(sde, step):
    """(x_s, x_t) and (x'_s, x_t) given x_0 have one mean and covariance, and x_t the marginal of the process."""
    objective = DiffusionGAN(steps=3, latent=1, penalty=0.0)
    times = objective.grid(sde, 3)
    eps = torch.cat(
        [torch.zeros(1, 4), torch.eye(4)]
    ).double()  # event of one number: of x_s, x_t, x'_s, and z
    t = times[step].expand(5)
    x0 = torch.full((5, 1), 0.8, dtype=torch.float64)
    model = Recorder(sde, x0)
    objective.loss(model, x0, NoiseDraw(t, torch.ones_like(t), eps))
    moments = []
    for x_s in (model.real, model.fake):
        pair = torch.cat([x_s, model.x_t], 1)
        linear = pair[1:] - pair[0]
        moments.append((pair[0], linear.T @ linear))
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-9, atol=1e-12)
    alpha, sigma = sde.marginal(times[step])
    torch.testing.assert_close(moments[0][0][1], alpha * 0.8)
    torch.testing.assert_close(moments[0][1][1, 1], sigma**2)
    if step == 2:
        assert bool((model.real == 0.8).all()), "the last step ends at the data"


def test_steps_are_drawn_evenly_and_end_where_the_next_begins():
    sde, objective = VP(), plain(4)
    draw = objective.draw(sde, torch.zeros(4000, 2), IID.seeded(0))
    times = objective.grid(sde, 4)
    counts = (draw.t.unsqueeze(1) == times).sum(0)
    assert int(counts[-1]) == 0
    assert int((counts[:-1] - 1000).abs().max()) < 150  # 5.5 standard deviations
    ends, last = objective._ends(sde, times[:-1])
    assert ends.tolist() == times[1:].tolist()
    assert last.tolist() == [False, False, False, True]


def test_images_train_with_an_encoder():
    shape = (1, 8, 8)
    generator = NCSNpp(
        shape=shape, width=8, multipliers=(1, 2), blocks=1, attention_levels=(), inputs=Conditions(vector=3)
    )
    pair = GeneratorPair(
        generator=generator, discriminator=lambda **sizes: Encoder(**sizes, width=8), shape=shape, latent=3
    )
    randomize(pair)
    model = DenoisingGAN(net=pair, sde=VP(), parametrization=X0())
    loss = plain(2)(model, torch.randn(2, *shape), noise=IID.seeded(0))
    loss.per_sample.mean().backward()
    for name, weight in pair.named_parameters():
        if not name.endswith("key.bias"):  # adds the same to all weights of a softmax
            assert weight.grad is not None, name
            assert float(weight.grad.abs().max()) > 0, name


@pytest.mark.parametrize("bad", [{"steps": 0}, {"latent": 0}, {"penalty": -1.0}])
def test_refuses_impossible_settings(bad):
    with pytest.raises(ValueError, match="expected at least 1"):
        DiffusionGAN(**bad)
