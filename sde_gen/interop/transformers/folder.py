"""Folders that transformers' ``save_pretrained`` writes: settings, weights and their digest."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.interop.formats import files
from sde_gen.interop.settings import choice
from sde_gen.interop.weight_mapper import WeightMapper
from sde_gen.model.text.clip import Activation, quick_gelu

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
)
"""File names of weights, float32 first."""

POSITIONS = ".embeddings.position_ids"
"""End of the name of a tensor 0, 1, 2, ..., which is no weight."""

_TANH: Activation = partial(F.gelu, approximate="tanh")
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": F.gelu,
    "gelu_fast": _TANH,
    "gelu_new": _TANH,
    "gelu_pytorch_tanh": _TANH,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}
"""Activations by their names in transformers."""


def weights_of(folder: Path) -> Path:
    """Return the weight file of a folder.

    Raises:
        ValueError: there is no folder, no ``config.json`` in it or no weights.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; name one with config.json and {WEIGHTS[0]}")
    if not (folder / "config.json").is_file():
        raise ValueError(f"there is no {folder / 'config.json'}, which defines the network")
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} holds none of {', '.join(WEIGHTS)}")


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of the settings and the weights of a folder.

    Raises:
        ValueError: as :func:`weights_of`.
    """
    sha256 = hashlib.sha256()
    for path in (folder / "config.json", *files.parts_of(weights_of(folder))):
        if not path.is_file():
            raise ValueError(f"there is no {path}, which the index of the weights lists")
        with path.open("rb") as file:
            while part := file.read(2**22):
                sha256.update(part)
    return sha256.hexdigest()


def load(folder: Path, read: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Any]) -> Any:
    """Read the network of a folder.

    Arguments:
        folder: the folder.
        read: from tensors and settings to the network.

    Raises:
        ValueError: as :func:`weights_of`, or the weights are damaged, or do not fit; the message names the folder.
    """
    weights = weights_of(folder)
    stored = files.read(weights)
    if isinstance(stored, dict):  # published files hold the numbers of the positions, too
        stored = {name: value for name, value in stored.items() if not str(name).endswith(POSITIONS)}
    tensors = files.tensors(stored)
    try:
        return read(tensors, files.json_of(folder / "config.json"))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def activation(settings: Mapping[str, Any], key: str) -> Activation:
    """Return the activation that a setting names.

    Raises:
        ValueError: it is missing or unknown.
    """
    return ACTIVATIONS[choice(settings, key, *ACTIVATIONS)]


def filled(net: nn.Module, mapper: WeightMapper) -> None:
    """Give a network on the meta device its weights, frozen and in evaluation mode.

    Raises:
        ValueError: as :meth:`~sde_gen.interop.weight_mapper.WeightMapper.finish`.
    """
    net.load_state_dict(mapper.finish(), assign=True)
    net.eval().requires_grad_(False)
