"""Networks of EDM with the preconditioning of EDM, VP, VE or improved DDPM."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.label import LogRatio, NearestStep, Time
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.edm.dhariwal_unet import DhariwalUNetLayout
from sde_gen.interop.edm.song_unet import SongUNetLayout
from sde_gen.interop.formats import files, persistent, pickled
from sde_gen.interop.preconditioning import karras
from sde_gen.interop.settings import MOST_STEPS, given, listing, need, plausible, real, shown, whole
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.sde.ddpm import DDPM, cosine_betas
from sde_gen.sde.ve import VE
from sde_gen.sde.vp import VP


class EDMLayout(Protocol):
    """Mapping of an EDM network to a network of sde_gen, built from the original constructor's arguments.

    Attributes:
        known: supported arguments besides ``img_resolution`` and ``img_channels``.
        channels: channels of the image.
        size: side of the image.
        classes: number of classes, 0 for none.
        levels: number of resolutions.
        blocks: residual blocks per level.
    """

    known: frozenset[str]
    channels: int
    size: int
    classes: int
    levels: int
    blocks: int

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""

    def map_weights(self, mapper: WeightMapper, outputs: int) -> None:
        """Copy the tensors, named without ``model.``; of several outputs per channel only the first is copied."""

    def output_layers(self) -> list[str]:
        """Return the names of the convolutions whose sum is the output."""


class EDMConventions(NamedTuple):
    """Process, parametrization, and the sign by which the last convolutions are multiplied."""

    sde: ObjectSpec
    parametrization: ObjectSpec
    sign: float


NETWORKS: dict[str, Callable[[Mapping[str, Any]], EDMLayout]] = {
    "SongUNet": SongUNetLayout,
    "DhariwalUNet": DhariwalUNetLayout,
}
"""Supported network classes of EDM."""


def load(path: Path, config: Mapping[str, Any] | None) -> ConvertedModel:
    """Read the averaged network (EMA) of a snapshot's pickle, or a file with a state dictionary.

    Arguments:
        path: the file; the suffix ``.pkl`` marks a pickle.
        config: as in :func:`read`; None for a pickle, which contains the network's arguments.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.pickled.read`,
            :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    if path.suffix != ".pkl":
        return read(files.tensors(files.read(path)), given(config))
    if config is not None:
        raise ValueError(f"{path} contains the settings of its network: leave settings=... out")
    network = persistent.network(pickled.read(path))
    return read(files.tensors(network.tensors), {**network.arguments, "precond": network.kind})


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a network of EDM: the prediction of x_0 equals EDM's D(x; sigma).

    EDM's noisy x is x_0 plus noise of standard deviation sigma; x_t here is alpha times that, at the time where
    sigma is the noise-to-signal ratio. Images have range [-1, 1]. Augmentation labels are the conditioning ``augment``.
    With the preconditioning of improved DDPM the label is the step of the chain with the nearest sigma, and of two
    outputs per channel only the first is used, as in EDM.

    Source: Karras et al., 2022, arXiv:2206.00364, table 1.

    Arguments:
        tensors: the state dictionary of the preconditioned network, or of the network alone.
        config: ``precond`` (VPPrecond, VEPrecond, iDDPMPrecond or EDMPrecond) and the arguments of their constructor by
            name.

    Raises:
        ValueError: settings are missing or unknown, or tensors do not fit; the message names them.
    """
    precond, own = _of(PRECONDITIONINGS, need(config, "precond"), "precond")
    model_type, layout_of = _of(NETWORKS, config.get("model_type", own.network), "model_type")
    layout = layout_of(config)
    common = {"precond", "model_type", "img_resolution", "img_channels", "use_fp16"}
    if unknown := [key for key in config if key not in common | layout.known | own.known]:
        raise ValueError(f"{precond} of {model_type} has no setting {listing(unknown)}")
    conventions = own.conventions({**own.defaults, **config})
    plausible(tensors, layout.levels * layout.blocks)
    with torch.device("meta"):
        mapper = WeightMapper(_bare(tensors), layout.spec().make())
    layout.map_weights(mapper, own.outputs)
    mapper.ignore("u", "the noise levels of the chain, which the process defines")
    state = mapper.finish()
    for head in layout.output_layers():
        for name in (f"{head}.weight", f"{head}.bias"):
            state[name] = conventions.sign * state[name]
    label = ObjectSpec(
        ClassLabel, classes=layout.classes, dropout=real({"label_dropout": 0.0, **config}, "label_dropout")
    )
    return ConvertedModel(
        config={
            "model": layout.spec().config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": (label if layout.classes else ObjectSpec(Unconditional)).config(),
        },
        shape=(layout.channels, layout.size, layout.size),
        levels=256,
        classes=layout.classes,
        state=state,
        unused=mapper.unused,
    )


class Preconditioning(NamedTuple):
    """A preconditioning of EDM: default settings, default network, and conversion to process and parametrization.

    Attributes:
        defaults: default values of the settings.
        network: class of the network where ``model_type`` is not given.
        conventions: conversion of the settings.
        outputs: outputs of the network per channel of the image, of which the first is used.
    """

    defaults: dict[str, float]
    network: str
    conventions: Callable[[Mapping[str, Any]], EDMConventions]
    outputs: int = 1

    @property
    def known(self) -> frozenset[str]:
        """Names of the settings."""
        return frozenset(self.defaults)


def _vp(settings: Mapping[str, Any]) -> EDMConventions:
    low = real(settings, "beta_min")
    sde = ObjectSpec(
        VP, beta_min=low, beta_max=low + real(settings, "beta_d"), t_min=real(settings, "epsilon_t")
    )
    return EDMConventions(sde, ObjectSpec(Eps, label=ObjectSpec(Time, scale=real(settings, "M") - 1)), 1.0)


def _ve(settings: Mapping[str, Any]) -> EDMConventions:
    sde = ObjectSpec(
        VE, sigma_min=real(settings, "sigma_min"), sigma_max=real(settings, "sigma_max"), t_min=0.0
    )
    return EDMConventions(sde, ObjectSpec(Eps, label=ObjectSpec(LogRatio, unit=2.0)), -1.0)


def _iddpm(settings: Mapping[str, Any]) -> EDMConventions:
    steps = whole(settings, "M", maximum=MOST_STEPS)
    limit = 1 - real(settings, "C_1")
    betas = ObjectSpec(cosine_betas, steps=steps, offset=real(settings, "C_2"), beta_limit=limit)
    return EDMConventions(
        ObjectSpec(DDPM, betas=betas), ObjectSpec(Eps, label=ObjectSpec(NearestStep, betas=betas)), 1.0
    )


def _edm(settings: Mapping[str, Any]) -> EDMConventions:
    """Use the noise levels of EDM's sampler where the network has no bounds."""
    low, high = (
        real(settings, "sigma_min"),
        80.0 if settings["sigma_max"] == math.inf else real(settings, "sigma_max"),
    )
    return EDMConventions(*karras(low=low or 0.002, high=high, deviation=real(settings, "sigma_data")), 1.0)


PRECONDITIONINGS = {
    "VPPrecond": Preconditioning(
        {"beta_d": 19.9, "beta_min": 0.1, "M": 1000, "epsilon_t": 1e-5}, "SongUNet", _vp
    ),
    "VEPrecond": Preconditioning({"sigma_min": 0.02, "sigma_max": 100}, "SongUNet", _ve),
    "iDDPMPrecond": Preconditioning({"C_1": 0.001, "C_2": 0.008, "M": 1000}, "DhariwalUNet", _iddpm, 2),
    "EDMPrecond": Preconditioning(
        {"sigma_min": 0, "sigma_max": math.inf, "sigma_data": 0.5}, "DhariwalUNet", _edm
    ),
}
"""Supported preconditioning classes of EDM."""


def _of(known: Mapping[str, Any], name: Any, key: str) -> tuple[str, Any]:
    kind = name.rpartition(".")[2] if isinstance(name, str) else ""
    if kind not in known:
        raise ValueError(f"{key}={shown(name)} is not supported; expected {' or '.join(known)}")
    return kind, known[kind]


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): value for name, value in tensors.items()}
