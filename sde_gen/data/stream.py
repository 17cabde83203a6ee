"""Images that come one after the other."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Sample(NamedTuple):
    """One image.

    Attributes:
        image: uint8 with shape (C, H, W).
        label: its class, or None.
        test: whether it belongs to the test split.
    """

    image: Tensor
    label: int | None
    test: bool


class ImageStream(NamedTuple):
    """Images in their order, and what is known of them all.

    Attributes:
        samples: every image once; all have one shape. A split in which a label is missing
            has none.
        classes: number of classes, 0 without labels.
        class_names: their names in the order of their numbers; empty where they have none.
    """

    samples: Iterable[Sample]
    classes: int
    class_names: tuple[str, ...] = ()
