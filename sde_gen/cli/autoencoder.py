"""Shift and scale of the latents of an autoencoder, for the codec of a training."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from sde_gen.cli.constructors import accepts
from sde_gen.cli.run import Run
from sde_gen.cli.targets import import_object
from sde_gen.data import Latents, Splits
from sde_gen.data.codec import Codes, Latent, TrainedAutoencoder
from sde_gen.data.latents import header
from sde_gen.denoiser import AutoregressiveModel
from sde_gen.noise import IID

MEASURED = 1024
"""Number of samples by which the latents are shifted and scaled."""

PART = 64
"""Number of samples that are encoded at once."""


def is_latent(config: DictConfig) -> bool:
    """Return whether the codec of a configuration is one of latents that are numbers."""
    return accepts(config.codec, "autoencoder") and accepts(config.codec, "scale")


def is_code(config: DictConfig) -> bool:
    """Return whether the codec of a configuration is one of codes, whole numbers."""
    return accepts(config.codec, "autoencoder") and not is_latent(config)


def check_codes(config: DictConfig, trained: type) -> None:
    """Check that codes, and codes alone, are modeled by an autoregressive model.

    Raises:
        ValueError: codec and objective do not go together.
    """
    if is_code(config) != (trained is AutoregressiveModel):
        raise ValueError(
            "codec=codes, model=token_transformer and objective=token_cross_entropy need each other: codes are no "
            "numbers that noise could be added to, and numbers are no codes"
        )


def with_codes(config: DictConfig, opened: TrainedAutoencoder) -> None:
    """Write the number of codes into the network of a training.

    Raises:
        ValueError: another number is given, or the autoencoder has no codes.
    """
    codec: Any = Codes(autoencoder=opened, run=str(config.codec.run))
    codes = codec.autoencoder.net.codes
    if not accepts(config.model, "codes"):
        return  # no network of codes, as the message about it says
    if not OmegaConf.is_missing(config.model, "codes") and config.model.codes != codes:
        raise ValueError(
            f"model.codes={config.model.codes}: {config.codec.run} has {codes} codes; leave it out"
        )
    with open_dict(config):
        config.model.codes = codes


def with_latents(config: DictConfig, splits: Splits, opened: TrainedAutoencoder) -> None:
    """Write shift and scale of the latents into the codec of a training, unless they are given.

    Shift and scale are mean and standard deviation of every channel of the latents, of the network if it has them, else
    over the first samples of the training split.

    Arguments:
        config: the configuration, whose codec names run and SHA-256 of the autoencoder.
        splits: the data.
        opened: the autoencoder.

    Raises:
        ValueError: the autoencoder is for other data.
    """
    node, net = config.codec, opened.net
    encoded = import_object(config.data._target_) is Latents
    if encoded and header(Path(config.data.root))["sha256"] != node.sha256:
        raise ValueError(
            f"the latents in {config.data.root} were encoded by other weights than those in {node.run}: encode the "
            "data again"
        )
    with open_dict(config):
        node.encoded = encoded
    codec = Latent(autoencoder=opened, run=str(node.run), encoded=encoded)
    codec.event(splits.train.shape)
    shift = net.latent_shift if node.shift is None else node.shift
    scale = net.latent_scale if node.scale is None else node.scale
    if shift is None or scale is None:
        mean, std = _measure(codec, splits)
        shift, scale = mean if shift is None else shift, std if scale is None else scale
    with open_dict(config):
        node.shift, node.scale = list(shift), list(scale)


def check_classifier(config: DictConfig, splits: Splits, classifier: Run) -> None:
    """Check that the classifier of a perceptual term is given what the autoencoder reconstructs.

    Raises:
        ValueError: it was trained on data of another shape, or with another codec.
    """
    codecs = classifier.config.codec._target_, config.codec._target_
    if classifier.event != splits.train.shape or codecs[0] != codecs[1]:
        raise ValueError(
            f"the classifier in {classifier.folder} was trained on {classifier.event} by {codecs[0]}, the autoencoder "
            f"has {splits.train.shape} and {codecs[1]}: train both on the same data with the same codec"
        )


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
