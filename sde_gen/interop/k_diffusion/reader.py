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
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.formats import files
from sde_gen.interop.k_diffusion.image_transformer_v1 import ImageTransformerV1Layout
from sde_gen.interop.k_diffusion.image_transformer_v2 import ImageTransformerV2Layout
from sde_gen.interop.k_diffusion.image_v1 import ImageV1Layout
from sde_gen.interop.object_spec import ObjectSpec
from sde_gen.interop.preconditioning import karras
from sde_gen.interop.settings import MOST_CLASSES, choice, listing, plausible, real, section, whole
from sde_gen.interop.weight_mapper import WeightMapper

TRAINING = frozenset(
    {
        *("augment_prob", "loss_config", "loss_weighting", "loss_scales", "sigma_sample_density"),
        "noise_perturbation_factor",
    }
)
"""Settings of a model that only their training looks at."""


class Layout(Protocol):
    """One of their networks in our terms, made of the section ``model`` and the number of classes of the data.

    Attributes:
        known: the settings that are its own.
        classes: number of classes that the network is told, 0 for none.
        shape: event shape (C, H, W).
        repeated: number of blocks or layers, at least.
    """

    known: frozenset[str]
    classes: int
    shape: list[int]
    repeated: int

    def spec(self) -> ObjectSpec:
        """Our network."""

    def map_weights(self, mapper: WeightMapper) -> None:
        """Move their tensors, named without ``inner_model.``, to our network."""


NETWORKS: dict[str, Callable[[Mapping[str, Any], int], Layout]] = {
    "image_v1": ImageV1Layout,
    "image_transformer_v1": ImageTransformerV1Layout,
    "image_transformer_v2": ImageTransformerV2Layout,
}
"""Their kinds of network."""


def load(path: Path, config: Mapping[str, Any] | None = None) -> ConvertedModel:
    """Read a file of their ``convert_for_inference.py``, or the averaged weights of a training's checkpoint.

    Arguments:
        path: a file of safetensors, or of torch.save.
        config: their configuration; None for that which the file holds.

    Raises:
        ValueError: neither the file nor the caller says how the network was made; or as
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
            f"{path} does not say how its network was made: give their configuration as settings=..."
        )
    return read(tensors, config)


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Put a network of theirs in our terms: what it predicts of x_0 is their denoiser's D(x; sigma).

    Images lie on [-1, 1]; the network is told log(sigma) / 4. Nine numbers that describe the augmentation are the
    conditioning ``augment``, zero where it is not given. Those of ``mapping_cond`` come after them in ``image_v1`` and
    are the conditioning ``condition`` of ``image_transformer_v2``. A class that is not given is the one that their
    training puts in place of dropped labels. Attention of ``image_v1`` drops weights in their code in evaluation too;
    here, in training alone.

    Source: Crowson, 2023, k-diffusion 0.1.1, ``config.py``, ``layers.py`` and ``models``; ``image_transformer_v2``:
    Crowson et al., 2024, arXiv:2401.11605, and commit 21d12c9 of their code; the preconditioning: Karras et al., 2022,
    arXiv:2206.00364, table 1.

    Arguments:
        tensors: the state dictionary.
        config: their configuration: the section ``model`` and, for classes, ``dataset``.

    Raises:
        ValueError: a setting that is missing, unknown, or that our networks do not have, or tensors that do not fit;
            the message names them.
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
    told = ObjectSpec(ClassLabel, classes=layout.classes, dropout=dropped)
    sde, precondition = karras(low=low, high=high, deviation=deviation)
    return ConvertedModel(
        config={
            "model": layout.spec().config(),
            "sde": sde.config(),
            "parametrization": precondition.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=-1.0, high=1.0).config(),
            "conditioning": (told if layout.classes else ObjectSpec(Unconditional)).config(),
        },
        shape=tuple(layout.shape),
        levels=256,
        classes=layout.classes,
        state=mapper.finish(),
        unused=mapper.unused,
    )


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names in the network itself, of which preconditioning and augmentation are wrappers."""
    wrapper = "inner_model."
    return {name.removeprefix(wrapper).removeprefix(wrapper): value for name, value in tensors.items()}


def _parsed(text: str | None, path: Path) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: the configuration in its metadata is no JSON ({str(error)[:100]})"
        ) from error
