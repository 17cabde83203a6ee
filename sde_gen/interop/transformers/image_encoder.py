"""Frozen encoder of images from a folder of transformers, with the settings of its preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.conditioning.image_embedder import ImageEmbedder
from sde_gen.data.image_file import open_image
from sde_gen.interop.settings import shown, whole
from sde_gen.interop.transformers import clip_vision
from sde_gen.interop.transformers.folder import digest_of
from sde_gen.model.transformer.clip_vision import CLIPVision

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of CLIP's pixels on [0, 1] (Radford et al., 2021, arXiv:2103.00020, in their code)."""

SETTINGS: dict[str, Any] = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "image_mean": list(MEAN),
    "image_std": list(STD),
}
"""Defaults of transformers' CLIPImageProcessor."""

FIXED = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "resample")
"""Settings of which the default is supported alone: cubic interpolation, and no step left out."""


@dataclass(frozen=True, kw_only=True)
class CLIPImages(ImageEmbedder):
    """CLIP's encoder of images: resized by cubic interpolation, cropped in the middle, and standardized.

    Source: Radford et al., 2021, arXiv:2103.00020; the preprocessing is that of its code.

    Arguments:
        path: folder with ``config.json`` and the weights.
        sha256: digest of both; None takes what is there.
        shorter: length in pixels to which the shorter side is resized.
        crop: height and width in pixels of the middle that is kept.
        mean: mean of every channel on [0, 1].
        std: standard deviation of every channel.

    Raises:
        ValueError: a size is not positive, the crop is larger than the shorter side; or, when used, files are missing,
            changed or do not fit.
    """

    path: str
    sha256: str | None = None
    shorter: int = 224
    crop: int = 224
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD

    def __post_init__(self) -> None:
        if (
            not 1 <= self.crop <= self.shorter
            or len(self.mean) != 3
            or len(self.std) != 3
            or min(self.std) <= 0
        ):
            raise ValueError(
                f"shorter={self.shorter}, crop={self.crop}, mean={list(self.mean)}, std={list(self.std)}: expected a "
                "crop of at most the shorter side, and three means and positive deviations"
            )
        object.__setattr__(self, "_network", None)

    @property
    def size(self) -> int:
        """Length of an embedding."""
        return self.open().projection

    def open(self) -> CLIPVision:
        """Read the network, once.

        Raises:
            ValueError: files are missing, were changed, or are for images of another size.
        """
        if vars(self)["_network"] is None:
            if self.sha256 is not None and digest_of(Path(self.path)) != self.sha256:
                raise ValueError(
                    f"{self.path} is not the encoder of images of the conversion: its SHA-256 is another one; put that "
                    "one back"
                )
            network = clip_vision.load(Path(self.path))
            if network.side != self.crop or network.channels != 3:
                raise ValueError(
                    f"the encoder in {self.path} takes {network.channels} channels and sides of {network.side} pixels, "
                    f"the preprocessing gives 3 and {self.crop}: they do not belong together"
                )
            object.__setattr__(self, "_network", network)
        found: CLIPVision = vars(self)["_network"]
        return found

    @torch.no_grad()
    def __call__(self, paths: Sequence[Path]) -> Tensor:
        """Embed the images of files on the CPU."""
        network = self.open()
        pixels = torch.stack([self.pixels(open_image(path)) for path in paths])
        found: Tensor = network(pixels.to(network.first.dtype))
        return found

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the standardized pixels (3, crop, crop) of an image."""
        image = image.convert("RGB")
        width, height = image.size
        shortest = min(width, height)
        resized = image.resize(
            (self.shorter * width // shortest, self.shorter * height // shortest), Image.Resampling.BICUBIC
        )
        left, top = ((side - self.crop) // 2 for side in resized.size)
        middle = resized.crop((left, top, left + self.crop, top + self.crop))
        values = torch.from_numpy(np.array(middle)).permute(2, 0, 1).double() / 255
        mean, std = (
            torch.tensor([*part], dtype=torch.float64).view(3, 1, 1) for part in (self.mean, self.std)
        )
        return (values - mean) / std


def preprocessing(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of :class:`CLIPImages` for the settings of a CLIPImageProcessor.

    Raises:
        ValueError: a setting is not supported; the message names it.
    """
    settings = {**SETTINGS, **given}
    for key in FIXED:
        if settings[key] != SETTINGS[key]:
            raise ValueError(f"{key}={shown(settings[key])} is not supported; expected {SETTINGS[key]}")
    if abs(float(settings["rescale_factor"]) - 1 / 255) > 1e-9:
        raise ValueError(
            f"rescale_factor={shown(settings['rescale_factor'])} is not supported; expected 1/255"
        )
    size, crop = settings["size"], settings["crop_size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if not isinstance(size, Mapping) or "shortest_edge" not in size:
        raise ValueError(f"size={shown(size)} is not supported; expected shortest_edge")
    if not isinstance(crop, Mapping) or crop.get("height") != crop.get("width"):
        raise ValueError(f"crop_size={shown(crop)} is not supported; expected equal height and width")
    return {
        "shorter": whole(size, "shortest_edge"),
        "crop": whole(crop, "height"),
        "mean": [float(value) for value in settings["image_mean"]],
        "std": [float(value) for value in settings["image_std"]],
    }
