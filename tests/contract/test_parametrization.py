"""The contract of a parametrization, for every file in conf/parametrization on every process."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import GaussianDenoiser
from sde_gen.denoiser.parametrization import EDM, Parametrization
from sde_gen.sde import SDE
from sde_gen.utils.broadcasting import broadcast_like
from tests.helpers.catalogue import make, names

PAIRS = [(name, sde) for name in names("parametrization") for sde in names("sde")]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[Parametrization, SDE]:
    name, sde = request.param
    return make("parametrization", name, sde=sde), make("sde", sde)


def batch(sde: SDE, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Clean samples, noise and noised samples with shape (6, 2, 3)."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 6, 2, 3, dtype=dtype, generator=generator)
    alpha, sigma = sde.marginal(t, like=x0)
    return x0, eps, alpha * x0 + sigma * eps


def all_times(sde: SDE) -> Tensor:
    return torch.tensor([sde.t_min, sde.t_min + 1e-4, 0.1, 0.4, 0.8, 0.99], dtype=torch.float64)


def each_shape(sde: SDE) -> list[Tensor]:
    t = all_times(sde)
    return [t, *t]


def test_predict_undoes_target(pair: tuple[Parametrization, SDE]) -> None:
    parametrization, sde = pair
    for t in each_shape(sde):
        x0, eps, x_t = batch(sde, t, torch.float64)
        marginal = sde.marginal(t)
        prediction = parametrization.predict(parametrization.target(x0, eps, marginal), x_t, marginal)
        tolerance = 1e-9 if float(marginal.sigma.min()) > 1e-4 else 1e-6  # x_t itself rounds eps
        torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-9)
        torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=tolerance)
        torch.testing.assert_close(
            prediction.score, -eps / broadcast_like(marginal.sigma, eps), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_output_predicts_a_pair_that_makes_x_t(
    pair: tuple[Parametrization, SDE], dtype: torch.dtype
) -> None:
    """An untrained network is wrong, but never inconsistent: alpha x0 + sigma eps = x_t."""
    parametrization, sde = pair
    for t in each_shape(sde):
        _, _, x_t = batch(sde, t, dtype)
        shape = (6, parametrization.outputs * 2, 3)
        out = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
        p = parametrization.predict(out, x_t, sde.marginal(t))
        parts = (p.alpha * p.x0).abs() + (p.sigma * p.eps).abs()
        error = (p.alpha * p.x0 + p.sigma * p.eps - x_t).abs() / parts
        assert p.x0.dtype == p.eps.dtype == p.score.dtype == dtype
        assert float(error.max()) <= 8 * torch.finfo(dtype).eps
        norm2 = (p.alpha**2 + p.sigma**2) * (p.x0**2 + p.eps**2)  # (x_t, v) is (x0, eps) turned and scaled
        torch.testing.assert_close(
            x_t**2 + p.v**2, norm2, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=0
        )


def test_float32_at_t_min(pair: tuple[Parametrization, SDE]) -> None:
    """What rounding x_t to float32 loses, and no more: eps / sigma and x0 / alpha of one rounding."""
    parametrization, sde = pair
    t = torch.tensor(sde.t_min, dtype=torch.float64)
    x0, eps, x_t = batch(sde, t, torch.float32)
    marginal = sde.marginal(t)
    prediction = parametrization.predict(parametrization.target(x0, eps, marginal), x_t, marginal)
    rounding = 8 * torch.finfo(torch.float32).eps * float(x_t.abs().max())
    assert float((prediction.x0 - x0).abs().max()) <= rounding / float(marginal.alpha)
    assert float((prediction.eps - eps).abs().max()) <= rounding * (1 + 1 / float(marginal.sigma))


def test_inputs(pair: tuple[Parametrization, SDE]) -> None:
    parametrization, sde = pair
    for t in [*each_shape(sde), torch.ones((), dtype=torch.float64), torch.ones(6, dtype=torch.float64)]:
        _, _, x_t = batch(sde, t, torch.float32)
        x_in, label = parametrization.inputs(x_t, sde.marginal(t), t)
        assert x_in.shape == x_t.shape
        assert x_in.dtype == torch.float32
        assert label.shape == t.shape
        assert torch.isfinite(label).all()
        assert torch.isfinite(x_in).all()


def test_label_tells_times_apart(pair: tuple[Parametrization, SDE]) -> None:
    parametrization, sde = pair
    t = all_times(sde)[:, None].repeat(1, 6)
    labels = [parametrization.inputs(torch.zeros(6, 1), sde.marginal(u), u)[1][0] for u in t]
    assert (torch.stack(labels).diff() > 0).all()


@pytest.mark.parametrize("name", names("parametrization"))
def test_start_of_the_straight_path(name: str) -> None:
    """Where alpha is zero only what predicts noise alone cannot say what x0 is."""
    parametrization, sde = make("parametrization", name, sde="rectified"), make("sde", "rectified")
    t = torch.ones((), dtype=torch.float64)
    x0, eps, x_t = batch(sde, t, torch.float64)
    marginal = sde.marginal(t)
    prediction = parametrization.predict(parametrization.target(x0, eps, marginal), x_t, marginal)
    torch.testing.assert_close(prediction.eps, eps)
    if name not in ("eps", "score", "learned_variance"):
        torch.testing.assert_close(prediction.x0, x0)


@pytest.mark.parametrize("sde", names("sde"))
@pytest.mark.parametrize("sigma_data", [0.3, 1.0])
def test_edm_input_and_target_have_unit_variance(sde: str, sigma_data: float) -> None:
    """By propagating unit vectors: input and target are linear in the independent (x0 / sigma_data, eps)."""
    parametrization, process = EDM(sigma_data=sigma_data), make("sde", sde)
    unit_x0 = torch.tensor([[sigma_data], [0.0]], dtype=torch.float64)
    unit_eps = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for t in [*all_times(process), torch.ones((), dtype=torch.float64)]:
        marginal = process.marginal(t)
        x_t = marginal.alpha * unit_x0 + marginal.sigma * unit_eps
        x_in, _ = parametrization.inputs(x_t, marginal, t)
        target = parametrization.target(unit_x0, unit_eps, marginal)
        assert float((x_in**2).sum()) == pytest.approx(1, abs=1e-12)
        assert float((target**2).sum()) == pytest.approx(1, abs=1e-12)
        assert float((x_in * target).sum()) == pytest.approx(
            0, abs=1e-12
        )  # nothing left for the skip to explain


@pytest.mark.parametrize("sde", names("sde"))
def test_edm_skip_is_the_best_linear_denoiser(sde: str) -> None:
    """With a network of zero, x0 is the posterior mean of Gaussian data, which the exact denoiser knows."""
    process = make("sde", sde)
    exact = GaussianDenoiser(sde=process, mean=torch.zeros(3), cov=0.25 * torch.eye(3))
    x_t = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for t in all_times(process):
        prediction = EDM(sigma_data=0.5).predict(torch.zeros_like(x_t), x_t, process.marginal(t))
        torch.testing.assert_close(prediction.x0, exact(x_t, t).x0)
        torch.testing.assert_close(prediction.eps, exact(x_t, t).eps)


def test_edm_equals_the_paper_on_its_own_process() -> None:
    """At alpha = 1, c_skip is the regression of x0 on x_t and c_out the std of what is left."""
    process = make("sde", "edm")
    generator = torch.Generator().manual_seed(4)
    x0 = 0.5 * torch.randn(400_000, 1, dtype=torch.float64, generator=generator)
    t = torch.tensor(0.01, dtype=torch.float64)
    x_t = x0 + process.sigma(t) * torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    one = torch.ones(1, 1, dtype=torch.float64)
    parametrization, marginal = EDM(sigma_data=0.5), process.marginal(t)
    skip = float(parametrization.predict(0 * one, one, marginal).x0)
    out = float(parametrization.predict(one, 0 * one, marginal).x0)
    assert skip == pytest.approx(float((x0 * x_t).mean() / (x_t**2).mean()), rel=0.01)
    assert out == pytest.approx(float((x0 - skip * x_t).std()), rel=0.01)


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, float("nan")])
def test_edm_refuses(sigma_data: float) -> None:
    with pytest.raises(ValueError, match="sigma_data"):
        EDM(sigma_data=sigma_data)
