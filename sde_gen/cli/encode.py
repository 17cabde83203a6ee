"""Encode data with a trained autoencoder: ``python -m sde_gen.encode run=runs/... out=latents``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from omegaconf import DictConfig
from torch import Tensor

from sde_gen.cli import console, instantiate
from sde_gen.cli.app import Command, require_int
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data import Dataset, Splits
from sde_gen.data.codec import TrainedAutoencoder
from sde_gen.data.latents import HEADER
from sde_gen.denoiser import NetworkAutoencoder
from sde_gen.utils.atomic import atomic_directory, put, require_absent


def encode(config: DictConfig) -> None:
    """Write mean and standard deviation of the latents of both splits."""
    require_int(config, "batch_size", "shard")
    out = Path(config.out)
    require_absent(out)
    run = load_run(config, NetworkAutoencoder)
    splits: Splits = open_data(run) if config.get("data") is None else instantiate.make(config.data).load()
    if splits.train.shape != run.data_spec.shape or splits.train.levels != run.data_spec.levels:
        raise ValueError(
            f"the data have shape {splits.train.shape} and {splits.train.levels} levels, the autoencoder in "
            f"{run.folder} is for {run.data_spec.shape} and {run.data_spec.levels}"
        )
    if config.flips and len(splits.train.shape) != 3:
        raise ValueError(f"flips=true needs images; the data have shape {splits.train.shape}")
    net: Any = run.denoiser.net
    shards: dict[str, int] = {}
    with atomic_directory(out) as made, console.progress() as bar:
        for split, data, flips in (("train", splits.train, config.flips), ("test", splits.test, False)):
            row = bar.add_task(split, total=len(data) * (1 + flips), note="")
            shards[split] = 0
            for part in _moments(run, data, flips, config.batch_size, config.shard):
                path = made / f"{split}-{shards[split]:05d}.safetensors"
                put(path, safetensors.torch.save(part))
                shards[split] += 1
                bar.advance(row, len(part["mean"]))
        about = {
            "run": str(run.folder),
            "sha256": run.sha256,
            "shape": list(splits.train.shape),
            "levels": splits.train.levels,
            "latent": list(net.latent),
            "classes": splits.train.classes,
            "class_names": list(splits.train.class_names),
            "flips": bool(config.flips),
            "shards": shards,
        }
        put(made / HEADER, (json.dumps(about, indent=1) + "\n").encode())
    console.print_table(
        f"latents in {out}",
        {
            "training split": f"{len(splits.train) * (1 + config.flips):,} images"
            + (", with mirrored ones" if config.flips else ""),
            "test split": f"{len(splits.test):,} images",
            "latents": f"{tuple(net.latent)} of {tuple(splits.train.shape)}",
        },
        {"autoencoder": run.folder},
    )


@torch.no_grad()
def _moments(
    run: Run, data: Dataset, flips: bool, batch_size: int, shard: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors of every shard, mirrored images after the others."""
    net: Any = run.denoiser.net
    opened = TrainedAutoencoder(net=net, codec=run.codec)
    held: list[dict[str, Tensor]] = []
    for mirrored in (False, True) if flips else (False,):
        for first in range(0, len(data), batch_size):
            index = torch.arange(first, min(first + batch_size, len(data)))
            values = data.values[index].to(run.device)
            posterior = opened.encode(values.flip(-1) if mirrored else values)
            part = {"mean": posterior.mean.float().cpu(), "std": posterior.std.float().cpu()}
            held.append(part if data.labels is None else {**part, "label": data.labels[index]})
            if sum(len(each["mean"]) for each in held) >= shard:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}


main = Command(name="encode", function=encode)
