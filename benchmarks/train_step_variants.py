"""Training steps to be timed: ours, ours without one of its optimizations, a plain one, and diffusers' network.

The plain step is what a page of PyTorch would be: float32, default memory format, ``nn.Dropout``, Adam as PyTorch gives
it, the average in a loop. diffusers' UNet2DModel has the same channels, blocks, attention and dropout; it is timed in
the plain step, in the plain step under bfloat16 autocast, and in our trainer.
"""

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from sde_gen.cli import build, console
from sde_gen.cli.config_files import CONF
from sde_gen.data import Dataset, Splits
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.model.unet.blocks import Dropout
from sde_gen.sde import VP, linear_betas
from sde_gen.training import Trainer
from sde_gen.training.precision import multiplies_bfloat16

SIDE, DROPOUT = 32, 0.1


@dataclass(frozen=True, kw_only=True)
class Size:
    """A network and its batch."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    batch: int


SMALL = Size(width=64, multipliers=(1, 2, 2), blocks=2, batch=16)
CIFAR10 = Size(width=128, multipliers=(1, 2, 2, 2), blocks=4, batch=256)


def data() -> Splits:
    """Random images: a step takes as long on them."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (1024, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    images = Dataset(values=values, labels=None, levels=256, classes=0)
    return Splits(train=images, test=images)


def ours(size: Size, device: str, folder: str, *overrides: str, **more: Any) -> Trainer:
    """A training of sde_gen, with the configuration of its command."""
    network = [
        f"model.width={size.width}",
        f"model.multipliers={list(size.multipliers)}",
        f"model.blocks={size.blocks}",
        f"model.dropout={DROPOUT}",
    ]
    engine = [f"engine.batch_size={size.batch}", "engine.images=1000000000", "parametrization=eps"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "train", [*network, *engine, f"device={device}", f"run={folder}/run", "model=ddpmpp", *overrides]
        )
    trainer = build.trainer(config, data(), **more)
    trainer.denoiser.train()
    return trainer


class Peer(nn.Module):
    """diffusers' UNet2DModel, called like a network of ours."""

    def __init__(self, size: Size) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        kinds = ["Attn" if level == 1 else "" for level in range(len(size.multipliers))]
        self.unet = UNet2DModel(
            sample_size=SIDE,
            layers_per_block=size.blocks,
            block_out_channels=tuple(size.width * m for m in size.multipliers),
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            attention_head_dim=None,
            dropout=DROPOUT,
        )

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Apply the network."""
        out: Tensor = self.unet(x, c_noise).sample
        return out


class PlainStep:
    """A training step without any lever."""

    def __init__(self, net: nn.Module, size: Size, device: torch.device, *, bfloat16: bool) -> None:
        self.net, self.device, self.bfloat16 = net.to(device).train(), device, bfloat16
        self.ema_model = copy.deepcopy(net)
        self.adam = torch.optim.Adam(net.parameters(), lr=2e-4)
        self.images = data().train.values.to(device)
        self.kept = torch.cumprod(1 - torch.as_tensor(linear_betas(steps=1000)), 0).float().to(device)
        self.batch = size.batch

    def __call__(self, step: int) -> None:
        """Take a step."""
        del step
        index = torch.randint(len(self.images), (self.batch,), device=self.device)
        x0 = self.images[index].float() / 127.5 - 1
        n = torch.randint(1000, (self.batch,), device=self.device)
        kept, eps = self.kept[n].view(-1, 1, 1, 1), torch.randn_like(x0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            out = self.net(kept.sqrt() * x0 + (1 - kept).sqrt() * eps, n.float())
        loss = (out.float() - eps).square().mean()
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.adam.step()
        with torch.no_grad():
            for mine, original in zip(self.ema_model.parameters(), self.net.parameters(), strict=True):
                mine.mul_(0.999).add_(original, alpha=0.001)


def with_torch_dropout(trainer: Trainer) -> Trainer:
    """Put PyTorch's dropout in place of ours."""
    for module in list(trainer.denoiser.net.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(DROPOUT))
    trainer.denoiser.train()
    return trainer


