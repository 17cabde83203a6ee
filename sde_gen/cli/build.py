"""The composition root: the one place where a configuration becomes objects that are composed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from sde_gen.cli import conditions
from sde_gen.cli.annotations import Network, is_of, signature
from sde_gen.cli.config_files import CONF, load, names
from sde_gen.cli.constructors import accepts
from sde_gen.cli.data_spec import DataSpec, data_identity
from sde_gen.cli.image_sizes import check_sizes
from sde_gen.cli.instantiate import make
from sde_gen.cli.renamed import upgrade_about
from sde_gen.cli.targets import import_object
from sde_gen.cli.versions import package_versions
from sde_gen.data import Augmentation, Splits
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning, Unconditional
from sde_gen.denoiser import (
    AutoregressiveModel,
    DenoisingGAN,
    NetworkAutoencoder,
    NetworkDenoiser,
    NetworkFlowMap,
    NoisyClassifier,
)
from sde_gen.model import Autoencoder, GeneratorPair, TokenTransformer
from sde_gen.model.classifier.base import ClassifierNetwork
from sde_gen.training import Trainer, TrainingConfig
from sde_gen.training.precision import Precision

CONDITIONS = "sde_gen.model.Conditions"
"""Sizes of a network's conditions."""

KINDS: dict[type, Any] = {
    NoisyClassifier: ClassifierNetwork,
    NetworkAutoencoder: Autoencoder,
    AutoregressiveModel: TokenTransformer,
}
"""Kinds of the networks of what a training trains, but for denoisers."""

Taken = Mapping[str, Mapping[str, Any]]
"""By part of a configuration, arguments of its constructor that are taken from other runs."""

NOTHING_TAKEN: Taken = MappingProxyType({})


def codec(
    config: DictConfig,
    data_spec: DataSpec,
    stored: Mapping[str, Any] = MappingProxyType({}),
    taken: Taken = NOTHING_TAKEN,
) -> Codec:
    """Build the map between data and model space.

    Arguments:
        config: the configuration of a training.
        data_spec: shape, levels and classes of the data.
        stored: what it learned from the training split, by :meth:`~sde_gen.data.codec.Codec.stored`.
        taken: arguments from other runs, such as the autoencoder.
    """
    given = {**data_spec.fill(config.codec), **taken.get("codec", {})}
    built: Codec = make(config.codec, **given, _convert_="all")
    return built.restore(stored)


def trained_class(config: DictConfig) -> type[Any]:
    """Return the class of what a training trains: the one that its objective declares, else a denoiser."""
    node = config.get("objective")
    found: type = getattr(node and import_object(node._target_), "trains", NetworkDenoiser)
    return found


def conditioning(
    config: DictConfig, data_spec: DataSpec, stored: Mapping[str, Any] = MappingProxyType({})
) -> Conditioning:
    """Build what the network is given besides noisy sample and time; nothing where the configuration has no such part.

    Arguments:
        config: the configuration of a training.
        data_spec: shape, levels and classes of the data.
        stored: what it learned from the training split, by :meth:`~sde_gen.data.conditioning.Conditioning.stored`.
    """
    node = config.get("conditioning")
    built: Conditioning = Unconditional() if node is None else make(data_spec.filled(node), _convert_="all")
    return built.restore(stored)


def model(
    config: DictConfig,
    data_spec: DataSpec,
    given: Conditioning | None = None,
    taken: Taken = NOTHING_TAKEN,
    **more: Any,
) -> Any:
    """Build what is trained: the network, its process and its prediction type; the process is made once.

    Arguments:
        config: the configuration of a training.
        data_spec: shape, levels and classes of the data.
        given: the conditioning, whose sizes are those of the network's inputs; None for that of the configuration.
        taken: arguments from other runs.
        more: further arguments: the context in which a denoiser's network is called.
    """
    sde = make(config.sde)
    trained: Any = trained_class(config)
    if "parametrization" in signature(trained)[0]:
        shared = {"sde": sde} if accepts(config.parametrization, "sde") else {}
        more["parametrization"] = make(config.parametrization, **shared)
    return trained(net=network(config, data_spec, given, taken), sde=sde, **more)


