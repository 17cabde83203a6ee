"""The abstract map between data and model space."""

import abc
from typing import Annotated, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.fitted import Fitted
from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape

Levels = Annotated[
    int, "for continuous data use codec=affine, or codec=standardized; vectors also need model=mlp"
]
"""Annotation of a constructor argument that is the number of integer levels of the data."""


Self = TypeVar("Self", bound="Codec")


class LatentBound(NamedTuple):
    """The terms of the bound of a latent model, but for the density of the latents.

    Arguments:
        z: latents in model space with shape (B, *latent).
        log_q: log q(z | data) in nats, a density in model space, with shape (B,).
        log_likelihood: log p(data | z) in nats with shape (B,).
    """

    z: Tensor
    log_q: Tensor
    log_likelihood: Tensor


class Codec(Fitted, Checked, abc.ABC):
    """Map from data to model space, its inverse and its log-determinant, which bits per dim need.

    Each integer level k corresponds to a bin, an interval of x. Continuous data have no bins.
    """

    def fit(self: Self, train: Dataset) -> Self:
        """Return the codec with what it learns from the training split, such as a mean.

        Raises:
            ValueError: the data do not fit.
        """
        del train
        return self

    @abc.abstractmethod
    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Map data to model space.

        Arguments:
            values: data with shape (B, *event): integer levels, or numbers for continuous data.
            noise: noise for the dequantization of integer levels; None returns the centers of the bins.

        Returns:
            float32 with shape (B, *event).
        """

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Map model space (B, *event) to data: integer levels, or numbers for continuous data."""

    def decode_unrounded(self, x: Tensor) -> Tensor:
        """Map model space (B, *event) to numbers in units of the data that are not rounded to levels."""
        return self.decode(x)

    @abc.abstractmethod
    def decode_image(self, x: Tensor) -> Tensor:
        """Map model space (B, *event) to displayable values: full-range uint8 for images, numbers for vectors."""

    def table(self, x: Tensor) -> list[list[str]] | None:
        """Return header and rows of a table for model space (B, D); None for data that are no table."""
        del x
        return None

    def networks(self, x: Tensor) -> list[dict[str, Tensor]] | None:
        """Return a state dictionary for every sample of model space (B, D); None for data that are no networks."""
        del x
        return None

    @abc.abstractmethod
    def log_det(self, x: Tensor) -> Tensor:
        """Return log |dx / dy| in nats, x in model space and y in units of the data's levels.

        Arguments:
            x: points of model space with shape (B, *event).

        Returns:
            float64 with shape (B,), on the device of x.
        """

    of_latents: ClassVar[bool] = False
    """True if model space holds latents of an autoencoder, whose density is not that of the data."""

    def event(self, shape: Shape) -> Shape:
        """Return the event shape in model space of data with an event shape.

        Raises:
            ValueError: the codec is for data of another shape.
        """
        return tuple(shape)

    def mask(self, mask: Tensor) -> Tensor:
        """Map a boolean mask of known numbers of the data to model space."""
        return mask

    def bound(self, values: Tensor, noise: Noise) -> LatentBound:
        """Return the terms of the bound of a model of latents.

        Raises:
            ValueError: model space holds no latents.
        """
        del values, noise
        raise ValueError(
            f"{type(self).__name__} has no latents, and its density is that of the data; take metrics=[bpd]"
        )

    @property
    def limits(self) -> tuple[float, float] | None:
        """Smallest and largest value of the data in model space; None if unbounded."""
        return None

    def bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edges of the bins that contain x, float64 like x; the outermost are at -inf and inf.

        Raises:
            ValueError: the data are continuous.
        """
        del x
        raise ValueError(_continuous(self))

    def middles(self) -> Tensor:
        """Return the centers of the bins in model space, ascending, float64 with shape (levels,).

        Raises:
            ValueError: the data are continuous.
        """
        raise ValueError(_continuous(self))


class Lossy(Codec):
    """A codec that is not exactly invertible, such as an autoencoder.

    It has no log-determinant: densities in its model space do not give bits per dim of the data.
    """

    def log_det(self, x: Tensor) -> Tensor:
        """Raise an error: a lossy codec has no log-determinant.

        Raises:
            ValueError: always.
        """
        del x
        raise ValueError(
            f"{type(self).__name__} loses information, so a density in its model space is not a likelihood of the "
            "data; take metrics=[latent_bound], or evaluate a model of the data themselves"
        )


def constant(x: Tensor, nats: float) -> Tensor:
    """Return the log-determinant of an affine map, the same at every point of a batch x (B, *event), as (B,)."""
    return torch.full((len(x),), nats, dtype=torch.float64, device=x.device)


def _continuous(codec: Codec) -> str:
    return (
        f"{type(codec).__name__} is for continuous data, which have no levels; "
        "take a bound with a density for decoder, such as metrics=[elbo]"
    )
