"""Networks of k-diffusion, with the preconditioning of EDM."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.label import Label as ClassLabel
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.k_diffusion.image_transformer_v1 import ImageTransformerV1Layout
from sde_gen.interop.k_diffusion.image_transformer_v2 import ImageTransformerV2Layout
from sde_gen.interop.k_diffusion.image_v1 import ImageV1Layout
from sde_gen.interop.preconditioning import karras
from sde_gen.interop.settings import MOST_CLASSES, choice, listing, plausible, real, section, whole
from sde_gen.interop.weight_mapper import WeightMapper

TRAINING = frozenset(
    {
        *("augment_prob", "loss_config", "loss_weighting", "loss_scales", "sigma_sample_density"),
        "noise_perturbation_factor",
    }
)
"""Settings of a model that only affect its training."""


class KDiffusionLayout(Protocol):
    """Mapping of a k-diffusion network to a network of sde_gen, from the section ``model`` and the number of classes.

    Attributes:
        known: settings specific to this type of network.
        classes: number of classes of the conditioning, 0 for none.
        shape: event shape (C, H, W).
        repeated: lower bound of the number of blocks or layers.
    """

    known: frozenset[str]
    classes: int
    shape: list[int]
    repeated: int

    def spec(self) -> ObjectSpec:
        """Return the specification of the network."""

    def map_weights(self, mapper: WeightMapper) -> None:
        """Copy the tensors, named without ``inner_model.``."""


NETWORKS: dict[str, Callable[[Mapping[str, Any], int], KDiffusionLayout]] = {
    "image_v1": ImageV1Layout,
    "image_transformer_v1": ImageTransformerV1Layout,
    "image_transformer_v2": ImageTransformerV2Layout,
}
"""Supported model types of k-diffusion."""


def load(path: Path, config: Mapping[str, Any] | None = None) -> ConvertedModel:
    """Read a file of k-diffusion's ``convert_for_inference.py``, or the EMA weights of a training checkpoint.

    Arguments:
        path: a file of safetensors, or of torch.save.
        config: the original configuration; None to use the one in the file.

    Raises:
        ValueError: neither the file nor the caller contains the configuration; or as
            :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    found = files.read(path)
    if path.suffix == ".safetensors":
        settings = _parsed(files.metadata(path).get("config"), path) if config is None else None
        tensors = files.tensors(found)
    else:
        averaged = isinstance(found, dict) and "model_ema" in found
        settings = found.get("config") if averaged else None
        tensors = files.tensors(found, *(["model_ema"] if averaged else []))
    config = settings if config is None else config
    if not isinstance(config, Mapping):
        raise ValueError(
            f"{path} contains no configuration of its network: give the original configuration as settings=..."
        )
    return read(tensors, config)


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a network of k-diffusion: the prediction of x_0 equals its denoiser's D(x; sigma).

    Images have range [-1, 1]; the noise label is log(sigma) / 4. The nine augmentation parameters are the conditioning
    ``augment``, zero by default. Those of ``mapping_cond`` follow them in ``image_v1`` and are the conditioning
    ``condition`` of ``image_transformer_v2``. A missing class is the null class of the original training. The original
    ``image_v1`` applies attention dropout in evaluation too; here it is applied in training only.

    Source: Crowson, 2023, k-diffusion 0.1.1, ``config.py``, ``layers.py`` and ``models``; ``image_transformer_v2``:
    Crowson et al., 2024, arXiv:2401.11605, and commit 21d12c9 of their code; the preconditioning: Karras et al., 2022,
    arXiv:2206.00364, table 1.

    Arguments:
        tensors: the state dictionary.
        config: the original configuration: the section ``model`` and, for classes, ``dataset``.

    Raises:
        ValueError: settings are missing, unknown or unsupported, or tensors do not fit; the message names them.
    """
    model, data = section(config, "model"), section(config, "dataset") if config.get("dataset") else {}
    kind = choice(model, "type", *NETWORKS)
    classes = {"num_classes": data.get("num_classes") or 0}
    layout = NETWORKS[kind](model, whole(classes, "num_classes", minimum=0, maximum=MOST_CLASSES))
    dropped = real({"cond_dropout_rate": 0.1, **data}, "cond_dropout_rate")
    deviation = real({"sigma_data": 1.0, **model}, "sigma_data")
    low, high = real(model, "sigma_min"), real(model, "sigma_max")
    common = {"type", "input_channels", "input_size", "sigma_data", "sigma_min", "sigma_max"}
    if unknown := [key for key in model if key not in common | TRAINING | layout.known]:
        raise ValueError(f"{kind} has no setting {listing(unknown)}")
    plausible(tensors, layout.repeated)
    with torch.device("meta"):
        mapper = WeightMapper(_bare(tensors), layout.spec().make())
    layout.map_weights(mapper)
    labels = ObjectSpec(ClassLabel, classes=layout.classes, dropout=dropped)
    sde, precondition = karras(low=low, high=high, deviation=deviation)
    return ConvertedModel(
        config={
            "model": layout.spec().config(),
            "sde": sde.config(),
            "parametrization": precondition.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": (labels if layout.classes else ObjectSpec(Unconditional)).config(),
        },
        shape=tuple(layout.shape),
        levels=256,
        classes=layout.classes,
        state=mapper.finish(),
        unused=mapper.unused,
    )


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the name prefixes of the wrappers for preconditioning and augmentation."""
    wrapper = "inner_model."
    return {name.removeprefix(wrapper).removeprefix(wrapper): value for name, value in tensors.items()}


def _parsed(text: str | None, path: Path) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: the configuration in its metadata is not JSON ({str(error)[:100]})"
        ) from error
