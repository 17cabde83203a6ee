"""Data sets from a folder of images of several aspect ratios."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from sde_gen.data.bucketed_images import BucketedImages
from sde_gen.data.image import decode_image, fitted, sides
from sde_gen.data.image_folder import ImageFolder


@dataclass(frozen=True, kw_only=True)
class ImageBuckets(ImageFolder):
    """All images below a folder, each resized and cropped to the nearest of a few sizes, as :class:`ImageFolder` does.

    The nearest size minimizes the distance of log(width / height). A batch holds images of one size, and all images
    come equally often: :class:`~sde_gen.data.BucketBatches`. The size of most training images is that of previews,
    samples and evaluations; the held-out loss is that of all sizes.

    Source: NovelAI, 2022, NovelAI improvements on Stable Diffusion, for batches by aspect ratio.

    Arguments:
        root: the folder.
        size: side of the square of the area that all sizes have, nearly.
        channels: 1 for gray, 3 for color.
        test_fraction: fraction of the test split, if no folder is one.
        train: name of the sub-folder of the training split, as for :class:`ImageFolder`.
        test: name of the sub-folder of the test split.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel and uses the
            stored colors.
        skip_corrupt: skip unreadable images with a warning; otherwise they are an error.
        cache: None: images of several sizes are kept in memory.
        sizes: pairs of height and width; None computes them from the size by :func:`computed_sizes`.
        multiple: number that divides the sides of computed sizes.
        ratio: largest ratio of the sides of computed sizes.

    Raises:
        ValueError: a size or another setting is out of range.
    """

    sizes: Sequence[Sequence[int]] | None = None
    multiple: int = 8
    ratio: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache is not None:
            raise ValueError(f"cache={self.cache}: images of several sizes are kept in memory; leave it out")
        if not isinstance(self.size, int):
            raise ValueError(f"size={self.size}: expected the side of a square, or give sizes={[self.size]}")
        pairs = self.pairs()
        if not pairs:
            raise ValueError(
                f"sizes={self.sizes}: expected pairs of height and width, such as [[24,40],[32,32]]"
            )
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"sizes={self.sizes} names a size twice; expected different ones")

    def pairs(self) -> list[tuple[int, int]]:
        """Return the sizes as pairs of height and width."""
        if self.sizes is not None:
            return [sides(size) for size in self.sizes]
        assert isinstance(self.size, int)
        return computed_sizes(self.size, multiple=self.multiple, ratio=self.ratio)

    def fit(self, image: Image.Image) -> Tensor:
        """Decode an image, resize it to cover the nearest size and crop the center."""
        drawn = decode_image(image, background=self.background)
        return fitted(drawn, (self.channels, *nearest(drawn.size, self.pairs())))

    def joined(self, splits: Mapping[bool, Sequence[Tensor]]) -> dict[bool, BucketedImages]:
        """Return the images of each split by sizes, the most frequent one of the training split first."""
        counts = Counter(tuple(image.shape) for image in splits[False])
        counts.update({tuple(image.shape): 0 for image in splits[True]})
        shapes = [shape for shape, _ in counts.most_common()]
        return {test: BucketedImages(images, shapes) for test, images in splits.items()}


def computed_sizes(size: int, *, multiple: int, ratio: float) -> list[tuple[int, int]]:
    """Return the sizes of about one area: the shorter side is a multiple, the longer one is rounded to a multiple.

    Arguments:
        size: side of the square of that area.
        multiple: number that divides all sides.
        ratio: largest ratio of the sides.

    Returns:
        Pairs of height and width, by increasing height.

    Raises:
        ValueError: the size is no multiple, or a number is too small.
    """
    if multiple < 1:
        raise ValueError(f"multiple={multiple}: expected at least 1")
    if not ratio >= 1:
        raise ValueError(f"ratio={ratio}: expected at least 1")
    if size % multiple:
        raise ValueError(f"size={size} is no multiple of {multiple}; give another size or another multiple")
    found = set()
    for short in range(multiple, size + 1, multiple):
        long = round(size**2 / short / multiple) * multiple
        if long <= ratio * short:
            found |= {(short, long), (long, short)}
    return sorted(found)


def nearest(size: tuple[int, int], pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the pair of height and width that minimizes the distance of log(width / height).

    Arguments:
        size: width and height of an image, as Pillow gives them.
        pairs: pairs of height and width; of equally near ones the first counts.
    """
    width, height = size
    return min(pairs, key=lambda pair: abs(math.log(width * pair[0] / (height * pair[1]))))
