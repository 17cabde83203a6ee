"""Strength of guidance: every scale, limit and gain in a value known from elsewhere."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.guidance_setup import _range
from sde_gen.data.codec import UniformCodec
from sde_gen.guidance import Autoguidance, ClassifierGuidance, Clip, DynamicThreshold
from sde_gen.inverse import PiGDM
from sde_gen.noise import IID
from sde_gen.sde import DDPM
from sde_gen.solver import Ancestral
from sde_gen.solver.callbacks import NFECounter
from tests.contract.test_guidance import LABELS, Labeled, samples
from tests.helpers.catalogue import make
from tests.unit.inverse import test_posterior_denoisers as gaussian

T = torch.tensor(0.4).double()


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.5])
def test_a_classifier_s_push_grows_with_its_scale(scale: float) -> None:
    """The exact classifier's whole push is the way from the mixture to the component."""
    model = Labeled(make("sde", "vp"))
    x = samples(model.sde, 0.4)
    free, held = model(x, T), model(x, T, label=LABELS)
    found = ClassifierGuidance(denoiser=model, classifier=model, scale=scale)(x, T, label=LABELS)
    torch.testing.assert_close(found.x0, free.x0 + scale * (held.x0 - free.x0))
    torch.testing.assert_close(found.eps, free.eps + scale * (held.eps - free.eps))


def test_model_that_receives_the_class_is_pushed_as_far() -> None:
    """From the component on, by the same gradient: the classifier does not depend on the conditioning of the model."""
    model = Labeled(make("sde", "vp"))
    x = samples(model.sde, 0.4)
    free, held = model(x, T), model(x, T, label=LABELS)
    found = ClassifierGuidance(denoiser=model, classifier=model, scale=2.5, pass_label=True)(
        x, T, label=LABELS
    )
    torch.testing.assert_close(found.x0, held.x0 + 2.5 * (held.x0 - free.x0))


def test_autoguidance_of_scale_1_is_the_model_and_does_not_call_the_weak_one() -> None:
    model, weak = Labeled(make("sde", "vp")), Labeled(make("sde", "vp"))
    x = samples(model.sde, 0.4)
    with NFECounter(weak) as counter:
        found = Autoguidance(denoiser=model, weak=weak, scale=1.0)(x, T)
    assert counter.calls == 0
    assert torch.equal(found.x0, model(x, T).x0)


def test_a_threshold_keeps_to_its_limit() -> None:
    model = Labeled(make("sde", "vp"))
    x = 4 * samples(model.sde, 0.4)
    free = model(x, T).x0
    found = DynamicThreshold(denoiser=model, quantile=1.0, limit=0.5)(x, T).x0
    over = free.abs().amax(1) > 0.5
    assert bool(over.any())
    torch.testing.assert_close(found[over].abs().amax(1), torch.full((int(over.sum()),), 0.5).double())
    assert torch.equal(found[~over], free[~over])


def test_clipping_moves_what_lies_outside_and_nothing_else() -> None:
    model = Labeled(make("sde", "vp"))
    x = 4 * samples(model.sde, 0.4)
    free, found = model(x, T), Clip(denoiser=model, low=-0.5, high=0.25)(x, T)
    inside = (free.x0 > -0.5) & (free.x0 < 0.25)
    assert all(bool(part.any()) for part in (inside, free.x0 < -0.5, free.x0 > 0.25))
    assert torch.equal(found.x0[inside], free.x0[inside])
    assert bool((found.x0[free.x0 < -0.5] == -0.5).all())
    assert bool((found.x0[free.x0 > 0.25] == 0.25).all())
    torch.testing.assert_close(found.alpha * found.x0 + found.sigma * found.eps, x)
    with pytest.raises(ValueError, match=r"low=1, high=1: expected low < high"):
        Clip(denoiser=model, low=1, high=1)


def test_continuous_data_have_no_range_to_clip_to() -> None:
    """Clipping needs both bounds for continuous data; those of data with levels are the centers of the outer bins."""
    node = OmegaConf.create({"_target_": "sde_gen.guidance.Clip", "low": None, "high": 2.0})
    vectors = SimpleNamespace(folder="runs/moons", data_spec=DataSpec(shape=(2,), levels=None, classes=0))
    with pytest.raises(ValueError, match=r"runs/moons are continuous .* guidance.low=-1"):
        _range(node, vectors)  # type: ignore[arg-type]
    node.low = -2.0
    assert _range(node, vectors) == {"low": -2.0, "high": 2.0}  # type: ignore[arg-type]
    images = SimpleNamespace(
        data_spec=DataSpec(shape=(1, 8, 8), levels=4, classes=0), codec=UniformCodec(levels=4)
    )
    node.low = None
    assert _range(node, images) == {"low": -0.75, "high": 2.0}  # type: ignore[arg-type]


def test_clipped_ancestral_steps_are_guided_diffusion_s() -> None:
    """Mean of the posterior at the clipped clean sample, from the chain's betas alone, and its variance."""
    betas = np.linspace(0.02, 0.4, 8)
    kept, before = np.cumprod(1 - betas), np.append(1.0, np.cumprod(1 - betas)[:-1])
    sde = DDPM(betas=tuple(betas))
    times = torch.arange(8, 0, -1, dtype=torch.float64) / 8
    model = Labeled(sde)
    start, draws = (
        3 * samples(sde, 0.4),
        [IID.seeded(k).normal(torch.empty(12, 2).double()) for k in range(7)],
    )
    x = start
    for step, z in zip(range(7, 0, -1), draws, strict=True):
        clean = model(x, times[7 - step]).x0.clamp(-0.5, 0.5)
        beta, a, b = betas[step], kept[step], before[step]
        mean = beta * b**0.5 / (1 - a) * clean + (1 - b) * (1 - beta) ** 0.5 / (1 - a) * x
        x = mean + (beta * (1 - b) / (1 - a)) ** 0.5 * z

    class Given:
        """Noise with given values."""

        left = iter(draws)

        def __call__(self, x: torch.Tensor, u0: float, u1: float) -> torch.Tensor:
            return next(self.left)

        fresh = uniform = None

    clipped = Clip(denoiser=model, low=-0.5, high=0.5)
    found = Ancestral().solve(clipped, start, times, noise=Given())  # type: ignore[arg-type]
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found, Ancestral().solve(model, start, times, noise=IID.seeded(0)))


def test_pigdm_differentiates_the_network_in_front_and_not_inside() -> None:
    """On correlated data, where the two covariances differ; the derivative is taken by autograd, sample by sample."""
    process = make("sde", "vp")
    prior, rows, y = gaussian.prior(process), gaussian.ROWS, gaussian.Y
    x = gaussian.samples(process, T)
    alpha, sigma = process.marginal(T)
    method = PiGDM(
        denoiser=prior, operator=gaussian.measuring(rows), y=y, noise_std=gaussian.STD, data_std=0.7
    )
    variance = 1 / (1 / 0.7**2 + (alpha / sigma) ** 2)
    inverse = torch.linalg.inv(variance * rows @ rows.T + gaussian.STD**2 * torch.eye(2).double())
    for row, found in zip(x, method(x, T).x0, strict=True):
        slope = torch.autograd.functional.jacobian(lambda v: prior(v[None], T).x0[0], row)
        x0 = prior(row[None], T).x0[0]
        exact = x0 + sigma**2 / alpha * slope.T @ rows.T @ inverse @ (y[0] - rows @ x0)
        torch.testing.assert_close(found, exact)