def network(
    config: DictConfig,
    data_spec: DataSpec,
    given: Conditioning | None = None,
    taken: Taken = NOTHING_TAKEN,
) -> nn.Module:
    """Build the network of a score model, with its adapter, of a classifier or of an autoencoder.

    Raises:
        ValueError: it is of another kind than the objective trains, or does not take a condition.
    """
    trained, found = trained_class(config), import_object(config.model._target_)
    kind = KINDS.get(trained, Network)
    if found.__module__.startswith("sde_gen.") and not is_of(found, kind):
        raise ValueError(
            f"{found.__name__} is not the network of a {trained.__name__}, which the objective trains: "
            f"model={' or '.join(networks(kind))} is"
        )
    node, sizes = config.model, dict((conditioning(config, data_spec) if given is None else given).sizes)
    classes = {"num_classes": sizes.pop("num_classes")} if "num_classes" in sizes else {}
    if accepts(node, "hint"):
        if "control" not in sizes:
            raise ValueError(
                f"{found.__name__} is controlled by hints: use conditioning=control, or conditioning=several with it"
            )
        classes, sizes = (
            {"hint": sizes["control"]},
            {},
        )  # the other conditions are those of the network inside
    if issubclass(trained, NetworkFlowMap):
        sizes["until"] = True
    adversarial = issubclass(trained, DenoisingGAN)
    if adversarial:
        sizes["vector"] = config.objective.latent
    if sizes:
        if not accepts(node, "inputs") or "control" in sizes:
            argument = "hint" if "control" in sizes else "inputs"
            takers = " or ".join(name for name in networks(kind) if accepts(load("model", name), argument))
            raise ValueError(
                f"{found.__name__} takes no {' and no '.join(sizes)} as condition; choose model={takers}, or "
                "conditioning=none"
            )
        node = OmegaConf.merge({"inputs": {"_target_": CONDITIONS}}, node, {"inputs": sizes})
        assert isinstance(node, DictConfig)
    sized = {name: size for name, size in classes.items() if accepts(node, name)}
    known: dict[str, Any] = {**sized, **_augmentations(config), **_outputs(config)}
    known = {**data_spec.fill(node), **known, **taken.get("model", {})}
    built: nn.Module = make(node, _convert_="all", **known)
    if adversarial:
        objective = make(data_spec.filled(config.objective), _convert_="all")
        built = GeneratorPair(
            generator=built,
            discriminator=objective.discriminator,
            shape=data_spec.shape,
            latent=objective.latent,
        )
    adapter = config.get("adapter")
    return built if adapter is None else make(adapter)(built)


def _augmentations(config: DictConfig) -> dict[str, int]:
    """Return the number of labels by which the augmentation describes itself to the network, if it does.

    Raises:
        ValueError: the network does not take them, or takes another number of them.
    """
    node = config.get("augmentation")
    labels = 0 if node is None else make(node).num_labels
    if labels == 0:
        return {}
    if not accepts(config.model, "augmentations"):
        known = [name for name in names("model") if "augmentations" in load("model", name)]
        network = import_object(config.model._target_).__name__
        raise ValueError(
            f"the augmentation gives the network {labels} labels, which {network} does not take: "
            f"use model={' or '.join(known)}"
        )
    if config.model.get("augmentations", 0) not in (0, labels):
        raise ValueError(
            f"model.augmentations={config.model.augmentations}: the augmentation gives the network {labels} labels"
        )
    return {"augmentations": labels}


def _outputs(config: DictConfig) -> dict[str, int]:
    """Return the network's output channels per channel of the event, where the parametrization needs several.

    A network around another, of the argument ``net``, has the outputs of that one, which are stored.

    Raises:
        ValueError: the network has one only.
    """
    trained: Any = trained_class(config)
    if "parametrization" not in signature(trained)[0]:
        return {}
    outputs: int = getattr(import_object(config.parametrization._target_), "outputs", 1)
    if outputs == 1:
        return {}
    inner = config.model
    while accepts(inner, "net") and not accepts(inner, "outputs"):
        inner = inner.net
    if inner is not config.model and inner.get("outputs", 1) == outputs:
        return {}
    if not accepts(config.model, "outputs"):
        known = [name for name in networks(Network) if accepts(load("model", name), "outputs")]
        raise ValueError(
            f"{import_object(config.model._target_).__name__} has one output channel per channel of the data, and the "
            f"learned variance needs {outputs}: use model={' or '.join(known)}, or another parametrization"
        )
    return {"outputs": outputs}


def networks(kind: Any) -> list[str]:
    """Return the names of the networks of a kind, such as :class:`Network`."""
    targets = {name: OmegaConf.load(CONF / "model" / f"{name}.yaml")._target_ for name in names("model")}
    return [name for name, target in targets.items() if is_of(import_object(target), kind)]


