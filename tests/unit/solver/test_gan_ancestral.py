"""Steps of the posterior with a drawn x_0: exact distributions with the exact generator of a Gaussian."""

import pytest
import torch

from sde_gen.denoiser import DenoisingGAN, GaussianDenoiser
from sde_gen.denoiser.parametrization import X0
from sde_gen.evaluation.verification import exact_gaussian as gaussian
from sde_gen.grid import Uniform
from sde_gen.likelihood import log_prob
from sde_gen.model import MLP, Conditions, GeneratorPair, VectorEncoder
from sde_gen.noise import PerSample
from sde_gen.sampler import Sampler
from sde_gen.solver import DDIM, GANAncestral
from sde_gen.solver.callbacks import NFECounter
from tests.helpers.catalogue import make, names


class ExactGenerator(GaussianDenoiser):
    """The exact p(x_0 | x_t) of Gaussian data, by Bayes' rule for the observation x_t."""

    def draw(self, x_t, t, noise, **cond):
        alpha, sigma = self.sde.marginal(torch.as_tensor(t, dtype=torch.float64))
        cov = torch.linalg.inv(torch.linalg.inv(gaussian.DATA.cov) + torch.eye(2) * (alpha / sigma) ** 2)
        root = torch.linalg.cholesky(cov)
        return self(x_t, t).x0 + noise.normal(x_t) @ root.T


def generator() -> DenoisingGAN:
    torch.manual_seed(0)
    pair = GeneratorPair(
        generator=MLP(shape=(2,), width=8, depth=1, inputs=Conditions(vector=3)),
        discriminator=lambda **sizes: VectorEncoder(**sizes, width=8, depth=1),
        shape=(2,),
        latent=3,
    )
    with torch.no_grad():
        for weight in pair.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return DenoisingGAN(net=pair, sde=make("sde", "vp"), parametrization=X0()).eval().requires_grad_(False)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("sde", names("sde"))
def test_exact_generator_reproduces_the_data_in_any_number_of_steps(sde, steps):
    """Mean and covariance to rounding, from the exact moments of x_t at the first time."""
    process = make("sde", sde)
    times = Uniform(t_max=0.9)(process, steps)
    model = ExactGenerator(sde=process, mean=gaussian.DATA.mean, cov=gaussian.DATA.cov)
    end = gaussian.propagate(GANAncestral(), model, times, gaussian.marginal(process, times[0]))
    torch.testing.assert_close(end.mean, gaussian.DATA.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(end.cov, gaussian.DATA.cov, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_takes_one_evaluation_a_step_and_no_last_one(steps):
    model, sampler = generator(), Sampler(solver=GANAncestral(), grid=Uniform(), steps=steps)
    with NFECounter(model.net) as counter:
        x = sampler(model, (5, 2), noise=PerSample(range(5)))
    assert counter.calls == sampler.nfe == steps
    alone = sampler(model, (1, 2), noise=PerSample([3]))
    torch.testing.assert_close(alone, x[3:4])
    again = sampler(model.bind(), (5, 2), noise=PerSample(range(5)))
    assert torch.equal(again, x), "a model with bound conditions is the same generator"
    assert not torch.equal(sampler(model, (5, 2), noise=PerSample(range(5, 10))), x)


def test_refuses_what_does_not_apply():
    model, x = generator(), torch.zeros(2, 2)
    with pytest.raises(ValueError, match="solver=gan_ancestral"):
        Sampler(solver=DDIM(), steps=2)(model, (2, 2), noise=PerSample([0, 1]))
    with pytest.raises(ValueError, match="no likelihood"):
        log_prob(model, x, noise=PerSample([0, 1]))
    with pytest.raises(ValueError, match="no generator"):
        Sampler(solver=GANAncestral(), steps=2)(
            gaussian.denoiser(make("sde", "vp")), (1, 2), noise=PerSample([0])
        )
    with pytest.raises(ValueError, match="GANAncestral"):
        GANAncestral().solve(model, x, torch.tensor([0.1, 0.9], dtype=torch.float64), noise=PerSample([0, 1]))
