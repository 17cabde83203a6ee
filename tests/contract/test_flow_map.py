"""Flow maps: the exact map of a Gaussian on every process, the identities of the objectives, and their gradients."""

import copy

import numpy as np
import pytest
import torch

from sde_gen.denoiser import (
    ConsistencyModel,
    Denoiser,
    FlowMap,
    GaussianDenoiser,
    GaussianFlowMap,
    MixtureDenoiser,
    NetworkDenoiser,
    NetworkFlowMap,
    Prediction,
    ProbabilityFlow,
)
from sde_gen.denoiser.flow_map import direction
from sde_gen.denoiser.parametrization import EDM
from sde_gen.guidance import CFG
from sde_gen.model import MLP, Conditions, NCSNpp
from sde_gen.noise import IID, PerSample
from sde_gen.objective import Consistency, Lagrangian, MeanFlow, NoiseDraw, Shortcut
from sde_gen.sampler import Sampler
from sde_gen.solver import DDIM, Jump, NFECounter
from tests.helpers.catalogue import make, names

PROCESSES = names("sde")
TWO_TIMES = {"mean_flow": MeanFlow(), "lagrangian": Lagrangian(), "shortcut": Shortcut()}
UNWEIGHTED = {**TWO_TIMES, "mean_flow": MeanFlow(power=0.0)}
GAUSSIAN = {
    "mean": torch.tensor([0.4, -0.3], dtype=torch.float64),
    "cov": torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64),
}


def exact(name):
    return GaussianFlowMap(sde=make("sde", name), **GAUSSIAN)


class OneStep(GaussianDenoiser):
    """One step of DDIM as a map: the right denoiser, and no flow map."""

    def chord(self, x_t, t, s):
        return self(x_t, t)


