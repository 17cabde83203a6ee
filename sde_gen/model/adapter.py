"""Low-rank adapters: trainable low-rank updates of the frozen weights of a network."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Net = TypeVar("Net", bound=nn.Module)

MIDDLE, ORIGINAL = ".parametrizations.weight.", ".parametrizations.weight.original"
"""Parts of the names that PyTorch gives to the tensors of an adapted layer."""


class LowRank(nn.Module):
    r"""The weight :math:`W + (\alpha / r) B A` of an adapted layer.

    Rows of the weight are its first dimension, columns all others: the kernel of a convolution is a matrix of
    outputs times (inputs, height, width).

    Arguments:
        weight: W with shape (rows, ...).
        rank: r, rows of A and columns of B.
        alpha: scale of the update, in units of 1 / r.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = len(weight), math.prod(weight.shape[1:])
        like: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        self.a = nn.Parameter(torch.randn(rank, columns, **like) / columns**0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank, **like))
        self.register_buffer("scale", torch.tensor(alpha / rank, **like))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the update to the weight in the dtype of the weight, also under autocast."""
        with torch.autocast(weight.device.type, enabled=False):
            return add(weight, self.a, self.b, self.scale)


def add(weight: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Return W + scale B A with the shape of W (rows, ...), for A (r, columns) and B (rows, r)."""
    return weight + (scale * (b @ a)).view(weight.shape)


class Adapter(abc.ABC):
    """Abstract base class of changes to a network before training."""

    @abc.abstractmethod
    def __call__(self, net: Net) -> Net:
        """Change a network in place, set ``requires_grad`` of its parameters, and return it."""


@dataclass(frozen=True, kw_only=True)
class NoAdapter(Adapter):
    """Leave the network as it is."""

    def __call__(self, net: Net) -> Net:
        """Return the network itself, unchanged."""
        return net


@dataclass(frozen=True, kw_only=True)
class LoRA(Adapter):
    r"""Low-rank adaptation: every chosen layer has the weight :math:`W + (\alpha / r) B A`; only A and B are trained.

    A is drawn from N(0, 1 / columns) and B is zero, so that the network is unchanged at the start. The sum is formed
    in the dtype of the weight, so that a merged network (:func:`merge`) has bit-identical outputs.

    Source: Hu et al., 2021, arXiv:2106.09685, eq. 3 and section 4.1; there for linear layers.

    Arguments:
        rank: r.
        alpha: factor of the product, in units of 1 / r.
        targets: patterns of names of the linear and convolution layers, as ``down_blocks.*``.
        trainable: patterns of names of parameters that are trained as they are, such as ``classes.*`` for new classes.

    Raises:
        ValueError: a number is not positive, or a pattern names nothing.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: Sequence[str] = ("*",)
    trainable: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise ValueError(
                f"rank={self.rank}, alpha={self.alpha}: expected a rank of at least 1 and a positive alpha"
            )

    def __call__(self, net: Net) -> Net:
        """Add A and B to the target layers and freeze all other parameters except those in ``trainable``."""
        layers = {
            name: layer
            for name, layer in net.named_modules()
            if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
            and not parametrize.is_parametrized(layer)
        }
        chosen = matching(self.targets, layers, "linear or convolution layer")
        kept = matching(self.trainable, dict(net.named_parameters()), "parameter")
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name in kept)
        for layer in [layer for name, layer in layers.items() if name in chosen]:  # drawn in this order
            weight: Any = layer.weight
            addition = LowRank(weight.detach(), self.rank, self.alpha)
            parametrize.register_parametrization(layer, "weight", addition, unsafe=True)
        return net


def matching(patterns: Sequence[str], names: Mapping[str, object], kind: str) -> set[str]:
    """Return the names that match shell-style patterns.

    Raises:
        ValueError: a pattern matches no name.
    """
    found: set[str] = set()
    for pattern in patterns:
        these = {name for name in names if fnmatchcase(name, pattern)}
        if not these:
            raise ValueError(
                f"{pattern} names no {kind} of the network; its names are {', '.join(sorted(names)[:3])}, ..."
            )
        found |= these
    return found


def merge(net: Net) -> Net:
    """Merge the updates into the weights of a network in place; its outputs are bit-identical."""
    for layer in [*net.modules()]:
        if parametrize.is_parametrized(layer, "weight"):
            weight: Any = layer.weight
            del layer.parametrizations
            # PyTorch's own function would break copies of the layer: it changes their common class
            layer.__class__ = type(layer).__bases__[0]
            layer.register_parameter("weight", nn.Parameter(weight.detach()))
    return net


def plain_name(name: str) -> str:
    """Return the name of an adapted network's tensor in the original network; names of A and B are unchanged."""
    return f"{name.removesuffix(ORIGINAL)}.weight" if name.endswith(ORIGINAL) else name


def merged(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the updates into the weights of a state dict; without adapters, return the same tensors.

    Arguments:
        tensors: tensors by name, in memory or read when indexed.
    """
    plain = {name: value for name, value in tensors.items() if MIDDLE not in name}
    for name, value in tensors.items():
        if name.endswith(ORIGINAL):
            parts = (tensors[f"{name.removesuffix('original')}0.{part}"][()] for part in ("a", "b", "scale"))
            plain[plain_name(name)] = add(value[()], *parts)
    return plain
