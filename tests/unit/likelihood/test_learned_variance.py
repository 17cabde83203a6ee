"""A learned variance: exact where it is the optimal one, and DDPM's textbook where a network says it."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from sde_gen.data.codec import UniformCodec
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.denoiser.decoder import Decoder
from sde_gen.denoiser.parametrization import Eps
from sde_gen.denoiser.parametrization.label import Time
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance import CFG, ClassifierGuidance
from sde_gen.likelihood import GaussianDecoder, LastStep, discrete_vlb
from sde_gen.noise import IID
from sde_gen.sde import DDPM, SDE, cosine_betas
from sde_gen.solver import Ancestral
from tests.helpers import gaussian
from tests.helpers.catalogue import make, names
from tests.helpers.quadrature import Nodes

DATA = gaussian.GaussianMoments(
    torch.tensor([0.4, -0.3]).double(), torch.diag(torch.tensor([0.3, 0.05]).double())
)


class Optimal(Denoiser):
    """The exact denoiser of Gaussian data, with the place of the exact variance of x_s given x_t.

    From the joint distribution of the two: with Var[x_t] = S_t and x_t = a x_s + noise,
    Var[x_s | x_t] = S_s - (a S_s)^2 / S_t.
    """

    def __init__(self, sde: SDE, times: Tensor) -> None:
        super().__init__()
        self.sde, self.exact = sde, gaussian.denoiser(sde, DATA)
        self.following = dict(itertools.pairwise(times.tolist()))

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        found = self.exact(x_t, t)
        if float(t) not in self.following:
            return found
        s = torch.tensor(self.following[float(t)], dtype=torch.float64)
        variances = DATA.cov.diag()
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.sde.marginal(t), self.sde.marginal(s)
        spread_t, spread_s = alpha_t**2 * variances + sigma_t**2, alpha_s**2 * variances + sigma_s**2
        scale = alpha_t / alpha_s
        variance = spread_s - (scale * spread_s) ** 2 / spread_t
        most = sigma_t**2 - scale**2 * sigma_s**2
        least = sigma_s**2 * most / sigma_t**2
        nu = torch.log(variance / least) / torch.log(most / least)
        return Prediction(x_t, found.x0, found.eps, found.alpha, found.sigma, nu.expand_as(x_t))


class Exact(Decoder):
    """q(x_0 | x_t) of the data, by Bayes' rule."""

    def log_prob(self, prediction: Prediction, x0: Tensor) -> Tensor:
        alpha, sigma, x_t = float(prediction.alpha), float(prediction.sigma), prediction.x_t
        forward = torch.from_numpy(norm(0, sigma).logpdf((x_t - alpha * x0).numpy())).sum(1)
        return log_density(x0, 1.0, 0.0) + forward - log_density(x_t, alpha, sigma)


def log_density(x: Tensor, alpha: float, sigma: float) -> Tensor:
    cov = alpha**2 * DATA.cov.numpy() + sigma**2 * np.eye(2)
    return torch.from_numpy(np.asarray(multivariate_normal(alpha * DATA.mean.numpy(), cov).logpdf(x.numpy())))


def few_times(sde: SDE) -> Tensor:
    """Four steps, the first from where the linear path still has signal."""
    return torch.tensor([0.98, 0.7, 0.4, 0.2, max(sde.t_min, 0.1)], dtype=torch.float64)


@pytest.mark.parametrize("name", names("sde"))
def test_chain_with_the_optimal_variance_has_the_distribution_of_the_data(name: str) -> None:
    """In four steps, to rounding; and every fixed place of the variance misses it."""
    sde = make("sde", name)
    times = few_times(sde)
    start, model = gaussian.marginal(sde, times[0], DATA), Optimal(sde, times)
    mean, cov = gaussian.moment_errors(
        sde, times[-1], gaussian.propagate(Ancestral(nu=None), model, times, start), DATA
    )
    assert mean < 1e-10
    assert cov < 1e-10
    for nu in (0.0, 0.5, 1.0):
        assert (
            gaussian.moment_errors(
                sde, times[-1], gaussian.propagate(Ancestral(nu=nu), model, times, start), DATA
            )[1]
            > 1e-3
        )