def pairs(sde, count=7):
    """Times t > s over the whole process, its ends among them, and samples of every size of x_t."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.tensor([1.0, 1.0, 0.6, sde.t_min], dtype=torch.float64)
    s = torch.cat([torch.tensor([sde.t_min, 0.5]).double(), torch.rand(count, generator=generator).double()])
    t = torch.cat([ends[:2], s[2:] + (1 - s[2:]) * torch.rand(count, generator=generator).double()])
    s = s.clamp(min=sde.t_min)
    alpha, sigma = sde.marginal(t)
    noise = torch.randn(2, len(t), 2, generator=generator).double()
    return alpha[:, None] * noise[0] + sigma[:, None] * noise[1], torch.maximum(t, s), s


@pytest.mark.parametrize("name", PROCESSES)
def test_the_exact_map_starts_at_its_sample_and_follows_the_probability_flow(name):
    """The two properties that define it; the flow is that of the exact denoiser, by another formula."""
    model = exact(name)
    x, t, s = pairs(model.sde)
    torch.testing.assert_close(FlowMap(model)(x, t, t), x, rtol=1e-12, atol=1e-12)
    end, velocity = torch.func.jvp(lambda s: FlowMap(model)(x, t, s), (s,), (torch.ones_like(s),))
    flow = ProbabilityFlow(GaussianDenoiser(sde=model.sde, **GAUSSIAN))(end, s)
    torch.testing.assert_close(velocity, flow, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(FlowMap(model)(end, s, t), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("objective", TWO_TIMES)
@pytest.mark.parametrize("name", PROCESSES)
def test_identities_hold_at_the_exact_map(name, objective):
    model, objective = exact(name), TWO_TIMES[objective]
    x, t, s = pairs(model.sde)
    u = direction(model(x, t))  # of the flow itself
    for end in (s, t):
        residual = objective.residual(model, x, t, end, u)
        assert float(residual.abs().max()) < 1e-8 * float(1 + u.abs().max())
    wrong = OneStep(sde=model.sde, **GAUSSIAN)
    assert float(objective.residual(wrong, x, t, s, u).abs().max()) > 1e-2


@pytest.mark.parametrize("name", PROCESSES)
def test_points_of_a_trajectory_have_one_end(name):
    model, objective = exact(name), Consistency()
    x, t, s = pairs(model.sde)
    residual = objective.residual(model, x, t, FlowMap(model)(x, t, s), s)
    assert float(residual.abs().max()) < 1e-8
    r = objective.earlier(model.sde, t)
    assert bool(((r >= model.sde.t_min) & (r <= t)).all())
    assert bool((Consistency(stage=0.0).earlier(model.sde, t) == model.sde.t_min).all())


class Learned(GaussianFlowMap):
    """The map of a Gaussian in one dimension whose mean and log-variance are learned."""

    def __init__(self, sde, theta):
        super().__init__(sde=sde, mean=torch.zeros(1).double(), cov=torch.eye(1).double())
        del self.means, self.variances
        self.means, self.variances = theta[:1].reshape(1, 1), theta[1:].exp().reshape(1, 1)


def hermite():
    """Places and weights of N(0, 1), exact for polynomials below degree 24."""
    places, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(12))
    return places, weights / weights.sum()


def expected_gradient(objective, sde, t, s):
    """Of the true parameters, over data and noise by Gauss-Hermite quadrature."""
    places, weights = hermite()
    x0, eps = (part.reshape(-1, 1) for part in torch.meshgrid(places, places, indexing="ij"))
    weight = torch.outer(weights, weights).flatten()
    theta = torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)
    x0 = theta[0].detach() + (0.5 * theta[1].detach()).exp() * x0
    times = [torch.full((len(x0),), value, dtype=torch.float64) for value in (t, s)]
    draw = NoiseDraw(times[0], times[0], eps, times[1])
    (objective.loss(Learned(sde, theta), x0, draw).per_sample * weight).sum().backward()
    return theta.grad


@pytest.mark.parametrize("objective", UNWEIGHTED.values(), ids=UNWEIGHTED)
@pytest.mark.parametrize("name", PROCESSES)
def test_the_expected_gradient_is_zero_at_the_exact_map(name, objective):
    sde = make("sde", name)
    for t, s in ((0.9, 0.2), (0.5, 0.5)):
        assert float(expected_gradient(objective, sde, t, s).abs().max()) < 1e-9


def test_consistency_training_is_biased_by_the_step_between_its_times():
    """The gradient at the exact map vanishes with the step: it is halved, or more, by every stage."""
    found = [
        expected_gradient(Consistency(stage=stage), make("sde", "vp"), 0.6, 0.6).norm()
        for stage in (5.0, 6.0, 7.0)
    ]
    assert found[1] < 0.6 * found[0]
    assert found[2] < 0.6 * found[1]


class Quantiles(MixtureDenoiser):
    """The flow map in one dimension: it keeps the share of the data that lies below a sample."""

    def below(self, x, t):
        alpha, sigma = (part[:, None] for part in self.sde.marginal(t))
        spread = (alpha**2 * self.variances[:, 0] + sigma**2).sqrt()
        return (self.log_weights.exp() * torch.special.ndtr((x - alpha * self.means[:, 0]) / spread)).sum(
            1, keepdim=True
        )

    def end(self, x, t, s):
        share = self.below(x, t)
        with torch.no_grad():
            low, high = torch.full_like(x, -9.0), torch.full_like(x, 9.0)
            for _ in range(60):
                middle = 0.5 * (low + high)
                left = self.below(middle, s) < share
                low, high = torch.where(left, middle, low), torch.where(left, high, middle)
        return (
            low - (self.below(low, s) - share) / self.log_prob(low, s).exp()[:, None]
        )  # has the derivatives

    def chord(self, x, t, s):
        (alpha, sigma), (alpha_s, sigma_s) = (
            [part[:, None] for part in self.sde.marginal(time)] for time in (t, s)
        )
        end = self.end(x, t, s)
        determinant = alpha * sigma_s - sigma * alpha_s
        x0, eps = (sigma_s * x - sigma * end) / determinant, (alpha * end - alpha_s * x) / determinant
        return Prediction(x, x0, eps, alpha, sigma)


@pytest.mark.parametrize("objective", TWO_TIMES)
@pytest.mark.parametrize("name", ["vp", "rectified"])
def test_identities_hold_at_the_exact_map_of_a_mixture(name, objective):
    model = Quantiles(
        sde=make("sde", name),
        means=torch.tensor([[-1.0], [0.8]]).double(),
        covs=torch.tensor([[[0.1]], [[0.3]]]).double(),
        weights=torch.tensor([1.0, 2.0]),
    )
    t, s = torch.tensor([0.8, 0.6, 0.5]).double(), torch.tensor([0.1, 0.4, 0.2]).double()
    x = torch.tensor([[-0.7], [0.2], [1.1]]).double()
    residual = TWO_TIMES[objective].residual(model, x, t, s, direction(model(x, t)))
    assert float(residual.abs().max()) < 1e-8
    wrong = OneStep(
        sde=model.sde, **{key: value[:1] for key, value in GAUSSIAN.items()} | {"cov": torch.eye(1)}
    )
    assert float(TWO_TIMES[objective].residual(wrong, x, t, s, direction(model(x, t))).abs().max()) > 1e-2


def learned(kind=NetworkFlowMap, name="vp"):
    """A small network with random weights, and a batch of one pair of times each."""
    generator, sde = torch.Generator().manual_seed(0), make("sde", name)
    net = MLP(shape=(2,), width=8, depth=1, inputs=Conditions(until=kind is NetworkFlowMap)).double()
    for parameter in net.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator).double()
    x0, eps = torch.randn(2, 3, 2, generator=generator).double()
    t, s = torch.tensor([0.8, 0.4, 0.3]).double(), torch.tensor([0.1, 0.35, 0.3]).double()
    return kind(net=net, sde=sde), x0, NoiseDraw(t, t, eps, s)


def along(model, step):
    """The model whose weights have gone in a random direction, and the direction."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(1)
    way = [torch.randn(part.shape, generator=generator).double() for part in other.parameters()]
    for part, change in zip(other.parameters(), way, strict=True):
        part.data += step * change
    return other, way


