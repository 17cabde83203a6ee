"""Unconditional trainers of diffusers and of denoising-diffusion-pytorch, with a budget of CPU seconds.

Both are optional: ``pip install diffusers denoising-diffusion-pytorch``. Networks, losses, optimizers, averages and
samplers are those of the packages, with the settings of their training scripts; the width of the network is chosen for
the wanted number of parameters. What they have trained is a denoiser of this package too, by the process and the
prediction type of their training, so that one likelihood evaluates all.
"""

import abc
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps, V
from sde_gen.denoiser.parametrization.label import Time
from sde_gen.sde import DDPM
from sde_gen.utils import atomic

SIDE = 28
TOLERANCE = 0.05
"""Largest relative difference of the numbers of parameters."""


class Training(NamedTuple):
    """Cost of a training.

    Attributes:
        images: training images seen.
        cpu_seconds: CPU seconds of the training.
    """

    images: int
    cpu_seconds: float


def parameters(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(part.numel() for part in net.parameters())


def nearest(make: Callable[..., nn.Module], sizes: Iterable[tuple[int, ...]], count: int) -> nn.Module:
    """Return the network whose number of parameters is nearest to a number.

    Arguments:
        make: builds a network of a size.
        sizes: the sizes to try.
        count: the number of parameters.

    Raises:
        ValueError: even the nearest differs by more than 5 %.
    """
    with torch.device("meta"):
        counts = {size: parameters(make(*size)) for size in sizes}
    best = min(counts, key=lambda size: abs(counts[size] - count))
    if abs(counts[best] - count) > TOLERANCE * count:
        raise ValueError(
            f"no size has {count:,} parameters within {TOLERANCE:.0%}; the nearest, {best}, has {counts[best]:,}"
        )
    return make(*best)


@dataclass(frozen=True, kw_only=True)
class PeerTrainer(abc.ABC):
    """Trainer of another package.

    Arguments:
        count: number of parameters of its network.
        rate: learning rate.
        batch: images of a step.
        seed: seed of initial weights, batches and noise.
    """

    count: int
    rate: float = 1e-4
    batch: int = 16
    seed: int = 0
    package: ClassVar[str]
    process: ClassVar[str]

    @abc.abstractmethod
    def network(self) -> nn.Module:
        """Build the network."""

    @abc.abstractmethod
    def steps(self, net: nn.Module) -> tuple[Callable[[Tensor, float], None], Callable[[], nn.Module]]:
        """Return a function that takes a step, and one that returns the averaged network.

        The first one is given images in [-1, 1] and the spent share of the budget.
        """

    @abc.abstractmethod
    def denoiser(self, net: nn.Module) -> NetworkDenoiser:
        """Return a network as a denoiser."""

    @abc.abstractmethod
    def sample(self, net: nn.Module, n: int, steps: int, seed: int) -> Tensor:
        """Sample by the package's own fast sampler with ``steps`` evaluations: (n, 1, 28, 28) in [-1, 1]."""

    def train(self, images: Tensor, seconds: float, path: Path) -> Training:
        """Train until the CPU seconds are spent, and write the averaged weights.

        Arguments:
            images: uint8 with shape (N, 1, 28, 28).
            seconds: CPU seconds of this process.
            path: safetensors file of the averaged weights.
        """
        torch.manual_seed(self.seed)
        begin, count = time.process_time(), 0
        step, averaged = self.steps(self.network())
        while (share := (time.process_time() - begin) / seconds) < 1:
            index = torch.randint(len(images), (self.batch,))
            flipped = torch.rand(self.batch) < 0.5  # as both scripts do
            batch = images[index].float() / 127.5 - 1
            step(torch.where(flipped[:, None, None, None], batch.flip(-1), batch), share)
            count += self.batch
        state = {name: value.contiguous() for name, value in averaged().state_dict().items()}
        atomic.write(path, safetensors.torch.save(state))
        return Training(count, time.process_time() - begin)

    def load(self, path: Path) -> nn.Module:
        """Read the averaged network."""
        net = self.network()
        net.load_state_dict(safetensors.torch.load_file(path))
        return net.eval().requires_grad_(False)


class _Sample(nn.Module):
    """A network of diffusers as a function of a sample and a noise label."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return the output."""
        out: Tensor = self.net(x, c_noise).sample
        return out


@dataclass(frozen=True, kw_only=True)
class Diffusers(PeerTrainer):
    """``UNet2DModel`` and ``DDPMScheduler`` with the settings of diffusers' ``train_unconditional.py``.

    AdamW with betas (0.95, 0.999), weight decay 1e-6 and eps 1e-8, 500 steps of warm-up and a cosine, gradients clipped
    at 1, an average with warm-up (power 3/4, at most 0.9999). Samples by its ``DPMSolverMultistepScheduler``.
    """

    package: ClassVar[str] = "diffusers"
    process: ClassVar[str] = "DDPM, 1000 steps, linear betas, eps"

    def network(self) -> nn.Module:
        """Build blocks of three resolutions, with attention at the second one."""
        from diffusers import UNet2DModel

        def make(width: int, deepest: int) -> nn.Module:
            net: nn.Module = UNet2DModel(
                sample_size=SIDE,
                in_channels=1,
                out_channels=1,
                layers_per_block=2,
                norm_num_groups=8,
                attention_head_dim=8,
                block_out_channels=(width, 2 * width, deepest),
                down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            )
            return net

        sizes = [(width, deepest) for width in range(8, 72, 8) for deepest in range(width, 3 * width + 8, 8)]
        return nearest(make, [(w, d) for w, d in sizes if abs(d - 2 * w) <= max(16, w // 2)], self.count)

    def steps(self, net: nn.Module) -> tuple[Callable[[Tensor, float], None], Callable[[], nn.Module]]:
        """Train as the script does, with the cosine over the budget."""
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        chain = DDPMScheduler(num_train_timesteps=1000)
        adam = torch.optim.AdamW(
            net.parameters(), lr=self.rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        average = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        taken = 0

        def step(x: Tensor, share: float) -> None:
            nonlocal taken
            noise, t = torch.randn_like(x), torch.randint(1000, (len(x),))
            out = net(chain.add_noise(x, noise, t), t).sample
            adam.zero_grad()
            F.mse_loss(out, noise).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            taken += 1
            adam.param_groups[0]["lr"] = (
                self.rate * min(1.0, taken / 500) * 0.5 * (1 + math.cos(math.pi * share))
            )
            adam.step()
            average.step(net.parameters())

        def averaged() -> nn.Module:
            average.copy_to(net.parameters())
            return net

        return step, averaged

    def denoiser(self, net: nn.Module) -> NetworkDenoiser:
        """Return the chain with noise as prediction."""
        from diffusers import DDPMScheduler

        betas = DDPMScheduler(num_train_timesteps=1000).betas.double().tolist()
        label = Time(scale=1000.0, offset=-1.0)
        return NetworkDenoiser(
            net=_Sample(net), sde=DDPM(betas=betas), parametrization=Eps(label=label)
        ).eval()

    @torch.no_grad()
    def sample(self, net: nn.Module, n: int, steps: int, seed: int) -> Tensor:
        """Sample by multistep DPM-Solver++, as its pipelines do for few steps."""
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(steps)
        x = torch.randn(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t).sample, t, x).prev_sample
        return x


@dataclass(frozen=True, kw_only=True)
class Lucidrains(PeerTrainer):
    """``Unet`` and ``GaussianDiffusion`` with the defaults of its ``Trainer``.

    v-prediction on the sigmoid schedule, Adam with betas (0.9, 0.99), gradients clipped at 1, an average of 0.995 every
    ten steps. Samples by its DDIM.
    """

    package: ClassVar[str] = "denoising_diffusion_pytorch"
    process: ClassVar[str] = "DDPM, 1000 steps, sigmoid betas, v"
    sampler: dict[str, Any] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """Build a network of three resolutions."""
        from denoising_diffusion_pytorch import Unet

        def make(width: int, last: int) -> nn.Module:
            net: nn.Module = Unet(dim=width, dim_mults=(1, 2, last), channels=1)
            return net

        return nearest(make, [(width, last) for width in range(8, 68, 2) for last in (2, 3, 4)], self.count)

    def diffusion(self, net: nn.Module, steps: int | None = None) -> Any:
        """Return its process around a network; images have range [0, 1]."""
        from denoising_diffusion_pytorch import GaussianDiffusion

        return GaussianDiffusion(net, image_size=SIDE, timesteps=1000, sampling_timesteps=steps)

    def steps(self, net: nn.Module) -> tuple[Callable[[Tensor, float], None], Callable[[], nn.Module]]:
        """Train as its ``Trainer`` does."""
        from ema_pytorch import EMA

        diffusion = self.diffusion(net)
        adam = torch.optim.Adam(diffusion.parameters(), lr=self.rate, betas=(0.9, 0.99))
        average = EMA(diffusion, beta=0.995, update_every=10)

        def step(x: Tensor, share: float) -> None:
            del share  # it has no schedule
            loss = diffusion((x + 1) / 2)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
            adam.step()
            average.update()

        def averaged() -> nn.Module:
            net: nn.Module = average.ema_model.model
            return net

        return step, averaged

    def denoiser(self, net: nn.Module) -> NetworkDenoiser:
        """Return the chain with v as prediction."""
        betas = self.diffusion(net).betas.double().tolist()
        label = Time(scale=1000.0, offset=-1.0)
        return NetworkDenoiser(net=net, sde=DDPM(betas=betas), parametrization=V(label=label)).eval()

    def sample(self, net: nn.Module, n: int, steps: int, seed: int) -> Tensor:
        """Sample by its DDIM, which draws from the global generator."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            x: Tensor = self.diffusion(net, steps).sample(batch_size=n)
        return 2 * x - 1
