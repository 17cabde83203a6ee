"""Texts and images for an imported network that is conditioned on the embedding of an image beside a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.image_embedder import ImageEmbedder


@dataclass(frozen=True, kw_only=True)
class ImagePrompt(FrozenText):
    """Texts, and embeddings of images: those of given files, or given numbers, in place of the learned null.

    Without a text it is the empty one: the samples are variations of the image.

    Source: Ramesh et al., 2022, arXiv:2204.06125, section 3.1.

    Arguments:
        images: from files to embeddings, which follow the features of the text.
        of_text: settings of :class:`FrozenText`, whose ``numbers`` are the null of the embedding.

    Raises:
        ValueError: there are no numbers, or a setting of :class:`FrozenText` is out of range.
    """

    images: ImageEmbedder

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.numbers:
            raise ValueError("numbers=[]: expected the embedding that stands for no image")

    @property
    def names(self) -> tuple[str, ...]:
        """Return text, vector and image."""
        return (*super().names, "image")

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Embed texts and images, each taken in turn.

        Raises:
            ValueError: an image is missing or unreadable, or is given beside its embedding.
        """
        given = {name: value for name, value in typed.items() if value is not None}
        images = given.pop("image", None)
        if images is not None:
            if "vector" in given:
                raise ValueError(
                    "vector=... is the embedding of an image, and image=... is given: leave one out"
                )
            listed = images if isinstance(images, list | tuple) else [images]
            for one in listed:
                if not isinstance(one, str | Path):
                    raise ValueError(f"image={one}: expected an image file")
            given["vector"] = torch.cat([self.images([Path(one)]) for one in listed])
        return super().prompt(given, count, class_names=class_names)
