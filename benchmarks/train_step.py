"""Time the training step: ours, with each of its levers taken away, beside a plain one and diffusers' network.

    python benchmarks/train_step.py [--rounds 8] [--steps 2] [--compiled] [--device auto] [--out FOLDER]
    pip install diffusers==0.42.1      # the peer; may be missing

A step is perturbation, loss of the noise, backward, clip, Adam and average of the weights, on random 32x32 images. Ours
is ``Trainer.step``. The plain step is what a page of PyTorch would be: float32, default memory format, ``nn.Dropout``,
Adam as PyTorch gives it, the average in a loop. diffusers' UNet2DModel has the same channels, blocks, attention and
dropout; it is timed in the plain step, in the plain step under bfloat16 autocast, and in our trainer.

All take turns for a few steps a round, so that a change of the machine's load meets all of them: ratios are of one
round, to the first row, and so is their spread over rounds (quartiles). FLOPs are those of convolutions and products,
forward and backward, as PyTorch counts them. On CUDA the network is that of CIFAR-10 (62 million parameters) in batches
of 256. Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import copy
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sde_gen.cli import build, console
from sde_gen.cli.config_files import CONF
from sde_gen.data import Dataset, Splits
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.model.unet.blocks import Dropout
from sde_gen.sde import VP, linear_betas
from sde_gen.training import Trainer
from sde_gen.training.precision import exact_float32, multiplies_bfloat16
from sde_gen.utils.timing import synchronize

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
            for mine, theirs in zip(self.ema_model.parameters(), self.net.parameters(), strict=True):
                mine.mul_(0.999).add_(theirs, alpha=0.001)


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
        for mine, theirs in zip(trainer.ema_updater.mine, trainer.ema_updater.theirs, strict=True):
            mine.lerp_(theirs, 1 - decay)

    trainer.ema_updater.update = torch.no_grad()(update)  # type: ignore[method-assign]
    return trainer


def contestants(
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
        built = trainer(*levers, f"compiler={kind}")
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            built.compiler.compile(built.denoiser.net, built.trial)
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
        built = trainer(f"precision={name}", model=lambda config, facts, made=denoiser: made)
        yield row(f"diffusers, our step, {name}", built)


def gflops(net: nn.Module, device: torch.device) -> float:
    """FLOPs of forward and backward for one image, in 10^9."""
    x = torch.randn(1, 3, SIDE, SIDE, device=device)
    counter = FlopCounterMode(display=False)
    with counter:
        net(x, torch.ones(1, device=device)).sum().backward()
    for parameter in net.parameters():
        parameter.grad = None
    return counter.get_total_flops() / 1e9


def timed(
    built: Sequence[tuple[str, nn.Module, Callable[[int], object]]],
    size: Size,
    device: torch.device,
    *,
    rounds: int,
    steps: int,
) -> dict[str, list[float]]:
    """Images per second of every round by name, in turns; what does not fit into memory is named and left out."""
    speeds: dict[str, list[float]] = {name: [] for name, _, _ in built}
    for number in range(rounds + 1):
        for name, net, step in built:
            if name not in speeds:
                continue
            fits = True
            synchronize(device)
            begin = time.perf_counter()
            try:
                for index in range(steps):
                    step(number * steps + index)
            except torch.OutOfMemoryError:
                fits = False
            synchronize(device)
            if fits and number > 0:  # the first round warms up
                speeds[name].append(steps * size.batch / (time.perf_counter() - begin))
            if not fits:
                del speeds[name]
                net.zero_grad(set_to_none=True)
                console.console.print(f"left out: {name}: out of memory", soft_wrap=True)
    return speeds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="time compiled blocks too, and CUDA graphs where there are any: minutes on a CPU",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    if arguments.rounds < 2 or arguments.steps < 1:
        parser.error("--rounds must be at least 2, as one shows no spread, and --steps at least 1")
    try:
        device = build.device(arguments.device)
    except ValueError as error:
        parser.error(str(error))
    exact_float32()
    size = CIFAR10 if device.type == "cuda" else SMALL
    with tempfile.TemporaryDirectory() as folder:
        built = list(contestants(size, device, folder, compiled=arguments.compiled))
        flops = [gflops(net, device) for _, net, _ in built]
        speeds = timed(built, size, device, rounds=arguments.rounds, steps=arguments.steps)
    first, rows = speeds.get(built[0][0]), []
    if first is None:
        raise SystemExit(f"{built[0][0]}, which all ratios are to, does not fit into memory")
    for (name, net, _), work in zip(built, flops, strict=True):
        if name not in speeds:
            continue
        found = speeds[name]
        ratios = [a / b for a, b in zip(found, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        images = statistics.median(found)
        rows.append(
            {
                "name": name,
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "gflop_per_image": work,
                "images_per_second": images,
                "gflop_per_second": work * images,
                "ratio": middle,
                "ratio_quartiles": [low, high],
            }
        )
    about = {
        "size": vars(size),
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": build.versions(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"train_step_{device.type}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"training step, {about['processor'] if device.type == 'cpu' else about['device']}, batch {size.batch}",
        ["", "M param.", "GFLOP/image", "images/s", "GFLOP/s", "ratio", "quartiles"],
        [
            [
                row["name"],
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['gflop_per_image']:.2f}",
                f"{row['images_per_second']:.1f}",
                f"{row['gflop_per_second']:.0f}",
                f"{row['ratio']:.2f}",
                "{:.2f} to {:.2f}".format(*row["ratio_quartiles"]),
            ]
            for row in rows
        ],
    )
    console.console.print(str(path))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
