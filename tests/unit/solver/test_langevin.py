"""Correctors: what they do to a sample, and that they leave the marginal alone."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser
from sde_gen.noise import IID, Noise, PerSample
from sde_gen.sde import SDE
from sde_gen.solver import AffineLangevin, BatchLangevin, Langevin, PredictorCorrector, StepSolver
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")


class ConstantNoise:
    """The same noise at every draw."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def normal(self, x: Tensor) -> Tensor:
        return self.z

    def __call__(self, x: Tensor, u0: float, u1: float) -> Tensor:
        raise AssertionError("a corrector does not move along the path")

    def uniform(self, x: Tensor) -> Tensor:
        raise AssertionError("a corrector needs no uniform numbers")


@dataclass(frozen=True, kw_only=True)
class Still(StepSolver[None]):
    """A predictor that does nothing, so that the corrector is seen alone."""

    order: ClassVar[int] = 9
    stochastic: ClassVar[bool] = False

    def step(
        self, model: Denoiser, x_t: Tensor, t: Tensor, s: Tensor, state: None, noise: Noise
    ) -> tuple[Tensor, None]:
        """Return the samples unchanged."""
        return x_t, None

    def nfe(self, steps: int) -> int:
        """Return 0: the denoiser is not called."""
        return 0


def interval(sde: SDE, width: float = 0.5) -> tuple[Tensor, Tensor]:
    """Times t > s around equal noise and signal."""
    t, s = sde.t_from_log_snr(torch.tensor([-1.0, -1.0 + width], dtype=torch.float64))
    return t, s


