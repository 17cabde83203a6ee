"""Cubic interpolation: exact for polynomials of degree 2, mirrored as numpy pads."""

import numpy as np
import torch

from sde_gen.data.warp import interpolate


def test_polynomials_of_degree_two_are_exact() -> None:
    y, x = torch.meshgrid(torch.arange(12.0).double(), torch.arange(15.0).double(), indexing="ij")

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 1 - 0.3 * x + 0.7 * y + 0.2 * x**2 - 0.1 * x * y + 0.05 * y**2

    generator = torch.Generator().manual_seed(0)
    at_x = 2 + 10 * torch.rand(1, 7, 9, generator=generator, dtype=torch.float64)
    at_y = 2 + 7 * torch.rand(1, 7, 9, generator=generator, dtype=torch.float64)
    found = interpolate(f(x, y)[None, None], at_x, at_y)
    torch.testing.assert_close(found[:, 0], f(at_x, at_y), rtol=1e-12, atol=1e-12)


def test_pixels_are_reproduced_and_edges_mirrored() -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(-9.0, 13), torch.arange(-11.0, 16), indexing="ij")
    found = interpolate(images, x.expand(2, -1, -1), y.expand(2, -1, -1))
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (9, 9), (11, 11)], mode="symmetric")
    assert np.array_equal(found.numpy(), padded)
