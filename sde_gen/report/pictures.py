"""Pictures of a report as data URIs, within a size limit."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from sde_gen.utils import atomic

LARGEST = 2**26
"""Maximum size of a picture file in bytes."""

KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"GIF87a": "image/gif", b"GIF89a": "image/gif"}
"""Media types by the first bytes of a file; no other files are embedded."""

SMALLER = (1024, 640, 320, 160)
"""Side lengths in pixels to which a large picture is reduced, in this order."""


@dataclass(kw_only=True)
class Budget:
    """Remaining size of the pictures of a page.

    Arguments:
        left: remaining bytes of data URIs.
        notes: pictures that were omitted, one line each.
    """

    left: int = 3 * 2**20
    notes: list[str] = field(default_factory=list)

    def embed(self, path: Path, most: int = 2**20) -> str | None:
        """Return the data URI of a PNG or GIF, reduced if it is too large; None, with a note, if it cannot be shown.

        Arguments:
            path: the file.
            most: maximum size of the URI in bytes.
        """
        try:
            found = _uri(path, min(most, self.left))
        except Exception as error:  # of a damaged or hostile file, in any library
            found = None
            self.notes.append(f"{path.name} cannot be shown ({type(error).__name__})")
        else:
            if found is None:
                self.notes.append(f"{path.name} is left out: the page would be too large")
        self.left -= len(found or "")
        return found


def _uri(path: Path, most: int) -> str | None:
    data = atomic.read_regular(path, LARGEST)
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
    if kind is None:
        raise ValueError("neither PNG nor GIF")
    if _length(data) <= most:
        return _text(kind, data)
    with Image.open(io.BytesIO(data), formats=("PNG", "GIF")) as opened:
        picture = opened.convert("RGB")
    for side in SMALLER:
        picture.thumbnail((side, side), Image.Resampling.BOX)
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=85)
        if _length(file.getvalue()) <= most:
            return _text("image/jpeg", file.getvalue())
    return None


def _length(data: bytes) -> int:
    return 4 * len(data) // 3 + 64


def _text(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
