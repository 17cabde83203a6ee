"""Losses of the noise's error against SciPy, and noise of a batch against its exact covariance and enumeration."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import scipy.special
import torch
from torch import Tensor

from sde_gen.denoiser import GaussianDenoiser
from sde_gen.noise import IID
from sde_gen.objective import DSM
from sde_gen.objective.pointwise_loss import AbsoluteError, Huber, PointwiseLoss, PseudoHuber, SquaredError
from sde_gen.objective.training_noise import ImmiscibleNoise, IndependentNoise, OffsetNoise
from sde_gen.sde import VP
from tests.helpers.catalogue import make, names
from tests.helpers.tiny_run import trainer

SCIPY: list[tuple[PointwiseLoss, Callable[[np.ndarray], np.ndarray]]] = [
    (SquaredError(), lambda d: d * d),
    (AbsoluteError(), np.abs),
    (Huber(delta=0.3), lambda d: scipy.special.huber(0.3, d)),
    (PseudoHuber(delta=0.3), lambda d: scipy.special.pseudo_huber(0.3, d)),
]


@pytest.mark.parametrize(("loss", "oracle"), SCIPY, ids=lambda value: type(value).__name__)
def test_losses_are_scipy_s(loss: PointwiseLoss, oracle: Callable[[np.ndarray], np.ndarray]) -> None:
    d = torch.cat([torch.linspace(-3, 3, 100), torch.tensor([0.0, 1e-6])]).double().reshape(2, 3, 17)
    np.testing.assert_allclose(loss(d), oracle(d.numpy()).reshape(2, -1).mean(1), rtol=1e-9)


@pytest.mark.parametrize("name", names("pointwise_loss"))
def test_the_loss_of_a_training_is_that_of_the_error_of_the_noise(name: str) -> None:
    """Weighted by time; the reported error stays the squared one, and only the loss has a gradient."""
    loss, sde = make("pointwise_loss", name), VP()
    model = GaussianDenoiser(sde=sde, mean=torch.zeros(3).double(), cov=torch.eye(3).double())
    x0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    objective = DSM(pointwise_loss=loss)
    draw = objective.draw(sde, x0, IID.seeded(1))
    found = objective.loss(model, x0, draw)
    alpha, sigma = sde.marginal(draw.t, like=x0)
    difference = model(alpha * x0 + sigma * draw.eps, draw.t).eps - draw.eps
    torch.testing.assert_close(found.per_sample * draw.density, loss.pointwise(difference).mean(1))
    torch.testing.assert_close(found.error, difference.square().mean(1).detach())
    assert found.per_sample.requires_grad
    assert not found.error.requires_grad


class Impulses:
    """Noise whose draws are parts of a unit vector, one row per entry: a linear map's columns."""

    def __init__(self, *sizes: int) -> None:
        self.parts = list(torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1))

    def normal(self, x: Tensor) -> Tensor:
        return self.parts.pop(0).reshape(x.shape)


def test_offset_noise_has_its_covariance_exactly() -> None:
    """I + s^2 within a channel, nothing between channels; by unit impulses of every number that is drawn."""
    columns = OffsetNoise(strength=0.4)(torch.zeros(14, 2, 2, 3).double(), Impulses(12, 2)).flatten(1)  # type: ignore[arg-type]
    channel = torch.block_diag(torch.ones(6, 6), torch.ones(6, 6)).double()
    torch.testing.assert_close(columns.mT @ columns, torch.eye(12).double() + 0.16 * channel)
    with pytest.raises(ValueError, match="no channels"):
        OffsetNoise()(torch.zeros(2, 3), IID.seeded(0))


def test_assigned_noise_is_the_nearest_of_all_orders() -> None:
    """By enumeration of the 120 orders of five samples; the noise is that of independent draws, in another order."""
    x0 = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    drawn, found = IID.seeded(1).normal(x0), ImmiscibleNoise()(x0, IID.seeded(1))

    def distance(eps: Tensor) -> float:
        return float((x0 - eps).double().square().sum())

    least = min(distance(drawn[list(order)]) for order in permutations(range(5)))
    assert distance(found) == pytest.approx(least, rel=1e-12)
    assert distance(found) < distance(drawn)
    assert sorted(map(tuple, found.flatten(1).tolist())) == sorted(map(tuple, drawn.flatten(1).tolist()))
    assert torch.equal(IndependentNoise()(x0, IID.seeded(1)), drawn)


def test_a_training_with_assigned_noise_reads_whole_batches(tmp_path: object) -> None:
    """Also where a process otherwise reads its share only."""
    objective = DSM(training_noise=ImmiscibleNoise())
    assert objective.batch_coupled
    assert not DSM(training_noise=OffsetNoise()).batch_coupled
    made = trainer(tmp_path, objective=objective, settings={"images": 16})  # type: ignore[arg-type]
    assert made.train_step.loader.whole


@pytest.mark.parametrize(
    "wrong", [lambda: Huber(delta=0.0), lambda: PseudoHuber(delta=-1.0), lambda: OffsetNoise(strength=0.0)]
)
def test_impossible_settings(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        wrong()