def slope_of_differences(values, h=1e-4):
    """Richardson's derivative at zero, of fourth order."""
    coarse, fine = ((values(step) - values(-step)) / (2 * step) for step in (h, h / 2))
    return (4 * fine - coarse) / 3


@pytest.mark.parametrize("name", ["vp", "ve", "rectified"])
@pytest.mark.parametrize("objective", UNWEIGHTED.values(), ids=UNWEIGHTED)
def test_gradients_are_those_of_finite_differences_in_weights_and_times(objective, name):
    model, x0, draw = learned(name=name)
    sde, t, s = model.sde, draw.t, draw.s
    objective.loss(model, x0, draw).per_sample.sum().backward()
    gradient = sum(
        float((part.grad * way).sum())
        for part, way in zip(model.parameters(), along(model, 0)[1], strict=True)
    )

    def tau(t):
        alpha, sigma = sde.marginal(t)
        return sigma / (alpha + sigma)

    def path(t):
        alpha, sigma = (part[:, None] for part in sde.marginal(t))
        return alpha * x0 + sigma * draw.eps

    def of(model, x, t, s):
        return direction(model.chord(x, t, s))

    span = (tau(t) - tau(s))[:, None]
    if isinstance(objective, MeanFlow):
        change = slope_of_differences(lambda h: of(model, path(t + h), t + h, s)) / slope_of_differences(
            lambda h: tau(t + h)
        ).unsqueeze(1)
        target = (draw.eps - x0 - span * change).detach()

        def residual(other):
            return of(other, path(t), t, s) - target
    elif isinstance(objective, Shortcut):
        low, high = s, t  # the middle by bisection, and the mean slope from two jumps
        for _ in range(60):
            m = 0.5 * (low + high)
            left = 2 * tau(m) < tau(t) + tau(s)
            low, high = torch.where(left, m, low), torch.where(left, high, m)
        end = FlowMap(model)(FlowMap(model)(path(t), t, m), m, s)
        scaled = [x / sum(sde.marginal(time))[:, None] for x, time in ((path(t), t), (end, s))]
        mean = (scaled[0] - scaled[1]) / span
        target = torch.where((s == t)[:, None], draw.eps - x0, mean).detach()

        def residual(other):
            return of(other, path(t), t, s) - target
    else:
        end = FlowMap(model)(path(t), t, s)
        target = torch.where((s == t)[:, None], draw.eps - x0, direction(model(end, s))).detach()

        def residual(other):
            change = slope_of_differences(lambda h: of(other, path(t), t, s + h)) / slope_of_differences(
                lambda h: tau(s + h)
            ).unsqueeze(1)
            return of(other, path(t), t, s) - span * change - target

    with torch.no_grad():
        expected = slope_of_differences(lambda h: (residual(along(model, h)[0]) ** 2).mean(1).sum(), 1e-3)
    assert gradient == pytest.approx(float(expected), rel=1e-5)


