"""The bound of a chain as a loss: against the chain's own bound, closed forms, integration and autograd."""

import hashlib
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from sde_gen.data.codec import Affine, UniformCodec
from sde_gen.data.conditioning import Unconditional
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps, LearnedVariance
from sde_gen.denoiser.prediction import Prediction
from sde_gen.grid import DDPMLinspace, Listed
from sde_gen.likelihood import GaussianDecoder, LastStep, discrete_vlb
from sde_gen.noise import IID
from sde_gen.objective import Hybrid, Loss, NoiseDraw, VariationalBound
from sde_gen.objective.step_sampler import SecondMoment, UniformSteps
from sde_gen.sde import DDPM, VP, cosine_betas
from tests.helpers import gaussian
from tests.helpers.quadrature import Nodes
from tests.helpers.tiny_run import same, trainer, weights

STEPS = 12
CHAIN = DDPM(betas=cosine_betas(steps=STEPS))
ALL = DDPMLinspace(chain=STEPS)
LEVELS = UniformCodec(levels=8)


class Net(nn.Module):
    """Noise and variance by a layer for vectors of three numbers, between -1 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 6, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        self.layer.weight.data = torch.randn(6, 4, generator=generator).double()

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([x, c_noise.unsqueeze(1).to(x)], 1)))


def network() -> NetworkDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NetworkDenoiser(net=Net(), sde=CHAIN, parametrization=LearnedVariance(mean=Eps()))


def data(count: int = 5) -> Tensor:
    levels = torch.randint(0, 8, (count, 3), generator=torch.Generator().manual_seed(1))
    levels[0] = torch.tensor([0, 7, 3])
    return LEVELS.encode(levels).double()


def every_step(objective: VariationalBound, x0: Tensor, noise: IID) -> NoiseDraw:
    """One row for every sample and step, in the order in which the bound of a chain draws its noise."""
    times = objective.times(CHAIN, x0.device)
    eps = torch.cat([noise.normal(x0) for _ in times])
    t = times.repeat_interleave(len(x0))
    return NoiseDraw(t, torch.ones_like(t), eps)


@pytest.mark.parametrize("steps", [STEPS - 1, 4])
def test_the_mean_over_all_steps_is_the_bound_of_the_chain(steps: int) -> None:
    """With the same noise, for the whole chain and for a respaced one; in bits per dimension of the levels."""
    model, x0 = network(), data()
    objective = VariationalBound(codec=LEVELS, grid=ALL, steps=steps)
    times = objective.times(CHAIN, x0.device)
    draw = every_step(objective, x0, IID.seeded(3))
    found = objective.loss(model, x0.repeat(len(times), 1), draw).per_sample.reshape(len(times), -1).mean(0)
    bound = discrete_vlb(model, x0, times, decoder=LastStep(codec=LEVELS), noise=IID.seeded(3), nu=None)
    nats = -bound.nats - bound.prior - LEVELS.log_det(x0)
    torch.testing.assert_close(found, nats / (3 * math.log(2)), rtol=1e-9, atol=1e-9)


def test_the_last_term_is_the_integral_of_the_step_over_the_bin() -> None:
    model, x0 = network(), data(1)
    objective = VariationalBound(codec=LEVELS, grid=ALL, steps=STEPS - 1)
    t = torch.tensor([1 / STEPS], dtype=torch.float64)
    eps = torch.tensor([[0.3, -1.0, 0.5]], dtype=torch.float64)
    found = float(objective.loss(model, x0, NoiseDraw(t, torch.ones_like(t), eps)).per_sample.detach())
    alpha, sigma = CHAIN.marginal(t[0])
    with torch.no_grad():
        prediction = model(alpha * x0 + sigma * eps, t)
    betas = np.array(cosine_betas(steps=STEPS))
    kept = np.cumprod(1 - betas)
    least = betas[1] * (1 - kept[0]) / (1 - kept[1])  # variance of the posterior of the second step
    nats = 0.0
    for number, mean, nu in zip(x0[0], prediction.x0[0], prediction.nu[0], strict=True):
        std = math.sqrt(betas[0] ** float(nu) * least ** (1 - float(nu)))
        low, high = float(number) - 1 / 8, float(number) + 1 / 8
        low, high = (-np.inf if low < -0.999 else low), (np.inf if high > 0.999 else high)
        nats -= math.log(quad(lambda x, m=float(mean), s=std: norm.pdf(x, m, s), low, high, points=None)[0])
    assert found == pytest.approx(STEPS * nats / (3 * math.log(2)), rel=1e-7)


MOMENTS = gaussian.GaussianMoments(
    torch.tensor([0.4, -0.3]).double(), torch.diag(torch.tensor([0.3, 0.05]).double())
)
TIMES = (0.98, 0.7, 0.4, 0.2, 0.1)


class Exact(Denoiser):
    """The mean of Gaussian data given x_t, and the exact variance of the earlier state, by the joint distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.sde, self.exact = VP(), gaussian.denoiser(VP(), MOMENTS)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        found, following = self.exact(x_t, t), dict(itertools.pairwise((*TIMES, 0.05)))
        s = torch.tensor([following[each] for each in t.expand(len(x_t)).tolist()], dtype=torch.float64)
        variances = MOMENTS.cov.diag()
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (
            tuple(part.reshape(-1, 1) for part in self.sde.marginal(u)) for u in (t.expand(len(x_t)), s)
        )
        spread_t, spread_s = alpha_t**2 * variances + sigma_t**2, alpha_s**2 * variances + sigma_s**2
        scale = alpha_t / alpha_s
        variance = spread_s - (scale * spread_s) ** 2 / spread_t
        most = sigma_t**2 - scale**2 * sigma_s**2
        least = sigma_s**2 * most / sigma_t**2
        nu = torch.log(variance / least) / torch.log(most / least)
        return Prediction(x_t, found.x0, found.eps, found.alpha, found.sigma, nu)


