"""Principal components of standardized weights as the model space of networks."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Lossy
from sde_gen.noise import Noise
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class Principal(Lossy):
    r"""Principal components of the weights of networks, every tensor of them standardized by one number.

    .. math::
        x = \mathrm{diag}(\tau)^{-1}\, P^T\, (w - m) / s, \qquad w \approx m + s\, P\, \mathrm{diag}(\tau)\, x ,

    with the mean m of the training networks, the root mean square s of the deviations of every tensor, the orthonormal
    first components P of the deviations in units of s, and their standard deviations tau.

    Source: Pearson, 1901; as the autoencoder of arXiv:2402.13144 (Wang et al., 2024), which is a small network there.

    Arguments:
        components: number of components K.
        names: names of the tensors; None, as for the others: those of the training split.
        shapes: shapes of the tensors.
        std: s of every tensor.
        spread: tau of every component.
        mean: m, float32 in base64.
        basis: P with shape (K, D), float32 in base64.

    Raises:
        ValueError: components is below 1.
    """

    components: int = 64
    names: Sequence[str] | None = None
    shapes: Sequence[Sequence[int]] | None = None
    std: Sequence[float] | None = None
    spread: Sequence[float] | None = None
    mean: str | None = None
    basis: str | None = None

    learned: ClassVar[tuple[str, ...]] = ("names", "shapes", "std", "spread", "mean", "basis")

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"components={self.components}: expected at least 1")

    def fit(self, train: Dataset) -> "Principal":
        """Compute mean, standard deviations and components.

        Raises:
            ValueError: the data are no networks, or too few for the components.
        """
        w, layout = train.values, train.columns
        if not isinstance(w, Tensor) or not layout or any(column.categories for column in layout):
            raise ValueError("codec=principal is for weights of networks; use data=checkpoints with it")
        most = min(len(w) - 1, w.shape[1])
        if self.components > most:
            raise ValueError(
                f"components={self.components}: {len(w)} networks of {w.shape[1]} numbers have at most {most}; give "
                f"codec.components={most} or less, or more networks"
            )
        mean = w.double().mean(0)
        parts = torch.split(w.double() - mean, [column.size for column in layout], dim=1)
        std = [float(part.square().mean().sqrt()) or 1.0 for part in parts]
        scaled = torch.cat([part / s for part, s in zip(parts, std, strict=True)], dim=1)
        _, values, vectors = torch.linalg.svd(scaled, full_matrices=False)
        spread = values[: self.components] / math.sqrt(len(w) - 1)
        if not float(spread[-1]) > 1e-9 * float(spread[0]):
            raise ValueError(
                f"components={self.components}: the networks differ in fewer directions; give fewer components"
            )
        return replace(
            self,
            names=[column.name for column in layout],
            shapes=[[*column.shape] for column in layout],
            std=std,
            spread=spread.tolist(),
            mean=_pack(mean),
            basis=_pack(vectors[: self.components]),
        )

    def event(self, shape: Shape) -> Shape:
        """Return (K,)."""
        del shape
        return (self.components,)

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Project weights (B, D) to components (B, K)."""
        del noise
        mean, scale, basis, spread = (part.to(values.device) for part in self._parts)
        if values.ndim != 2 or values.shape[1] != len(mean):
            raise ValueError(
                f"weights have shape {tuple(values.shape)}; expected (B, {len(mean)}), as in training"
            )
        return (((values.double() - mean) / scale) @ basis.mT / spread).float()

    def decode(self, x: Tensor) -> Tensor:
        """Return weights (B, D) of components (B, K)."""
        mean, scale, basis, spread = (part.to(x.device) for part in self._parts)
        return (mean + scale * ((x.double() * spread) @ basis)).to(x.dtype)

    def decode_image(self, x: Tensor) -> Tensor:
        """Return the components, whose first two are a scatter plot."""
        return x

    def networks(self, x: Tensor) -> list[dict[str, Tensor]]:
        """Return a state dictionary for every row of components (B, K)."""
        if self.names is None or self.shapes is None:
            raise ValueError("the components are not known; call fit(train)")
        sizes = [math.prod(shape) for shape in self.shapes]
        return [
            {
                name: part.reshape(*shape).clone()
                for name, shape, part in zip(self.names, self.shapes, row.split(sizes), strict=True)
            }
            for row in self.decode(x)
        ]

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return m, s of every number, P and tau, float64."""
        if (
            self.mean is None
            or self.basis is None
            or self.std is None
            or self.spread is None
            or self.shapes is None
        ):
            raise ValueError("the components are not known; call fit(train)")
        sizes = torch.tensor([math.prod(shape) for shape in self.shapes])
        scale = torch.tensor([*self.std], dtype=torch.float64).repeat_interleave(sizes)
        basis = _unpack(self.basis).reshape(self.components, -1)
        return _unpack(self.mean), scale, basis, torch.tensor([*self.spread], dtype=torch.float64)


def _pack(numbers: Tensor) -> str:
    """Encode numbers as float32, little-endian, in base64."""
    return base64.b64encode(numbers.numpy().astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str) -> Tensor:
    """Decode numbers as float64 with shape (n,)."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64))
