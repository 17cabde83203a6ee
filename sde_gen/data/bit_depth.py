"""Bits per channel of an image file, which Pillow silently truncates to 8."""

import re

from PIL import Image

BITS_PER_SAMPLE = 258
"""TIFF tag BitsPerSample."""

DEEP = re.compile(r";(12|16|32|64)[BFLN]")
"""Raw modes of more than 8 bits per channel; ``BGR;16``, of a BMP with 16 bits per pixel, is not one of them."""

HEAD = 2**16
"""Number of bytes of a file that are searched for a header."""


def is_deep(image: Image.Image) -> bool:
    """Return True if an opened but not yet decoded image file has more than 8 bits per channel."""
    if image.mode.startswith(("I", "F")):
        return True
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 8)
    if max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        return True
    if image.format in ("AVIF", "JPEG2000"):
        return _deep_header(image)
    return any(_deep_tile(tile[0], tile[3]) for tile in getattr(image, "tile", ()))


def _deep_tile(codec: str, arguments: object) -> bool:
    """Return True if the arguments of Pillow's decoder contain a raw mode of more than 8 bits."""
    values = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec == "SGI16" or (codec == "sgi_rle" and values[-1] == 2):
        return True
    if codec.startswith("ppm") and values[-1] > 255:
        return True
    return any(isinstance(word, str) and DEEP.search(word) for word in values)


def _deep_header(image: Image.Image) -> bool:
    """Read the depth of AVIF (ISO/IEC 23000-22, ``av1C``) and JPEG 2000 (ISO/IEC 15444-1, ``SIZ``)."""
    file = getattr(image, "fp", None)
    if file is None:
        return False
    place = file.tell()
    file.seek(0)
    head: bytes = file.read(HEAD)
    file.seek(place)
    if image.format == "AVIF":
        box = head.find(b"av1C")
        return box >= 0 and len(head) > box + 6 and bool(head[box + 6] & 0x40)
    start = head.find(b"\xff\x4f\xff\x51")
    return start >= 0 and len(head) > start + 42 and bool(head[start + 42] & 0x78)
