"""Neither a walk nor a step of training asks the device for a number, so that a GPU is never waited for.

Samples without memory (the device ``meta``) have no numbers: whoever asks for one gets an error. Times and their
coefficients lie on the host, as they do with samples on a GPU.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.grid import LogSNR
from sde_gen.noise import Noise
from sde_gen.objective import DSM
from sde_gen.parametrization import EDM, Eps
from sde_gen.sde import VP
from sde_gen.time_sampler import Uniform
from sde_gen.weighting import Law, Simple
from tests.catalogue import make, names
from tests.tiny import Net as Layers
from tests.tiny import trainer

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


@pytest.mark.parametrize("name", names("time_sampler"))
def test_times_are_drawn_without_asking(name):
    check_loss(DSM(time_sampler=make("time_sampler", name), weighting=Simple()))


@pytest.mark.parametrize("name", names("weighting"))
def test_losses_are_weighted_without_asking(name):
    weighting = Law(times=Uniform()) if name == "law" else make("weighting", name)
    check_loss(DSM(time_sampler=Uniform(), weighting=weighting))


def check_loss(objective):
    """The loss of samples without numbers, and its gradient."""
    model = NetworkDenoiser(net=Net(), sde=VP(), parametrization=EDM(sigma_data=0.5))
    x0 = torch.empty(4, 3, device="meta")
    loss = objective.loss(model, x0, objective.draw(model.sde, x0, Weightless()))
    assert loss.per_sample.is_meta
    loss.per_sample.mean().backward()
    assert model.net.scale.grad.is_meta


class Deaf(TorchDispatchMode):
    """Refuse what would wait for a device: reading a number, and results whose shape the numbers decide."""

    ASKING = "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__.startswith(self.ASKING):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_training_step_asks_for_no_number(tmp_path, accumulation):
    """From the batch to the average, clipping, skipping and the meter's notes included."""
    training = trainer(tmp_path, settings={"accumulation": accumulation})
    training.denoiser.train()
    training.step(0)
    with Deaf():
        training.step(1)
        training.step(2)
    with pytest.raises(AssertionError, match="waits for the device"), Deaf():
        training.watchdog.first()


@pytest.mark.gpu
def test_a_training_step_does_not_wait_for_a_gpu(tmp_path):
    """CUDA itself says so, of copies from the host too."""
    denoiser = NetworkDenoiser(net=Layers(), sde=VP(), parametrization=Eps()).cuda()
    training = trainer(tmp_path, denoiser=denoiser)
    training.denoiser.train()
    training.step(0)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(1)
    finally:
        torch.cuda.set_sync_debug_mode(before)
