"""Networks and images of several sizes: what takes all sizes, and what is refused."""

import pytest
import torch

from sde_gen.cli.image_sizes import check_sizes
from sde_gen.data import Dataset, Splits
from sde_gen.data.bucketed_images import BucketedImages
from sde_gen.data.codec import UniformCodec
from sde_gen.data.conditioning import Unconditional
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.model import DiT, NCSNpp, UNetCross
from sde_gen.sde import VP


def check(net: torch.nn.Module, *sizes: tuple[int, int]) -> None:
    shapes = [(3, 8, 8), *((3, *size) for size in sizes)]
    data = Dataset(
        values=BucketedImages([torch.zeros(shape, dtype=torch.uint8) for shape in shapes], shapes), levels=256
    )
    denoiser = NetworkDenoiser(net=net, sde=VP(), parametrization=Eps())
    check_sizes(denoiser, Splits(train=data, test=data), UniformCodec(levels=256), Unconditional())
    assert net.training


@pytest.mark.parametrize("network", [NCSNpp, UNetCross])
def test_a_u_net_takes_sizes_that_its_levels_divide(network: type[torch.nn.Module]) -> None:
    net = network(
        shape=(3, 8, 8), width=8, blocks=1, **({"head_channels": 8} if network is UNetCross else {})
    )
    check(net, (4, 16), (6, 10))
    with pytest.raises(ValueError, match=rf"^{network.__name__} takes no images of 7x9, .*data\.multiple"):
        check(net, (4, 16), (7, 9))


def test_a_transformer_of_stored_positions_takes_one_size_alone() -> None:
    net = DiT(shape=(3, 8, 8), width=8, depth=1, heads=1)
    check(net)
    for size in ((4, 16), (12, 8)):  # as many patches, and other ones
        with pytest.raises(ValueError, match=r"^DiT takes no images of .*choose a U-Net"):
            check(net, size)
