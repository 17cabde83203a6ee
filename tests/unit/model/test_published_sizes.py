"""Parameter counts of the papers' CIFAR-10 networks, without allocating them."""

import pytest
import torch

from sde_gen.model import DDPMpp, DDPMUNet, NCSNpp
from sde_gen.model.norms import FixedGroups


@pytest.mark.parametrize(
    ("build", "blocks", "least", "most"),
    [(DDPMpp, 4, 61.804419, 61.804420), (NCSNpp, 4, 62.75, 62.85), (NCSNpp, 8, 107, 108)],
    ids=["ddpmpp", "ncsnpp", "ncsnpp_deep"],
)
def test_count(build, blocks, least, most):
    """61,804,419, 62.8 and 107 million: Song et al., 2021, arXiv:2011.13456, and its configurations."""
    with torch.device("meta"):
        net = build(
            shape=(3, 32, 32), width=128, multipliers=(1, 2, 2, 2), blocks=blocks, attention_levels=(1,)
        )
    assert least * 1e6 <= sum(parameter.numel() for parameter in net.parameters()) < most * 1e6


def test_count_of_ddpm():
    """35.7 million: Ho et al., 2020, arXiv:2006.11239, appendix B."""
    with torch.device("meta"):
        net = DDPMUNet(
            shape=(3, 32, 32),
            width=128,
            multipliers=(1, 2, 2, 2),
            blocks=2,
            attention_levels=(1,),
            norms=FixedGroups(),
        )
    assert 35.7e6 <= sum(parameter.numel() for parameter in net.parameters()) < 35.8e6
