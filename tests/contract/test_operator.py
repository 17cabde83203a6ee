"""Contract of all measurements: linearity where declared, the transpose, clear errors for inputs that do not fit."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data.codec import UniformCodec
from sde_gen.inverse.operator import (
    JPEG,
    AveragePool,
    Blur,
    CompressedSensing,
    Function,
    Gray,
    Mask,
    Operator,
)
from sde_gen.inverse.operator.conjugate_gradients import conjugate_gradients
from sde_gen.noise import IID
from tests.helpers.catalogue import make, names

NOT_LINEAR = ("jpeg",)
OPERATORS: dict[str, Operator] = {
    name: make("operator", name) for name in names("operator") if name not in NOT_LINEAR
}
OPERATORS["mask"] = Mask(mask=torch.arange(64).reshape(8, 8) % 3 == 0)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Images in float64 with shape (count, 3, 8, 8)."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", OPERATORS)
def test_is_linear_and_takes_samples_one_by_one(name: str) -> None:
    operator, x, z = OPERATORS[name], images(3), images(3, seed=1)
    assert operator.linear
    torch.testing.assert_close(operator(2 * x - z), 2 * operator(x) - operator(z))
    torch.testing.assert_close(operator(x)[1:2], operator(x[1:2]))


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_is_the_transpose(name: str) -> None:
    operator, x = OPERATORS[name], images(2)
    y = torch.randn(operator(x).shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y, x)).sum())


@pytest.mark.parametrize("name", OPERATORS)
def test_projection_measures_what_it_should_and_moves_no_further(name: str) -> None:
    operator, x = OPERATORS[name], images(2)
    y = operator(images(2, seed=3))  # what some image measures
    moved = operator.project(x, y, steps=400)
    torch.testing.assert_close(operator(moved), y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(operator.project(moved, y, steps=400), moved, rtol=1e-4, atol=1e-4)
    seen = operator.adjoint(operator(torch.randn_like(x)), x)
    other = images(2, seed=4)
    unseen = other - operator.project(
        torch.zeros_like(x), operator(other), steps=400
    )  # A measures nothing of it
    torch.testing.assert_close(((moved - x) * unseen).sum(), torch.zeros(()).double(), rtol=0, atol=1e-2)
    assert float((seen * unseen).sum().abs()) < 1e-2


def test_values_that_are_known() -> None:
    x = images(2)
    torch.testing.assert_close(Gray()(x)[:, 0], (x[:, 0] + x[:, 1] + x[:, 2]) / 3)
    torch.testing.assert_close(AveragePool(factor=4)(x)[0, 1, 1, 0], x[0, 1, 4:, :4].mean())
    kept = OPERATORS["mask"](x)
    assert bool((kept[..., 0, 0] == x[..., 0, 0]).all() and (kept[..., 0, 1] == 0).all())
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(Blur(std=1.5)(flat), flat)
    point = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    point[..., 7, 7] = 1
    spread = Blur(std=2.0)(point)[0, 0]
    place = torch.arange(15) - 7.0
    variance = float((spread.sum(0) * place**2).sum())
    assert 3.7 < variance < 4.0, "variance std^2, less what is cut off beyond three of them"
    matrix = CompressedSensing(rows=4000, seed=3)(torch.eye(3, dtype=torch.float64)).T
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.1)


def test_a_function_of_the_user_s_has_the_adjoint_of_its_derivative() -> None:
    cube, x = Function(function=lambda x: x**3), images(1)
    assert not cube.linear
    torch.testing.assert_close(cube.adjoint(torch.ones_like(x), x), 3 * x**2)
    with pytest.raises(ValueError, match="has no derivative"):
        Function(function=lambda x: x.detach() ** 3).adjoint(torch.ones_like(x), x)


def test_projection_takes_a_measurement_that_no_image_has() -> None:
    """A whole image in place of what a mask leaves of it: what is hidden is no matter."""
    mask, x, whole = OPERATORS["mask"], images(2), images(2, seed=3)
    torch.testing.assert_close(mask.project(x, whole), mask.project(x, mask(whole)))
    seen = mask.noised(x, 0.1, IID.seeded(0))
    torch.testing.assert_close(mask(seen), seen, rtol=0, atol=0)
    assert float((seen - mask(x))[..., 0, 0].std()) == pytest.approx(0.1, rel=0.6)


def test_conjugate_gradients_stop_where_the_map_is_not_positive() -> None:
    """One direction down: the step that would be taken along it is without bound."""
    diagonal = torch.tensor([[3.0, 1.0, -1e-9], [3.0, 1.0, 2.0]]).double()
    b = torch.ones(2, 3).double()
    found = conjugate_gradients(lambda v: diagonal * v, b, 50)
    torch.testing.assert_close(found[1], b[1] / diagonal[1])
    assert float(found[0].abs().max()) < 10


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillow_s_and_compresses_again_to_nearly_itself(channels: int) -> None:
    k = torch.randint(256, (4, channels, 16, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    x = UniformCodec(levels=256).encode(k, IID.seeded(0)).double()  # anywhere within the levels' bins
    found = JPEG(quality=30)(x)
    for i, image in enumerate(k):
        file = io.BytesIO()
        mode, pixels = ("L", image[0]) if channels == 1 else ("RGB", image.permute(1, 2, 0))
        Image.fromarray(pixels.numpy(), mode).save(file, "JPEG", quality=30, subsampling="4:4:4")
        seen = torch.from_numpy(np.array(Image.open(file))).reshape(16, 24, channels).permute(2, 0, 1)
        assert torch.equal(found[i].float(), UniformCodec(levels=256).encode(seen))
        assert float((seen.int() - image.int()).abs().max()) > 20
    assert not JPEG().linear
    assert torch.equal(JPEG(quality=30)(x[1:2]), found[1:2])
    smooth = Blur(std=3.0)(x)  # in range, so that nothing is cut off
    once = JPEG(quality=30)(smooth)
    assert float((JPEG(quality=30)(once) - once).abs().mean()) < 0.1 * float((once - smooth).abs().mean())


def test_jpeg_has_the_derivative_of_its_mean_over_shifted_bins() -> None:
    """Gray blocks, whose mean alone is changed: shifts over one bin average the rounding out, and leave slope 1."""
    width = (
        16 / 128 / 8
    )  # of the first coefficient's bin at quality 50, in model space: the table's 16 over 8 pixels
    shift = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 * width

    def mean(level: float) -> torch.Tensor:
        blocks = torch.full((400, 1, 8, 8), level, dtype=torch.float64) + shift[:, None, None, None]
        return (JPEG(quality=50)(blocks).mean((1, 2, 3)) - shift).mean()

    slope = (mean(0.3 + 0.7 * width) - mean(0.3)) / (0.7 * width)
    assert float(slope) == pytest.approx(1, abs=0.05)
    x = images(1).requires_grad_()
    v = images(1, seed=5)
    (product,) = torch.autograd.grad((JPEG()(x) * v).sum(), x)
    assert torch.equal(product, v)
    assert torch.equal(JPEG().adjoint(v, x), v)


def test_one_seed_is_one_matrix() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = [CompressedSensing(rows=5, seed=seed)(x) for seed in (0, 0, 1)]
    assert torch.equal(y[0], y[1])
    assert not torch.allclose(y[0], y[2])


def test_refuses_what_does_not_fit() -> None:
    x = images(1)
    for operator, message in [
        (Mask(mask=torch.ones(3, 5, 8, dtype=torch.bool)), "mask has shape"),
        (AveragePool(factor=3), "factor=3 must divide"),
        (Blur(std=4.0), "reaches over 12 pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            operator(x)
    with pytest.raises(ValueError, match="C > 1"):
        Gray()(x[:, :1])
    with pytest.raises(ValueError, match="1 or 3 channels"):
        JPEG()(x[:, :2])
    with pytest.raises(ValueError, match="expected bool"):
        Mask(mask=torch.ones(2))
    for build in (
        lambda: AveragePool(factor=1),
        lambda: Blur(std=0.0),
        lambda: CompressedSensing(rows=0),
        lambda: JPEG(quality=0),
    ):
        with pytest.raises(ValueError, match=r"=(1|0)"):
            build()
