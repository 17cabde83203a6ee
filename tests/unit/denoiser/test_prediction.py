"""One call seen from every side, against the exact denoiser and autograd."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import MixtureDenoiser
from sde_gen.denoiser.prediction import Prediction
from tests.helpers.catalogue import make, names

TIMES = [torch.tensor(0.4, dtype=torch.float64), torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64)]


@pytest.fixture(params=names("sde"))
def exact(request: pytest.FixtureRequest) -> MixtureDenoiser:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 2, 2, dtype=torch.float64, generator=generator)
    covs = 0.1 * torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    return MixtureDenoiser(
        sde=make("sde", request.param), means=means, covs=covs, weights=torch.tensor([1.0, 2.0])
    )


def noised(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 2, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("t", TIMES, ids=["scalar", "batch"])
def test_every_way_in_gives_the_same(exact: MixtureDenoiser, t: Tensor) -> None:
    x_t, marginal = noised(), exact.sde.marginal(t)
    reference = exact(x_t, t)
    from_x0 = Prediction.from_x0(x_t, reference.x0, marginal)
    from_eps = Prediction.from_eps(x_t, reference.eps, marginal)
    with_x0 = Prediction.from_eps(x_t, 0 * x_t, marginal).with_x0(reference.x0)
    for other in (from_x0, from_eps, with_x0):
        for side in ("x0", "eps", "score", "v"):
            torch.testing.assert_close(getattr(other, side), getattr(reference, side), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("t", TIMES, ids=["scalar", "batch"])
def test_score_is_the_gradient_of_the_density(exact: MixtureDenoiser, t: Tensor) -> None:
    x_t = noised().requires_grad_()
    (gradient,) = torch.autograd.grad(exact.log_prob(x_t, t).sum(), x_t)
    torch.testing.assert_close(exact(x_t, t).score, gradient)


def test_v_is_the_derivative_along_the_angle() -> None:
    """On the unit circle, x_t = cos a x0 + sin a eps moves at speed v per angle a."""
    sde = make("sde", "cosine")
    x0, eps = noised(), noised().flip(0)
    t = torch.tensor(0.37, dtype=torch.float64)
    path = torch.func.jvp(lambda u: sde.alpha(u) * x0 + sde.sigma(u) * eps, (t,), (torch.ones_like(t),))
    x_t, speed = path
    prediction = Prediction.from_x0(x_t, x0, sde.marginal(t))
    angle = torch.func.jvp(lambda u: torch.atan2(sde.sigma(u), sde.alpha(u)), (t,), (torch.ones_like(t),))[1]
    torch.testing.assert_close(prediction.v * angle, speed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", TIMES, ids=["scalar", "batch"])
def test_dtype_and_aux(exact: MixtureDenoiser, t: Tensor, dtype: torch.dtype) -> None:
    x_t = noised(dtype)
    p = Prediction.from_eps(x_t, x_t, exact.sde.marginal(t), aux=torch.ones(3))
    for side in (p.x0, p.eps, p.score, p.v, p.with_x0(x_t).eps):
        assert side.dtype == dtype
        assert side.shape == x_t.shape
    assert p.with_x0(x_t).aux is p.aux


def test_new_x0_leaves_no_stale_score(exact: MixtureDenoiser) -> None:
    """The lazy sides of a replaced prediction are its own."""
    p = exact(noised(), TIMES[1])
    old = p.score, p.v
    new = p.with_x0(p.x0 + 1)
    assert (new.score != old[0]).all()
    torch.testing.assert_close(new.alpha * new.x0 + new.sigma * new.eps, p.x_t)
