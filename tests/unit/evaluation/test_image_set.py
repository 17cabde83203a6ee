"""The null of sample metrics: a Gaussian with the moments of the pixels."""

import pytest
import torch

from sde_gen.evaluation.image_set import MOST_PIXELS, FittedGaussian


def test_draws_of_a_fitted_gaussian_have_the_moments_of_the_images() -> None:
    """Rounded to the nearest level, so that the mean is not lower by a half; errors below 5 standard errors."""
    n, generator = 100_000, torch.Generator().manual_seed(0)
    z = torch.randn(2000, 2, generator=generator)
    pixels = torch.stack([100 + 20 * z[:, 0], 120 + 12 * z[:, 0] + 16 * z[:, 1]], 1)
    images = pixels.round().to(torch.uint8).reshape(-1, 1, 1, 2)
    drawn = FittedGaussian(images).draw(n, seed=1)
    assert drawn.shape == (n, 1, 1, 2)
    x, y = images.flatten(1).double(), drawn.flatten(1).double()
    assert y.mean(0) == pytest.approx(x.mean(0), abs=5 * 20 / n**0.5)
    rounding = torch.eye(2).double() / 12
    assert torch.cov(y.mT) - rounding == pytest.approx(torch.cov(x.mT), rel=5 * (2 / n) ** 0.5 * 2)


def test_draws_of_a_fitted_gaussian_stay_within_the_levels() -> None:
    images = torch.tensor([235, 255], dtype=torch.uint8).reshape(-1, 1, 1, 1)
    drawn = FittedGaussian(images).draw(1000, seed=0)
    assert int(drawn.max()) == 255
    assert int(drawn.min()) > 150, "no overflow"
    with pytest.raises(ValueError, match="too large a covariance; at most 4096"):
        FittedGaussian(torch.zeros(2, 1, 1, MOST_PIXELS + 1, dtype=torch.uint8))
