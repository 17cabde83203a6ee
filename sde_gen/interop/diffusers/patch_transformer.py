"""Settings and layers that diffusers' transformers of patches have in common."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sde_gen.interop.patch_rows import rows_of_patches
from sde_gen.interop.settings import (
    whole,
)
from sde_gen.interop.weight_mapper import WeightMapper


def token_width(heads: int, settings: Mapping[str, Any]) -> int:
    """Return the features of a token: heads times the features of a head.

    Raises:
        ValueError: it is no multiple of 4, as the embedding of places needs.
    """
    width = heads * whole(settings, "attention_head_dim")
    if width % 4:
        raise ValueError(
            f"num_attention_heads={heads}, attention_head_dim={settings['attention_head_dim']}: expected as product "
            "a multiple of 4"
        )
    return width


def outputs_per_channel(channels: int, out: int) -> int:
    """Return the output channels per channel of the event: 1, or 2 with a variance.

    Raises:
        ValueError: there is another number of output channels.
    """
    outputs, rest = divmod(out, channels)
    if rest or outputs not in (1, 2):
        raise ValueError(f"out_channels={out}: expected {channels}, or {2 * channels} with a variance")
    return outputs


def as_dense(weight: Tensor) -> Tensor:
    """Return the weight of a convolution of patches as that of a dense layer."""
    return weight.flatten(1)


def copy_output(mapper: WeightMapper, source: str, patch: int) -> None:
    """Copy the last layer, whose rows are those of patches with channels last."""
    for kind in ("weight", "bias"):
        mapper.copy(f"out.{kind}", f"{source}.{kind}", rows_of_patches(patch))