def parts(
    corrector: Langevin, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Drift and noise of one move: half the sum and half the difference of the moves by z and -z."""
    up, down = (corrector.correct(model, x, t, s, ConstantNoise(sign * z)) - x for sign in (1, -1))
    return 0.5 * (up + down), 0.5 * (up - down)


@pytest.mark.parametrize("sde", SDES)
def test_ratio_of_drift_to_noise_is_the_snr(sde: str) -> None:
    """Song et al. define r by it; per sample, and on every process, sub-VP included (defect 1)."""
    process, r = make("sde", sde), 0.1
    model, (t, s) = oracles.denoiser(process), interval(process)
    x, z = oracles.to_x(process, oracles.starts(8), s), IID.seeded(0).normal(torch.empty(8, 2).double())
    drift, noise = parts(Langevin(snr=r), model, x, t, s, z)
    # x_t = scale x_s + std eps; the paper's factor is scale^2, 1 on VE and 1 - beta on VP
    scale = float(process.transition(s, t).scale)
    torch.testing.assert_close(drift.norm(dim=1) / noise.norm(dim=1), torch.full((8,), r * scale).double())
    # both from one step size h: drift = h score, noise = sqrt(2 h) z
    h = 0.5 * (noise / z) ** 2
    torch.testing.assert_close(drift, h * model(x, s).score)


def test_paper_s_variant_couples_the_batch_and_says_so() -> None:
    """score_sde averages norms over the batch (defect 4)."""
    sde = make("sde", "vp")
    model, (t, s) = oracles.denoiser(sde), interval(sde)
    x, z = oracles.to_x(sde, oracles.starts(8), s), IID.seeded(0).normal(torch.empty(8, 2).double())
    for kind, coupled in ((Langevin, False), (BatchLangevin, True)):
        together = kind(snr=0.05).correct(model, x, t, s, ConstantNoise(z))[:1]
        alone = kind(snr=0.05).correct(model, x[:1], t, s, ConstantNoise(z[:1]))
        assert kind.batch_coupled == coupled
        assert bool(((together - alone).abs() > 1e-6).any()) == coupled
    one = [kind().correct(model, x[:1], t, s, ConstantNoise(z[:1])) for kind in (Langevin, BatchLangevin)]
    torch.testing.assert_close(*one)
    _, noise = parts(BatchLangevin(snr=0.05), model, x, t, s, z)
    h = 0.5 * (noise / z) ** 2
    torch.testing.assert_close(h, h.mean().expand_as(h))
    g = model(x, s).score
    scale = sde.transition(s, t).scale
    ratio = (torch.sqrt(h.mean() / 2) * g.norm(dim=1).mean() / z.norm(dim=1).mean()).double()
    torch.testing.assert_close(ratio, 0.05 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-6])
@pytest.mark.parametrize("kind", [Langevin, BatchLangevin, AffineLangevin])
def test_no_division_by_a_score_of_zero(kind: type, distance: float, dtype: torch.dtype) -> None:
    """At the mode of a Gaussian the score is zero; the move stays of the order of sigma."""
    sde = make("sde", "vp")
    t, s = interval(sde)
    model = gaussian.denoiser(sde, gaussian.WHITE)
    x = torch.full((1, 2), distance, dtype=dtype)
    for z in (torch.zeros_like(x), torch.ones_like(x)):
        moved = kind().correct(model, x, t, s, ConstantNoise(z)) - x
        assert moved.dtype == dtype
        assert float(moved.norm()) <= 1.5 * float(sde.sigma(s)) * float(z.norm()) + 1e-5


@pytest.mark.parametrize("kind", [Langevin, BatchLangevin])
def test_the_paper_s_step_has_no_limit(kind: type[Langevin]) -> None:
    """Near the mode of a Gaussian the ratio of norms is large: h is the paper's, or sigma^2 where limited."""
    sde = make("sde", "vp")
    model, (t, s) = gaussian.denoiser(sde, gaussian.WHITE), interval(sde)
    x = torch.tensor([[1e-2, -2e-2]]).double()
    z = torch.tensor([[1.3, 0.4]]).double()
    steps = []
    for limited in (False, True):
        _, noise = parts(kind(snr=0.2, limited=limited), model, x, t, s, z)
        steps.append(float((0.5 * (noise / z) ** 2)[0, 0]))
    # the marginal of white data is white: the score is -x, and the scale of a step of VP is alpha_t / alpha_s
    expected = 2 * (0.2 * float(sde.alpha(t) / sde.alpha(s)) * float(z.norm() / x.norm())) ** 2
    assert steps[0] == pytest.approx(expected, rel=1e-6)
    assert steps[1] == pytest.approx(float(sde.sigma(s)) ** 2, rel=1e-6)
    assert steps[0] > 100 * steps[1]


@pytest.mark.parametrize("sde", ["vp", "sub_vp", "ve", "edm"])
@pytest.mark.parametrize("kind", [Langevin, BatchLangevin])
def test_moves_leave_the_marginal_nearly_alone(kind: type[Langevin], sde: str) -> None:
    """In many dimensions the norms are nearly constant and the variance becomes 1 + h^2 with h = 2 r^2 scale^2.

    Five standard errors of 131,072 numbers on variance and mean: a false alarm in one of 800,000 seeds.
    """
    process, r, dim, count = make("sde", sde), 0.16, 256, 512
    t, s = interval(process)
    zeros = torch.zeros(dim, dim, dtype=torch.float64)
    model = GaussianDenoiser(sde=process, mean=torch.full((dim,), 0.3).double(), cov=zeros)
    alpha, sigma = process.marginal(s)
    x = alpha * 0.3 + sigma * IID.seeded(5).normal(torch.empty(count, dim, dtype=torch.float64))
    moved = kind(snr=r).correct(model, x, t, s, IID.seeded(6))
    u, error = (moved - alpha * 0.3) / sigma, (count * dim) ** -0.5
    h = 2 * (r * float(process.transition(s, t).scale)) ** 2
    assert float((moved - x).square().mean()) > h * float(sigma) ** 2, "it must move"
    assert abs(float(u.square().mean()) - (1 + h**2)) < 5 * 2**0.5 * error + 0.25 * h**2
    assert abs(float(u.mean())) < 5 * error


@pytest.mark.parametrize("sde", SDES)
def test_affine_moves_leave_the_marginal_alone(sde: str) -> None:
    """Exactly for data at a point, to second order in the move's length for other data."""
    process = make("sde", sde)
    for eta, steps in ((0.5, 3), (2.0, 1)):
        alone = PredictorCorrector(predictor=Still(), corrector=AffineLangevin(eta=eta, steps=steps))
        times = torch.stack(interval(process))
        end = gaussian.propagate(
            alone,
            gaussian.denoiser(process, gaussian.POINT),
            times,
            gaussian.marginal(process, times[1], gaussian.POINT),
        )
        assert max(gaussian.moment_errors(process, times[1], end, gaussian.POINT)) < 1e-12
    gaps = []
    for eta in (0.5, 1.0):
        alone = PredictorCorrector(predictor=Still(), corrector=AffineLangevin(eta=eta))
        end = gaussian.propagate(
            alone, gaussian.denoiser(process), times, gaussian.marginal(process, times[1])
        )
        mean, cov = gaussian.moment_errors(process, times[1], end)
        assert mean < 1e-12
        gaps.append(cov)
    assert gaps[1] / gaps[0] == pytest.approx(4**2)  # the length goes with eta^2


def test_affine_moves_correct_a_wrong_distribution() -> None:
    """From a point the distribution relaxes to the marginal; with a sign error it would diverge."""
    sde = make("sde", "sub_vp")
    t, s = interval(sde, 0.2)
    alone = PredictorCorrector(predictor=Still(), corrector=AffineLangevin(steps=60))
    exact = gaussian.marginal(sde, s)
    wrong = gaussian.GaussianMoments(exact.mean + 1, torch.zeros(2, 2, dtype=torch.float64))
    end = gaussian.propagate(alone, gaussian.denoiser(sde), torch.stack([t, s]), wrong)
    assert float((end.mean - exact.mean).norm()) < 0.2
    assert float((end.cov - exact.cov).norm()) < 0.1 * float(exact.cov.norm())


@pytest.mark.parametrize("kind", [Langevin, AffineLangevin])
@pytest.mark.parametrize("event", [(2,), (2, 1), (1, 1, 2)])
def test_any_event_shape(kind: type, event: tuple[int, ...]) -> None:
    sde = make("sde", "vp")
    t, s = interval(sde)
    x = oracles.to_x(sde, oracles.starts(4), s)
    flat = kind().correct(oracles.denoiser(sde), x, t, s, PerSample(range(4)))
    shaped = kind().correct(
        oracles.denoiser(sde, event=event), x.reshape(4, *event), t, s, PerSample(range(4))
    )
    torch.testing.assert_close(shaped.reshape(4, 2), flat, rtol=1e-12, atol=1e-12)


def test_invalid_settings_are_refused() -> None:
    for kind in (Langevin, BatchLangevin, AffineLangevin):
        with pytest.raises(ValueError, match="steps=0"):
            kind(steps=0)
    for snr in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="snr="):
            Langevin(snr=snr)
    for eta in (0.0, 2.1, float("nan")):
        with pytest.raises(ValueError, match="eta="):
            AffineLangevin(eta=eta)
