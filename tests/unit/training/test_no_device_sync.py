"""Sampling and training steps never synchronize with the device, so that a GPU is never waited for.

Samples without memory (the device ``meta``) have no numbers: whoever asks for one gets an error. Times and their
coefficients lie on the host, as they do with samples on a GPU.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import EDM, Eps
from sde_gen.grid import LogSNR
from sde_gen.guidance import CFG, Autoguidance
from sde_gen.noise import IID, Brownian, Noise, PerSample
from sde_gen.objective import DSM
from sde_gen.objective.time_sampler import UniformTime
from sde_gen.objective.weighting import Simple, TimeDensity
from sde_gen.sde import VP
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.solver.langevin import Langevin
from tests.helpers.catalogue import integrators, make, names
from tests.helpers.tiny_run import Net as Layers
from tests.helpers.tiny_run import trainer

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
    """Noise on the meta device."""

    def __call__(self, x, t, s):
        return torch.empty_like(x)

    def normal(self, x):
        return torch.empty_like(x)

    def uniform(self, x):
        return torch.empty(len(x), dtype=torch.float64, device=x.device)


class Patient(TorchDispatchMode):
    """Refuse copies from the host that wait until a device has made them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        target = kwargs.get("device", torch.device("cpu"))
        if func is torch.ops.aten._to_copy.default and args[0].is_cpu and target.type != "cpu":
            assert kwargs.get("non_blocking"), f"a copy of {tuple(args[0].shape)} to the device waits for it"
        return func(*args, **kwargs)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1, device="meta"))

    def forward(self, x, c_noise):
        return self.scale * x + c_noise.view(-1, 1)


class Labeled(NetworkDenoiser):
    """Takes a label, and does not look at it."""

    def forward(self, x_t, t, *, label=None):
        return super().forward(x_t, t)


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in integrators() if name not in ASKS])
def test_a_solver_copies_no_number_from_the_device(name):
    sde = VP()
    model = NetworkDenoiser(net=Net(), sde=sde, parametrization=EDM(sigma_data=0.5))
    solver, times = make("solver", name), LogSNR()(sde, 50 if name == "annealed_langevin" else 8)
    start = torch.empty(4, 3, device="meta")
    for noise in (Weightless(), PerSample(range(4))):
        with Patient():
            x = solver.solve(model, start, times, noise=noise)
        assert x.shape == (4, 3)
        assert x.is_meta


@torch.no_grad()
@pytest.mark.parametrize("noise", [IID.seeded(0), PerSample(range(4)), Brownian(range(4))])
def test_noise_of_the_host_is_sent_without_waiting(noise):
    x = torch.empty(4, 3, device="meta", dtype=torch.float64)
    with Patient():
        assert noise(x, 0.5, 0.25).is_meta
        assert noise.normal(x).dtype == x.dtype
        assert noise.uniform(x).is_meta
        with pytest.raises(AssertionError, match="waits for it"):
            torch.zeros(2).to("meta")


@torch.no_grad()
def test_a_time_that_was_not_expected_is_sent_without_waiting():
    model = NetworkDenoiser(net=Net(), sde=VP(), parametrization=EDM(sigma_data=0.5))
    x, (t, s) = torch.empty(4, 3, device="meta"), torch.tensor([0.5, 0.4], dtype=torch.float64)
    with Patient():
        assert model(x, t).x0.is_meta
        assert Langevin().correct(model, x, t, s, Weightless()).is_meta


@torch.no_grad()
def test_guidance_strength_is_passed_without_waiting():
    model = Labeled(net=Net(), sde=VP(), parametrization=EDM(sigma_data=0.5))
    x, t = torch.empty(4, 3, device="meta"), torch.tensor(0.5, dtype=torch.float64)
    guided = CFG(denoiser=model, scale=2.0), Autoguidance(denoiser=model, weak=model, scale=2.0)
    with Patient():
        assert all(one(x, t, label=x).x0.is_meta for one in guided)


@torch.no_grad()
def test_non_finite_values_are_checked_at_the_end():
    """Elsewhere than on a CPU: no step is waited for but the last."""
    model = NetworkDenoiser(net=Net(), sde=VP(), parametrization=EDM(sigma_data=0.5))
    seen = []
    with pytest.raises(NotImplementedError):
        make("solver", "heun").solve(
            model,
            torch.empty(4, 3, device="meta"),
            LogSNR()(model.sde, 8),
            noise=Weightless(),
            hooks=[lambda info: seen.append(info.index), StopOnNaN()],
        )
    assert seen == list(range(8))


def test_reading_a_number_from_the_device_raises():
    with pytest.raises(RuntimeError):
        float(torch.empty(1, device="meta").sum())


@pytest.mark.parametrize("name", names("time_sampler"))
def test_times_are_drawn_without_synchronization(name):
    check_loss(DSM(time_sampler=make("time_sampler", name), weighting=Simple()))


@pytest.mark.parametrize("name", names("weighting"))
def test_losses_are_weighted_without_synchronization(name):
    weighting = TimeDensity(times=UniformTime()) if name == "time_density" else make("weighting", name)
    check_loss(DSM(time_sampler=UniformTime(), weighting=weighting))


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
def test_training_step_reads_no_number_from_the_device(tmp_path, accumulation):
    """From the batch to the average, clipping, skipping and the meter's notes included."""
    training = trainer(tmp_path, settings={"accumulation": accumulation})
    training.denoiser.train()
    training.step(0)
    with Deaf():
        training.step(1)
        training.step(2)
    with pytest.raises(AssertionError, match="waits for the device"), Deaf():
        training.nonfinite_guard.first()


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
