"""Last layers of transformers of patches, in the order of other projects."""

from collections.abc import Callable

import torch
from torch import Tensor


def rows_of_patches(patch: int) -> Callable[[Tensor], Tensor]:
    """Return the map of the rows of a last layer, or of its bias, from channels last to channels first.

    Arguments:
        patch: side of a patch.
    """
    return lambda rows: torch.unflatten(rows, 0, (patch * patch, -1)).transpose(0, 1).flatten(0, 1)