def test_the_gradient_of_consistency_is_that_of_the_later_end():
    model, x0, draw = learned(ConsistencyModel)
    objective = Consistency()
    loss = objective.loss(model, x0, draw)
    loss.per_sample.sum().backward()
    gradient = sum(
        float((part.grad * way).sum())
        for part, way in zip(model.parameters(), along(model, 0)[1], strict=True)
    )
    r = objective.earlier(model.sde, draw.t)
    (alpha, sigma), (alpha_r, sigma_r) = map(model.sde.marginal, (draw.t, r))
    ends = []
    for a, b, time in ((alpha, sigma, draw.t), (alpha_r, sigma_r, r)):
        x = a[:, None] * x0 + b[:, None] * draw.eps
        ends.append(
            lambda other, x=x, time=time: FlowMap(other)(x, time, torch.full_like(time, other.sde.t_min))
        )
    with torch.no_grad():
        target = ends[1](model)
        error = ((ends[0](model) - target) ** 2).mean(1)
        weight = 1 / (sigma / alpha - sigma_r / alpha_r) / (error + objective.offset**2).sqrt()
        torch.testing.assert_close(loss.per_sample, weight * error)
        expected = slope_of_differences(
            lambda h: (weight * ((ends[0](along(model, h)[0]) - target) ** 2).mean(1)).sum(), 1e-3
        )
    assert gradient == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "objective", [*TWO_TIMES.values(), Consistency()], ids=lambda objective: type(objective).__name__
)
def test_losses_under_autocast_are_those_of_float32_up_to_rounding(objective):
    """With a group normalization, whose forward derivative has another dtype than its value under autocast."""
    net = NCSNpp(shape=(1, 8, 8), width=8, blocks=1, inputs=Conditions(until=True))
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    model = objective.trains(net=net, sde=make("sde", "vp"), parametrization=EDM())
    x0 = torch.randn(4, 1, 8, 8, generator=generator)
    draw = objective.draw(model.sde, x0, IID.seeded(0))
    expected = objective.loss(model, x0, draw).error
    with torch.autocast("cpu", torch.bfloat16):
        found = objective.loss(model, x0, draw).error
    torch.testing.assert_close(found, expected, rtol=0.1, atol=1e-3)
    found.mean().backward()
    assert all(
        parameter.grad is None or bool(parameter.grad.isfinite().all()) for parameter in net.parameters()
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_a_network_of_two_times_is_the_identity_and_a_denoiser_at_equal_ones(name):
    model, x0, draw = learned(name=name)
    x = x0 + draw.eps
    torch.testing.assert_close(FlowMap(model)(x, draw.t, draw.t), x, rtol=1e-10, atol=1e-10)
    plain = NetworkDenoiser(net=model.net, sde=model.sde)
    for chord in (model.chord(x, draw.t, draw.t), model(x, draw.t)):
        assert torch.equal(chord.x0, plain(x, draw.t).x0)
    assert not torch.equal(model.chord(x, draw.t, draw.s).x0[0], plain(x, draw.t).x0[0])
    bound = model.bind()
    assert torch.equal(bound.chord(x, draw.t, draw.s).x0, model.chord(x, draw.t, draw.s).x0)
    torch.testing.assert_close(model.chord(x, 0.7, 0.2).x0[:1], model.chord(x[:1], 0.7, 0.2).x0)


def test_what_is_no_flow_map_says_so():
    model, x0, draw = learned(ConsistencyModel)
    with pytest.raises(ValueError, match="no denoiser: sample with solver=jump"):
        model(x0, draw.t)
    with pytest.raises(ValueError, match="maps to t_min=1e-05 alone"):
        model.chord(x0, draw.t, draw.s)
    with pytest.raises(ValueError, match="GaussianDenoiser is no flow map"):
        FlowMap(GaussianDenoiser(sde=model.sde, **GAUSSIAN))(x0, 0.5, 0.1)
    single = NetworkFlowMap(net=model.net, sde=model.sde)
    with pytest.raises(ValueError, match="to a network without"):
        single.chord(x0, draw.t, draw.s)


@pytest.mark.parametrize("objective", TWO_TIMES)
def test_times_are_sorted_and_as_often_equal_as_set(objective):
    sde, x0 = make("sde", "vp"), torch.zeros(4000, 1)
    draw = TWO_TIMES[objective].draw(sde, x0, IID.seeded(0))
    equal = (draw.t == draw.s).double().mean()
    expected = TWO_TIMES[objective].diagonal
    assert abs(equal - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5  # false alarm below 1e-6
    assert bool(((draw.s >= sde.t_min) & (draw.s <= draw.t) & (draw.t <= 1)).all())
    part = draw.select(slice(3, 5))
    assert torch.equal(part.s, draw.s[3:5])
    assert torch.equal(part.eps, draw.eps[3:5])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MeanFlow(diagonal=1.5),
        lambda: Lagrangian(power=-1.0),
        lambda: MeanFlow(offset=0.0),
        lambda: Consistency(stage=-1.0),
        lambda: Consistency(ratio=1.0),
    ],
)
def test_impossible_settings(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()


@pytest.mark.parametrize("name", PROCESSES)
def test_jumps_of_the_exact_map_are_exact_in_any_number_of_steps(name):
    """One step, three steps, and the affine map from the prior to the data in closed form."""
    model, shape = exact(name), (4, 2)
    variances, axes = torch.linalg.eigh(GAUSSIAN["cov"])
    for steps in (1, 3):
        sampler = Sampler(solver=Jump(), steps=steps)
        x = sampler(model, shape, noise=PerSample(range(4)), dtype=torch.float64)
        times = sampler.grid(model.sde, steps)
        (alpha, sigma), (alpha_s, sigma_s) = map(model.sde.marginal, (times[0], times[-1]))
        z = PerSample(range(4)).normal(torch.empty(shape).double()) * sigma - alpha * GAUSSIAN["mean"]
        scale = ((alpha_s**2 * variances + sigma_s**2) / (alpha**2 * variances + sigma**2)).sqrt()
        expected = alpha_s * GAUSSIAN["mean"] + (z @ axes * scale) @ axes.T
        torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-8)
        assert sampler.nfe == steps


