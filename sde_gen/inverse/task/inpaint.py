"""Inpainting of masked pixels."""

from dataclasses import dataclass

from torch import Tensor

from sde_gen.inverse.operator import Mask, Operator
from sde_gen.inverse.task.restore import Restore


@dataclass(frozen=True, kw_only=True, eq=False)
class Inpaint(Restore):
    """Fill the masked part of an image.

    Arguments:
        mask: boolean with shape (H, W), true where the image is known.

    Raises:
        ValueError: as :class:`~sde_gen.inverse.task.Restore`, or the mask has another size than the model's
            images, or hides everything.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.shape != tuple(self.event[1:]):
            raise ValueError(
                f"the mask has shape {tuple(self.mask.shape)}, the model's images {tuple(self.event[1:])}; "
                "they must be one"
            )
        if not bool(self.mask.any()):
            raise ValueError("the mask hides everything: it must be white where the image is known")
        super().__post_init__()

    @property
    def operator(self) -> Operator:
        """Return the mask of the known pixels."""
        return Mask(mask=self.mask)
