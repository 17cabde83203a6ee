"""Keywords of emoji, from the npm package emojilib."""

import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from sde_gen.utils.atomic import check_regular

PACKAGE, CONTENT = "emojilib@4.0.3", "package/dist/emoji-en-US.json"
"""The package, and the file in its archive."""


def plain_sequence(unified: str) -> str:
    """Return the characters of code points (1F3C3-1F3FB) without the selectors of style."""
    return "".join(chr(int(point, 16)) for point in unified.split("-")).replace("\ufe0f", "")


def read_keywords(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Read the keywords of every emoji, by its characters without the selectors of style.

    Arguments:
        path: the archive, or the file of JSON in it.

    Raises:
        ValueError: the file is missing, damaged or of another form.
    """
    if not path.exists():
        raise ValueError(
            f"there is no file {path} with keywords; fetch it with npm pack {PACKAGE}, or leave out data.keywords"
        )
    try:
        check_regular(path)
        raw = path.read_bytes()
        if path.suffix != ".json":
            with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
                stream = archive.extractfile(CONTENT)
                raw = b"" if stream is None else stream.read()
        found = json.loads(raw)
        if not found or not all(isinstance(words, list) for words in found.values()):
            raise ValueError("no lists of words by emoji")
        return {
            emoji.replace("\ufe0f", ""): tuple(str(word).replace("_", " ") for word in words)
            for emoji, words in found.items()
        }
    except (OSError, ValueError, KeyError, AttributeError, tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not of npm pack {PACKAGE} ({error}); fetch it again") from error