@pytest.mark.parametrize("name", names("sde"))
def test_the_bound_with_the_optimal_variance_is_tight(name: str) -> None:
    """For every single x_0, once the prior's own error is taken out; with another variance it is loose on average.

    Three nodes per dimension, for the noise and for the data, are exact for what is quadratic.
    """
    sde = make("sde", name)
    times = few_times(sde)
    noise = Nodes(9, count=3)
    points = DATA.mean + noise.nodes * DATA.cov.diag().sqrt()
    alpha, sigma = (float(part) for part in sde.marginal(times[0]))
    x0 = noise.repeat(points)
    x_1 = alpha * x0 + sigma * noise.normal(x0)
    prior = torch.from_numpy(norm(0, sigma).logpdf(x_1.numpy()).sum(1))
    loose = noise.mean(log_density(x_1, alpha, sigma) - prior)

    def gap(nu: float | None) -> Tensor:
        model = Optimal(sde, times)
        found = discrete_vlb(model, x0, times, decoder=Exact(), noise=noise, nu=nu)
        return log_density(points, 1.0, 0.0) - noise.mean(found.nats) - loose

    assert float(gap(None).abs().max()) < 1e-9 * float(loose.abs().max() + 1)
    for nu in (0.0, 0.5, 1.0):
        assert float(gap(nu) @ noise.weights) > 1e-6  # EDM is nearly the posterior


STEPS = 12


class Net(nn.Module):
    """Noise and variance of a small network, which is conditioned on the index of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False).double()
        weights = 0.5 * torch.randn(self.conv.weight.shape, generator=torch.Generator().manual_seed(0))
        self.conv.weight.data = weights.double()

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        return torch.tanh(self.conv(x) * torch.cos(c_noise / 5)[:, None, None, None])


class Textbook:
    """The chain from its table of betas alone: Ho et al., 2020, eq. 6 and 7; Nichol and Dhariwal, 2021, eq. 15.

    Steps are counted from 0. Of the first step, whose posterior has no variance, the original takes that of the second.
    """

    def __init__(self, net: Net, betas: np.ndarray) -> None:
        self.net, self.betas = net, betas
        self.kept = np.cumprod(1 - betas)
        self.before = np.append(1.0, self.kept[:-1])
        least = betas * (1 - self.before) / (1 - self.kept)
        self.least = np.append(least[1], least[1:])

    def noised(self, x0: Tensor, step: int, eps: Tensor) -> Tensor:
        return math.sqrt(self.kept[step]) * x0 + math.sqrt(1 - self.kept[step]) * eps

    def mean(self, x0: Tensor, x: Tensor, step: int) -> Tensor:
        beta, kept, before = self.betas[step], self.kept[step], self.before[step]
        return (
            beta * math.sqrt(before) / (1 - kept) * x0 + (1 - before) * math.sqrt(1 - beta) / (1 - kept) * x
        )

    def model(self, x: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-variance of the step before, and the predicted clean sample."""
        eps, said = self.net(x, torch.full((len(x),), float(step)).double()).chunk(2, 1)
        clean = math.sqrt(1 / self.kept[step]) * x - math.sqrt(1 / self.kept[step] - 1) * eps
        share = (said + 1) / 2
        log_variance = share * math.log(self.betas[step]) + (1 - share) * math.log(self.least[step])
        return self.mean(clean, x, step), log_variance, clean


def chain() -> tuple[Denoiser, Textbook, Tensor, Tensor]:
    """A network in our terms and in the textbook's, clean samples, and the times of all steps."""
    betas, net = cosine_betas(steps=STEPS), Net()
    mean = Eps(label=Time(scale=STEPS, offset=-1.0))
    ours = NetworkDenoiser(net=net, sde=DDPM(betas=betas), parametrization=LearnedVariance(mean=mean))
    x0 = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    times = torch.arange(STEPS, 0, -1, dtype=torch.float64) / STEPS
    return ours, Textbook(net, np.array(betas)), x0, times