class PlainAdam(torch.optim.Adam):
    """PyTorch's Adam, which cannot skip a step on the device."""

    def step(self, closure: Any = None) -> Any:
        """Take a step in any case."""
        vars(self).update(grad_scale=None, found_inf=None)
        return super().step(closure)


def with_plain_adam(trainer: Trainer) -> Trainer:
    """Put PyTorch's default Adam in place of the fused one."""
    trainer.adam = PlainAdam(trainer.weights, lr=trainer.optimizer.lr)
    return trainer


def with_looped_average(trainer: Trainer) -> Trainer:
    """Average the weights one after the other."""

    def update(decay: float) -> None:
        for target, source in zip(trainer.ema_updater.target, trainer.ema_updater.source, strict=True):
            target.lerp_(source, 1 - decay)

    trainer.ema_updater.update = torch.no_grad()(update)  # type: ignore[method-assign]
    return trainer


def variants(
    size: Size, device: torch.device, folder: str, *, compiled: bool
) -> Iterator[tuple[str, nn.Module, Callable[[int], object]]]:
    """Name, network and step of everything that is timed; the first is what ratios are to."""

    def trainer(*overrides: str, **more: Any) -> Trainer:
        return ours(size, str(device), folder, *overrides, **more)

    def row(name: str, built: Trainer) -> tuple[str, nn.Module, Callable[[int], object]]:
        return name, built.denoiser.net, built.step

    plain = with_torch_dropout(trainer("engine.channels_last=false", "precision=float32")).denoiser.net
    yield "plain step", plain, PlainStep(plain, size, device, bfloat16=False)
    formats = ["float32", "bfloat16"] if multiplies_bfloat16(device) else ["float32"]
    if len(formats) == 1:
        console.console.print(f"left out: bfloat16, in which {device} has no products", soft_wrap=True)
    for model in ("ours", "ncsnpp"):
        for kind in formats:
            network = "ddpmpp" if model == "ours" else model
            yield row(f"{model}, {kind}", trainer(f"model={network}", f"precision={kind}"))
    best = formats[-1]
    levers = {f"precision={best}"}
    yield row(f"{best}, channels first", trainer(*levers, "engine.channels_last=false"))
    yield row(f"{best}, PyTorch's dropout", with_torch_dropout(trainer(*levers)))
    yield row(f"{best}, PyTorch's Adam", with_plain_adam(trainer(*levers)))
    yield row(f"{best}, average in a loop", with_looped_average(trainer(*levers)))
    yield row(f"{best}, no dropout", trainer(*levers, "model.dropout=0"))
    kinds = {"blocks": "blocks compiled", **({"graphs": "CUDA graphs"} if device.type == "cuda" else {})}
    for kind, name in kinds.items() if compiled else ():
        built = trainer(*levers, f"compile={kind}")
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            built.compiler.compile(built.denoiser.net, built.warmup_step)
        why = [
            text for note in caught if (text := str(note.message)).startswith("the network is not compiled")
        ]
        if why:
            console.console.print(f"left out: {best}, {name}: {why[0]}", soft_wrap=True)
        else:
            yield row(f"{best}, {name} ({time.perf_counter() - begin:.0f} s)", built)
    try:
        peers = [Peer(size) for _ in range(2 * len(formats))]
    except ImportError:
        warnings.warn("diffusers is not installed: it is left out", stacklevel=2)
        return
    for name, net in zip(formats, peers, strict=False):
        plainly = PlainStep(net, size, device, bfloat16=name == "bfloat16")
        yield f"diffusers, plain step, {name}", net, plainly
    for name, net in zip(formats, peers[len(formats) :], strict=True):
        denoiser = NetworkDenoiser(net=net, sde=VP(), parametrization=Eps())
        built = trainer(f"precision={name}", model=lambda *_, made=denoiser: made)
        yield row(f"diffusers, our step, {name}", built)