def log_density(x: Tensor, t: float | None) -> Tensor:
    alpha, sigma = (
        (1.0, 0.0)
        if t is None
        else (float(part) for part in VP().marginal(torch.tensor(t, dtype=torch.float64)))
    )
    cov = alpha**2 * MOMENTS.cov.numpy() + sigma**2 * np.eye(2)
    return torch.from_numpy(
        np.atleast_1d(multivariate_normal(alpha * MOMENTS.mean.numpy(), cov).logpdf(x.numpy()))
    )


def test_the_exact_gaussian_denoiser_attains_the_closed_form() -> None:
    """KL of q(x_s, ..., x_t | x_0) telescopes: with the exact steps it is that of the two ends, all Gaussian."""
    noise = Nodes(1, count=3)  # exact for quadratic functions
    x0 = torch.tensor([[0.9, -0.1]], dtype=torch.float64)
    objective = VariationalBound(
        codec=Affine(), grid=Listed(times=TIMES), steps=len(TIMES) - 1, decoder=GaussianDecoder()
    )
    rows = noise.repeat(x0)
    total = torch.zeros(1, dtype=torch.float64)
    for t in TIMES[:-1]:
        draw = NoiseDraw(
            torch.full((len(rows),), t, dtype=torch.float64), torch.ones(len(rows)), noise.normal(rows)
        )
        total += noise.mean(objective.loss(Exact(), rows, draw).per_sample) / len(TIMES)

    def cross(t: float) -> Tensor:
        """E log q(x_t | x_0) / p(x_t) for x_t given x_0."""
        alpha, sigma = (float(part) for part in VP().marginal(torch.tensor(t, dtype=torch.float64)))
        x = alpha * rows + sigma * noise.normal(rows)
        given = torch.from_numpy(norm(0, sigma).logpdf((x - alpha * rows).numpy()).sum(1))
        return noise.mean(given - log_density(x, t))

    nats = cross(TIMES[-1]) - cross(TIMES[0])
    torch.testing.assert_close(total, nats / (2 * math.log(2)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("last", [False, True])
def test_in_the_hybrid_loss_the_bound_has_no_gradient_with_respect_to_the_mean(last: bool) -> None:
    """The gradient of the outputs of the mean is that of the error alone, that of the variance w times the bound's."""
    x0, objective = data(), Hybrid(codec=LEVELS, grid=ALL, steps=STEPS - 1, weight=0.7)
    t = torch.full((5,), (1 if last else 7) / STEPS, dtype=torch.float64)
    eps = IID.seeded(4).normal(x0)
    draw = NoiseDraw(t, torch.ones_like(t), eps)
    out = (0.3 * IID.seeded(5).normal(x0.repeat(1, 2))).requires_grad_()

    class Given(nn.Module):
        def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
            return out

    model = NetworkDenoiser(net=Given(), sde=CHAIN, parametrization=LearnedVariance(mean=Eps()))
    bound = VariationalBound(codec=LEVELS, grid=ALL, steps=STEPS - 1)
    (hybrid,) = torch.autograd.grad(objective.loss(model, x0, draw).per_sample.sum(), out)
    (error,) = torch.autograd.grad((out[:, :3] - eps).square().mean(1).sum(), out)
    (whole,) = torch.autograd.grad(bound.loss(model, x0, draw).per_sample.sum(), out)
    assert float(whole[:, :3].abs().min()) > 0
    torch.testing.assert_close(hybrid[:, :3], error[:, :3], rtol=1e-12, atol=0)
    torch.testing.assert_close(hybrid[:, 3:], 0.7 * whole[:, 3:], rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(
        lambda outputs: bound.bits(
            CHAIN,
            model.parametrization.predict(outputs, eps, CHAIN.marginal(t)),
            x0,
            t,
        ),
        (out,),
    )


@pytest.mark.parametrize("sampler", [UniformSteps(), SecondMoment(history=1)])
def test_weighted_losses_have_the_mean_over_all_steps_as_expectation(
    sampler: UniformSteps | SecondMoment,
) -> None:
    """Exactly, by enumeration: of every sampler, whatever losses it has seen."""
    losses = torch.rand(STEPS, generator=torch.Generator().manual_seed(2)).double()
    index = torch.arange(STEPS)
    sampler.observe(STEPS, index, 10 * losses.roll(1))
    p = sampler.probabilities(STEPS, losses.device)
    assert float(p.sum()) == pytest.approx(1, abs=1e-14)
    assert float((p * losses / (STEPS * p)).sum()) == pytest.approx(float(losses.mean()), abs=1e-14)
    grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = sampler(STEPS, grid)
    torch.testing.assert_close(
        torch.bincount(found.step, minlength=STEPS) / 1e5, p.float(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(found.probability, p[found.step])
    assert sampler(STEPS, torch.tensor([1.0 - 2**-53], dtype=torch.float64)).step.tolist() == [STEPS - 1]


def test_the_second_moment_is_of_the_last_losses_in_the_order_of_the_batch() -> None:
    """Against queues, in batches with many samples of one step; uniform until all are full; never with NaN."""
    sampler, count, history = SecondMoment(history=3, uniform=0.01), 4, 3
    queues: list[list[float]] = [[] for _ in range(count)]
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(12):
        index = torch.randint(0, count, (5,), generator=generator)
        losses = torch.rand(5, generator=generator).double() * (index + 1)
        sampler.observe(count, index, losses)
        for each, loss in zip(index.tolist(), losses.tolist(), strict=True):
            queues[each] = [*queues[each], loss][-history:]
        full = all(len(queue) == history for queue in queues)
        root = np.array([np.sqrt(np.mean(np.square(queue))) if queue else 0.0 for queue in queues])
        expected = 0.99 * root / root.sum() + 0.01 / count if full else np.full(count, 1 / count)
        np.testing.assert_allclose(sampler.probabilities(count, losses.device), expected, rtol=1e-12)
        seen.append(full)
    assert seen[0] is False
    assert seen[-1] is True
    before = sampler.probabilities(count, losses.device)
    sampler.observe(count, index, torch.full((5,), math.nan).double())
    assert torch.equal(sampler.probabilities(count, losses.device), before)
    other = SecondMoment(history=3, uniform=0.01)
    other.load_state(count, sampler.state())
    assert torch.equal(other.probabilities(count, losses.device), before)
    with pytest.raises(ValueError, match=r"expected \{'losses': \(5, 3\)"):
        SecondMoment(history=3).load_state(5, sampler.state())


def test_probabilities_by_the_second_moment_have_the_least_variance() -> None:
    """Of the estimate of the mean, for losses that do not vary within a step: zero but for the uniform share."""
    losses = torch.logspace(-3, 1, STEPS, dtype=torch.float64)
    variances = []
    for sampler in (UniformSteps(), SecondMoment(history=1)):
        sampler.observe(STEPS, torch.arange(STEPS), losses)
        p = sampler.probabilities(STEPS, losses.device)
        variances.append(float((p * (losses / (STEPS * p) - losses.mean()) ** 2).sum()))
    assert variances[1] < 1e-2 * variances[0]


def test_losses_of_all_processes_are_observed_without_their_weights() -> None:
    """Two processes with one half each, in two micro-batches, have the state of one process with all."""
    objectives = [
        VariationalBound(codec=LEVELS, grid=ALL, steps=STEPS - 1, step_sampler=SecondMoment(history=1))
        for _ in range(2)
    ]
    times = objectives[0].times(CHAIN, torch.device("cpu"))
    raw = torch.rand(STEPS, generator=torch.Generator().manual_seed(6)).double()
    whole = Loss(raw, times, raw)
    objectives[0].observe(CHAIN, [whole], lambda x: x)
    parts = [Loss(*(column[start : start + 3] for column in whole)) for start in (0, 6)]
    others = {id(column): column for part in parts for column in part}
    rest = {
        id(column): full[start + 3 : start + 6]
        for part, start in zip(parts, (0, 6), strict=True)
        for column, full in zip(part, whole, strict=True)
    }
    objectives[1].observe(CHAIN, parts, lambda x: torch.cat([others[id(x)], rest[id(x)]]))
    assert all(
        torch.equal(a, b)
        for a, b in zip(objectives[0].state().values(), objectives[1].state().values(), strict=True)
    )
    p = objectives[0].step_sampler.probabilities(STEPS, raw.device)
    weighted = raw / (STEPS * p)
    objectives[0].observe(CHAIN, [Loss(weighted, times, raw)], lambda x: x)
    torch.testing.assert_close(objectives[0].state()["losses"][:, 0], raw, rtol=1e-12, atol=0)


def test_what_does_not_fit_is_refused() -> None:
    x0 = data()
    with pytest.raises(ValueError, match=r"weight=0\.0 must be positive"):
        Hybrid(codec=LEVELS, weight=0.0)
    with pytest.raises(ValueError, match="steps=0"):
        VariationalBound(codec=LEVELS, steps=0)
    with pytest.raises(ValueError, match=r"uniform=0\.0"):
        SecondMoment(uniform=0.0)
    plain = gaussian.denoiser(CHAIN, gaussian.GaussianMoments(torch.zeros(3).double(), torch.eye(3).double()))
    with pytest.raises(ValueError, match="predicts none"):
        VariationalBound(codec=LEVELS, grid=ALL, steps=STEPS - 1)(plain, x0, noise=IID.seeded(0))
    with pytest.raises(ValueError, match="continuous data"):
        VariationalBound(codec=Affine(), grid=ALL, steps=STEPS - 1)(network(), x0, noise=IID.seeded(0))


class Plane(nn.Module):
    """Noise and variance of points in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([x, c_noise.unsqueeze(1)], 1)))


def test_a_resumed_training_draws_the_steps_of_an_unbroken_one(tmp_path: Path) -> None:
    """To the last bit, with the losses of the checkpoint; without them the weights are others."""

    def training(folder: str, steps: int) -> tuple[dict[str, Tensor], VariationalBound]:
        objective = VariationalBound(
            codec=Affine(),
            grid=DDPMLinspace(chain=4),
            steps=3,
            decoder=GaussianDecoder(),
            step_sampler=SecondMoment(history=1),
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = NetworkDenoiser(
                net=Plane(),
                sde=DDPM(betas=cosine_betas(steps=4)),
                parametrization=LearnedVariance(mean=Eps()),
            )
        made = trainer(
            tmp_path / folder,
            denoiser=model,
            objective=objective,
            conditioning=Unconditional(),
            stop=iter([*[False] * (steps - 1), True]).__next__,
        )
        made.run()
        return weights(made), objective

    unbroken, first = training("whole", 20)
    training("broken", 12)
    resumed, second = training("broken", 8)
    assert same(resumed, unbroken)
    assert same(first.state(), second.state())
    assert float(first.step_sampler.probabilities(4, torch.device("cpu")).std()) > 0.05
    training("forgetful", 12)
    for path in (tmp_path / "forgetful").rglob("objective.safetensors"):
        manifest = path.with_name("checkpoint.json")
        text = json.loads(manifest.read_text())
        del text["sha256"][path.name]
        manifest.write_text(json.dumps(text))
        path.with_name("checkpoint.json.sha256").write_text(hashlib.sha256(manifest.read_bytes()).hexdigest())
    assert not same(training("forgetful", 8)[0], unbroken)
