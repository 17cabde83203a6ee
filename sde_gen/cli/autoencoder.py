"""The autoencoder of a codec of latents, opened from its run folder."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from sde_gen.cli.constructors import accepts
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.targets import import_object
from sde_gen.data import Latents, Splits
from sde_gen.data.codec import Latent, TrainedAutoencoder
from sde_gen.data.latents import header
from sde_gen.denoiser import NetworkAutoencoder
from sde_gen.noise import IID
from sde_gen.utils.hashing import digest

MEASURED = 1024
"""Number of samples by which the latents are shifted and scaled."""

PART = 64
"""Number of samples that are encoded at once."""


def is_latent(config: DictConfig) -> bool:
    """Return whether the codec of a configuration is one of latents."""
    return accepts(config.codec, "autoencoder")


def open_autoencoder(node: DictConfig, device: str = "auto") -> TrainedAutoencoder:
    """Open the autoencoder that a codec of latents names by run and SHA-256.

    Raises:
        ValueError: the run is missing, holds no autoencoder, or its weights have another hash; the message names it.
    """
    if OmegaConf.is_missing(node, "run") or not node.run:
        raise ValueError(
            "codec.run must name the run folder of an autoencoder, trained with objective=autoencoding"
        )
    folder = Path(str(node.run))
    if not folder.is_dir():
        raise ValueError(
            f"there is no run folder {folder} of the autoencoder of codec=latent; put it back in its place, or train "
            "one with objective=autoencoding"
        )
    run = _load(folder, device)
    net: Any = run.denoiser.net
    found = sha256_of(net)
    if node.sha256 is not None and node.sha256 != found:
        raise ValueError(
            f"the weights of the autoencoder in {folder} have changed: their SHA-256 is {found[:16]}..., and that of "
            f"the training {str(node.sha256)[:16]}...; put the former weights back, or train the model of latents anew"
        )
    return TrainedAutoencoder(net=net, codec=run.codec)


def sha256_of(net: nn.Module) -> str:
    """Return the SHA-256 of the weights of a network."""
    state = net.state_dict()
    return digest(state.values(), "\n".join(state), digits=64)


def with_latents(config: DictConfig, splits: Splits) -> None:
    """Write hash, shift and scale of the autoencoder into the codec of a training, unless they are given.

    Shift and scale are mean and standard deviation of every channel of the latents, of the network if it has them, else
    over the first samples of the training split.

    Raises:
        ValueError: the autoencoder cannot be opened, or is for other data.
    """
    node = config.codec
    opened = open_autoencoder(node, config.device)
    net, found = opened.net, sha256_of(opened.net)
    encoded = import_object(config.data._target_) is Latents
    if encoded and header(Path(config.data.root))["sha256"] != found:
        raise ValueError(
            f"the latents in {config.data.root} were encoded by other weights than those in {node.run}: encode the "
            "data again"
        )
    with open_dict(config):
        node.encoded, node.sha256 = encoded, found
    codec = Latent(autoencoder=opened, run=str(node.run), encoded=encoded)
    codec.event(splits.train.shape)
    shift = net.latent_shift if node.shift is None else node.shift
    scale = net.latent_scale if node.scale is None else node.scale
    if shift is None or scale is None:
        mean, std = _measure(codec, splits)
        shift, scale = mean if shift is None else shift, std if scale is None else scale
    with open_dict(config):
        node.shift, node.scale = list(shift), list(scale)


def _load(folder: Path, device: str) -> Run:
    wanted: dict[str, Any] = {"run": str(folder), "checkpoint": None, "device": device, "trust": []}
    return load_run(OmegaConf.create(wanted), NetworkAutoencoder)


@torch.no_grad()
def _measure(codec: Latent, splits: Splits) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of draws of the latents, every channel to six digits."""
    data, device = splits.train, next(codec.autoencoder.net.parameters()).device
    noise, parts = IID.seeded(0, device=device), []
    for first in range(0, min(MEASURED, len(data)), PART):
        index = torch.arange(first, min(first + PART, len(data)))
        posterior = codec.posterior(data.values[index].to(device))
        parts.append(posterior.sample(noise.normal(posterior.mean)).double())
    z = torch.cat(parts).transpose(0, 1).flatten(1)
    return [[float(f"{value:.6g}") for value in each] for each in (z.mean(1).tolist(), z.std(1).tolist())]  # type: ignore[return-value]