def device(name: str) -> torch.device:
    """Return the device of this name; ``auto`` takes CUDA if there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(1, device=found).item()  # "meta" is a device too, but has no numbers
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={name} is not available ({str(error).splitlines()[0]}); use auto or cpu"
        ) from error
    return found


def trainer(
    config: DictConfig,
    splits: Splits,
    *,
    model: Callable[[DictConfig, DataSpec, Conditioning], Any] = model,
    init: Mapping[str, Any] = MappingProxyType({}),
    taken: Taken = NOTHING_TAKEN,
    command: str = "",
    **more: Any,
) -> Trainer:
    """Build the training of a configuration of the command ``train``.

    Arguments:
        config: the configuration.
        splits: the data.
        model: builds what is trained: a denoiser, or a classifier of noisy samples.
        init: metadata of the initial weights; empty for random ones.
        taken: arguments from other runs.
        command: the command line, stored in every checkpoint.
        more: further arguments: callbacks and when to stop.
    """
    spec = DataSpec.of(splits)
    objective = import_object(config.objective._target_)
    if getattr(objective, "requires_labels", False) and spec.classes < 2:
        raise ValueError("the data have no classes; use data with labels, such as data=digits")
    given = conditioning(config, spec)
    if getattr(objective, "requires_labels", False) and ("label" not in given.names or given.drops("label")):
        raise ValueError("the objective needs the label of every sample: use conditioning=target")
    if given.names and not getattr(objective, "conditional", True):
        raise ValueError("the objective trains without conditions; use conditioning=none")
    conditions.check(given, splits)
    if splits.train.buckets is not None and trained_class(config) is not NetworkDenoiser:
        raise ValueError("images of several sizes train denoisers alone; use data=image_folder")
    augmentation: Augmentation = make(config.augmentation)
    if "image" in given.names and augmentation.moves_pixels:
        raise ValueError(
            "the augmentation would move the samples and not the images that they are conditioned on; use "
            "augmentation=none"
        )
    if not getattr(objective, "requires_labels", False) and config.model.get("num_classes", 0):
        raise ValueError(
            f"model.num_classes={config.model.num_classes}: the data determine the number of classes; "
            "to train with them use conditioning=label"
        )
    given = given.fit(splits.train)
    conditions.warn_of_unseen(given, splits)
    if trained_class(config) is NetworkAutoencoder and accepts(config.codec, "autoencoder"):
        raise ValueError("an autoencoder of latents is not supported; use codec=uniform or codec=affine")
    fitted = codec(config, spec, taken=taken).fit(splits.train)
    space = replace(spec, shape=fitted.event(spec.shape))
    if "image" in given.names and space.shape != spec.shape:
        raise ValueError(
            f"conditioning on images of {spec.shape} is not supported for latents of {space.shape}; use another one"
        )
    precision: Precision = make(config.precision)
    if precision.weights:
        raise ValueError("precision=bfloat16_weights is for sampling; to train use precision=bfloat16")
    settings: TrainingConfig = make(config.engine)
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    torch.manual_seed(settings.seed)  # initial weights; everything later uses separate generators
    trained = model(config, space, given).to(device(config.device))
    check_sizes(trained, splits, fitted, given)
    node = spec.filled(config.objective)
    own: dict[str, Any] = {"noise": trained.net.noise} if OmegaConf.is_missing(node, "noise") else {}
    if accepts(node, "codec"):
        own["codec"] = fitted
    return Trainer(
        denoiser=trained,
        objective=make(node, **own, **taken.get("objective", {})),
        train=splits.train,
        held_out=splits.test,
        codec=fitted,
        augmentation=augmentation,
        optimizer=make(config.optimizer),
        lr_schedule=make(config.lr_schedule),
        ema=make(config.ema),
        precision=precision,
        compiler=make(config.compile),
        settings=settings,
        folder=Path(config.run),
        about={
            "config": resolved,
            "facts": vars(spec),
            "data": data_identity(config, splits).plain(),
            "versions": package_versions(),
            **({"init": dict(init)} if init else {}),
            **({"command": command} if command else {}),
            **conditions.record(given, splits),
            **({"codec": fitted.stored()} if fitted.learned else {}),
        },
        conditioning=given,
        upgrade=partial(upgrade_about, current=resolved),
        **more,
    )
