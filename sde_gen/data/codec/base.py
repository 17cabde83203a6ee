"""The abstract map between data and model space."""

import abc
from typing import Annotated

from torch import Tensor

from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape

Levels = Annotated[int, "for continuous data use codec=affine"]
"""The annotation of the data's number of integer levels."""


class Codec(Checked, abc.ABC):
    """A map from data to model space, its inverse and its log-determinant: bits per dim needs no offset by hand.

    Integer levels fill bins: level k stands for all x between two edges. Continuous data have no bins.
    """

    @abc.abstractmethod
    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Carry data to model space.

        Arguments:
            values: data with shape (B, *event): integer levels, or numbers for continuous data.
            noise: dequantizes integer levels; None stands for the middle of every bin.

        Returns:
            float32 with shape (B, *event).
        """

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Carry model space (B, *event) back to data: integer levels, or numbers for continuous data."""

    @abc.abstractmethod
    def decode_image(self, x: Tensor) -> Tensor:
        """Carry model space (B, *event) to what a picture shows: uint8 of full range, or the numbers of vectors."""

    @abc.abstractmethod
    def log_det(self, event: Shape) -> float:
        """Return log |dx / dy| of one event in nats, x in model space and y in units of the data's levels."""

    @property
    def limits(self) -> tuple[float, float] | None:
        """The smallest and the largest value of data in model space; None where they have none."""
        return None

    def bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The edges of the bins that hold x, float64 like x; the outermost are at -inf and inf.

        Raises:
            ValueError: the data are continuous.
        """
        del x
        raise ValueError(_continuous(self))

    def middles(self) -> Tensor:
        """The middle of every level's bin in model space, ascending, float64 with shape (levels,).

        Raises:
            ValueError: the data are continuous.
        """
        raise ValueError(_continuous(self))


class Lossy(Codec):
    """A codec from which the data do not return exactly, such as the encoder of an autoencoder.

    Densities in its model space say nothing about bits of the data: it has no log-determinant.
    """

    def log_det(self, event: Shape) -> float:
        """Refuse.

        Raises:
            ValueError: always.
        """
        del event
        raise ValueError(
            f"{type(self).__name__} loses information, so a density in its model space is no likelihood of the "
            "data; report nats of the latents, or evaluate a model of the data themselves"
        )


def _continuous(codec: Codec) -> str:
    return (
        f"{type(codec).__name__} is for continuous data, which have no levels; "
        "take a bound with a density for decoder, such as metrics=[elbo]"
    )