@torch.no_grad()
def test_every_term_of_the_bound_is_the_textbook_s() -> None:
    """KL of two Gaussians, in their two log-variances, at every step but the last, whose decoder is another."""
    ours, book, x0, times = chain()
    found = discrete_vlb(ours, x0, times, decoder=GaussianDecoder(), noise=IID.seeded(2), nu=None)
    noise = IID.seeded(2)
    for index, step in enumerate(range(STEPS - 1, 0, -1)):
        x = book.noised(x0, step, noise.normal(x0))
        true, log_true = book.mean(x0, x, step), math.log(book.least[step])
        mean, log_variance, _ = book.model(x, step)
        ratio = torch.exp(log_true - log_variance)
        kl = 0.5 * (log_variance - log_true + ratio - 1 + (true - mean) ** 2 * torch.exp(-log_variance))
        torch.testing.assert_close(found.steps[:, index], kl.flatten(1).sum(1), rtol=1e-9, atol=1e-9)
    kept = book.kept[-1]
    prior = 0.5 * (kept * x0**2 - kept - math.log(1 - kept)).flatten(1).sum(1)
    spread = (
        0.5 * x0[0].numel() * (-math.log(1 - kept) - kept)
    )  # our prior has the variance of x_1, the original one
    torch.testing.assert_close(found.prior * (1 - kept), prior - spread, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("nu", [0.0, 1.0, None])
def test_the_last_step_is_guided_diffusion_s_decoder(nu: float | None) -> None:
    """Masses of bins of 2 / 255 about the levels in [-1, 1], by SciPy, under the step from the chain's first state."""
    ours, book, _, times = chain()
    levels = torch.randint(0, 256, (3, 2, 4, 4), generator=torch.Generator().manual_seed(4))
    levels[0, 0, 0, :2] = torch.tensor([0, 255])
    codec = UniformCodec(levels=256, low=-1 - 1 / 255, high=1 + 1 / 255)
    x0 = 2 * levels.double() / 255 - 1
    torch.testing.assert_close(codec.encode(levels).double(), x0, rtol=0, atol=1e-6)
    found = discrete_vlb(ours, x0, times, decoder=LastStep(codec=codec), noise=IID.seeded(2), nu=nu)
    noise = IID.seeded(2)
    for _ in range(STEPS - 1):
        noise.normal(x0)
    mean, log_variance, _ = book.model(book.noised(x0, 0, noise.normal(x0)), 0)
    if nu is not None:
        log_variance = torch.full_like(mean, math.log([book.least[1], book.betas[0]][int(nu)]))
    std = torch.exp(0.5 * log_variance).numpy()
    below, above = (norm.logcdf((x0.numpy() + sign / 255 - mean.numpy()) / std) for sign in (-1, 1))
    right = norm.logsf((x0.numpy() - 1 / 255 - mean.numpy()) / std)
    inside = above + np.log1p(-np.exp(below - above))
    mass = np.where(levels == 0, above, np.where(levels == 255, right, inside))
    nats = -found.reconstruction.numpy() + codec.log_det(torch.zeros(1, 2, 4, 4)).numpy()
    np.testing.assert_allclose(nats, mass.reshape(3, -1).sum(1), rtol=1e-5)


@torch.no_grad()
def test_ancestral_steps_of_the_chain_are_the_textbook_s() -> None:
    """Mean and learned variance at every step, and the predicted clean sample in the end."""
    ours, book, x0, times = chain()
    found = Ancestral(nu=None).solve(ours, x0, times, noise=IID.seeded(3))
    noise, x = IID.seeded(3), x0
    for step in range(STEPS - 1, 0, -1):
        mean, log_variance, _ = book.model(x, step)
        x = mean + torch.exp(0.5 * log_variance) * noise.normal(x)
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9 * float(x.abs().max()))
    torch.testing.assert_close(ours(found, times[-1]).x0, book.model(x, 0)[2], rtol=1e-8, atol=1e-8)


def test_the_numbers_of_a_network_run_from_minus_one_to_one() -> None:
    marginal = DDPM().marginal(torch.tensor(0.5).double())
    x = torch.zeros(1, 1, 1, 3).double()
    out = torch.cat([x, torch.tensor([-1.0, 0.0, 1.0]).double().reshape(1, 1, 1, 3)], dim=1)
    learned = LearnedVariance(mean=Eps())
    assert learned.predict(out, x, marginal).nu.flatten().tolist() == [0.0, 0.5, 1.0]
    undecided = learned.target(x, x, marginal)
    assert bool((learned.predict(undecided, x, marginal).nu == 0.5).all())


class Conditioned(nn.Module):
    """Noise that knows its class, and the class as variance."""

    def forward(self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None) -> Tensor:
        said = torch.zeros(len(x)) if label is None else label + 1.0
        return torch.cat([x, torch.ones_like(x)], dim=1) * said.to(x).reshape(-1, 1, 1, 1)


def test_guidance_keeps_the_variance_of_the_model_it_guides() -> None:
    """Of the two models on a line that of the class: the variance is no score, and has no line."""
    model = NetworkDenoiser(net=Conditioned(), sde=DDPM(), parametrization=LearnedVariance(mean=Eps()))
    x, t, label = torch.ones(2, 1, 2, 2).double(), torch.tensor(0.5).double(), torch.tensor([0, 2])

    class Classifier:
        def log_prob(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return -(x_t**2).flatten(1).sum(1)

    expected = model(x, t, label=label).nu
    assert torch.equal(CFG(denoiser=model, scale=3.0, rescale=0.5)(x, t, label=label).nu, expected)
    by_classifier = ClassifierGuidance(denoiser=model, classifier=Classifier(), scale=2.0)
    assert torch.equal(by_classifier(x, t, label=label).nu, model(x, t).nu)
    with pytest.raises(ValueError, match="predicts none"):
        Ancestral(nu=None).solve(
            gaussian.denoiser(DDPM()),
            torch.zeros(1, 2).double(),
            torch.tensor([0.5, 0.1]).double(),
            noise=IID.seeded(0),
        )
