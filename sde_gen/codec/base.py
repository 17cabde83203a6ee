"""The abstract map between data and model space."""

import abc

from torch import Tensor

from sde_gen._typing import Shape
from sde_gen.noise import Noise


class Codec(abc.ABC):
    """A map from data to model space, its inverse and its log-determinant: bits per dim needs no offset by hand."""

    @abc.abstractmethod
    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Carry data to model space.

        Arguments:
            values: data with shape (B, *event): integer levels, or numbers for continuous data.
            noise: dequantises integer levels; None stands for the middle of every bin.

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