@pytest.mark.parametrize("renoise", [0.5, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_new_noise_keeps_the_distribution_of_the_exact_map(name, renoise):
    """Mean and covariance of the end, from an exact start: by zero noise and a unit of every number of it."""
    model = exact(name)
    times = torch.tensor([0.9, 0.5, 0.2, model.sde.t_min], dtype=torch.float64)
    marginals = [model.sde.marginal(time) for time in (times[0], times[-1])]
    (mean, cov), (mean_end, cov_end) = (
        (alpha * GAUSSIAN["mean"], alpha**2 * GAUSSIAN["cov"] + sigma**2 * torch.eye(2).double())
        for alpha, sigma in marginals
    )
    solver = Jump(renoise=renoise)
    assert solver.stochastic
    x = torch.cat([mean[None], mean + torch.linalg.cholesky(cov).T, mean.expand(4, 2)])
    out = solver.solve(model, x, times, noise=Impulses(first=3, dim=2))
    torch.testing.assert_close(out[0], mean_end, rtol=1e-9, atol=1e-9)
    part = out[1:] - out[0]
    torch.testing.assert_close(part.T @ part, cov_end, rtol=1e-8, atol=1e-9)


class Impulses:
    """A unit of noise for one number of one step in each row after the first few, and zero elsewhere."""

    def __init__(self, first, dim):
        self.first, self.dim, self.step = first, dim, 0

    def __call__(self, x, u0, u1):
        noise = torch.zeros_like(x)
        for place in range(self.dim):
            noise[self.first + self.step * self.dim + place, place] = 1
        self.step += 1
        return noise


@pytest.mark.parametrize("renoise", [0.3, 0.8])
@pytest.mark.parametrize("name", PROCESSES)
def test_new_noise_has_the_share_of_the_standard_deviation(name, renoise):
    """Jumps from one sample spread by the share of the noise at their end."""
    model, n = exact(name), 4000
    t, s = (torch.tensor(time, dtype=torch.float64) for time in (0.9, 0.6))
    x = torch.ones(n, 2, dtype=torch.float64)
    x_s, _ = Jump(renoise=renoise).step(model, x, t, s, None, IID.seeded(0))
    expected = renoise * float(model.sde.sigma(s))
    error = expected / (2 * x_s.numel()) ** 0.5
    found = (x_s - x_s.mean(0)).square().mean().sqrt()
    assert abs(float(found) - expected) < 4 * error


def test_a_consistency_model_needs_all_noise_anew():
    model, x0, _ = learned(ConsistencyModel)
    x = x0 * 0.9
    times = torch.tensor([0.9, 0.5, model.sde.t_min], dtype=torch.float64)
    with NFECounter(model) as counter:
        found = Jump(renoise=1.0).solve(model, x, times, noise=PerSample(range(3)))
    assert counter.calls == 2
    end = FlowMap(model)(x, 0.9, model.sde.t_min)
    scale, std = model.sde.transition(times[-1], times[1])
    middle = scale * end + std * PerSample(range(3))(x, 0.9, 0.5)
    torch.testing.assert_close(found, FlowMap(model)(middle, 0.5, model.sde.t_min), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"alone, not to \[0.5"):
        Jump().solve(model, x, times)
    with pytest.raises(ValueError, match="solver=jump"):
        Sampler(solver=DDIM(), steps=2)(model, (2, 2), noise=IID.seeded(0))


def test_jumps_need_a_flow_map_and_descending_times():
    model = GaussianDenoiser(sde=make("sde", "vp"), **GAUSSIAN)
    for guided in (model, model.bind(label=torch.zeros(2).long())):
        with pytest.raises(ValueError, match="GaussianDenoiser is no flow map"):
            Sampler(solver=Jump(), steps=1)(guided, (2, 2), noise=IID.seeded(0))
    with pytest.raises(ValueError, match="large to small times only"):
        Jump().solve(exact("vp"), torch.zeros(1, 2), torch.tensor([0.1, 0.5]).double())
    with pytest.raises(ValueError, match="must lie in"):
        Jump(renoise=2.0)


class Conditional(Denoiser):
    """Without a label the denoiser of one Gaussian; with one another's, or the given model, moved by theta."""

    def __init__(self, null, given, theta):
        super().__init__()
        self.sde, self.null, self.given, self.theta = null.sde, null, given, theta

    def forward(self, x_t, t, label=None):
        if label is None:
            return self.null(x_t, t)
        found = self.given(x_t, t)
        return found.with_x0(found.x0 + self.theta)

    def chord(self, x_t, t, s, **cond):
        return self(x_t, t, **cond)


@pytest.mark.parametrize("objective", [Lagrangian(guidance=3.0), MeanFlow(guidance=3.0, power=0.0)], ids=str)
def test_guidance_built_in_is_that_of_the_guided_model(objective):
    """At equal times the expected gradient is zero at CFG of the same scale, and nowhere near."""
    sde, one = make("sde", "vp"), torch.ones(1).double()
    null = GaussianDenoiser(sde=sde, mean=0 * one, cov=torch.eye(1).double())
    given = GaussianDenoiser(sde=sde, mean=0.3 * one, cov=0.5 * torch.eye(1).double())
    places, weights = hermite()
    x0, eps = (part.reshape(-1, 1) for part in torch.meshgrid(places, places, indexing="ij"))
    weight, t = torch.outer(weights, weights).flatten(), torch.full((144,), 0.5, dtype=torch.float64)
    draw, label = NoiseDraw(t, t, eps, t), torch.zeros(144).long()
    guided = CFG(denoiser=Conditional(null, given, 0.0), scale=3.0).bind(label=label)
    slopes = []
    for right in (guided, given):
        theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        loss = objective.loss(Conditional(null, right, theta), 0.3 + 0.5**0.5 * x0, draw, label=label)
        (loss.per_sample * weight).sum().backward()
        slopes.append(float(theta.grad))
    assert abs(slopes[0]) < 1e-10
    assert abs(slopes[1]) > 1e-2
    with pytest.raises(ValueError, match="needs conditions"):
        objective.loss(Conditional(null, given, 0.0), x0, draw)
