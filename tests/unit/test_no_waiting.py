"""A walk never asks the device for a number, so that a GPU is never waited for between two steps.

Samples without memory (the device ``meta``) have no numbers: whoever asks for one gets an error. Times and their
coefficients lie on the host, as they do with samples on a GPU.
"""

import pytest
import torch

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.grid import LogSNR
from sde_gen.noise import Noise
from sde_gen.parametrization import EDM
from sde_gen.sde import VP
from tests.catalogue import make, names

ASKS = {
    "adaptive_sde": "its steps depend on the samples",
    "bogacki_shampine": "its steps depend on the samples",
    "dormand_prince": "its steps depend on the samples",
    "dpm_adaptive": "its steps depend on the samples",
    "scipy_ode": "SciPy works on the host",
    "torch_diffeq": "torchdiffeq checks its steps",
    "torch_sde": "torchsde draws its noise itself",
}


class Weightless(Noise):
    """Noise without numbers."""

    def __call__(self, x, t, s):
        return torch.empty_like(x)

    def fresh(self, x):
        return torch.empty_like(x)

    def uniform(self, x):
        return torch.empty(len(x), dtype=torch.float64, device=x.device)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1, device="meta"))

    def forward(self, x, c_noise):
        return self.scale * x + c_noise.view(-1, 1)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in names("solver") if name not in ASKS])
def test_a_walk_asks_for_no_number(name):
    sde = VP()
    model = NetworkDenoiser(net=Net(), sde=sde, parametrization=EDM(sigma_data=0.5))
    solver, times = make("solver", name), LogSNR()(sde, 8)
    x = solver.solve(model, torch.empty(4, 3, device="meta"), times, noise=Weightless())
    assert x.shape == (4, 3)
    assert x.is_meta


def test_asking_would_be_an_error():
    with pytest.raises(RuntimeError):
        float(torch.empty(1, device="meta").sum())
