"""Bits per channel of an image file, which Pillow cuts to 8 without a word."""

import re

from PIL import Image

BITS_PER_SAMPLE = 258
"""The tag of TIFF."""

DEEP = re.compile(r";(12|16|32|64)[BFLN]")
"""Raw modes of more than 8 bits a channel; that of a BMP with 16 bits a pixel, ``BGR;16``, is none."""

HEAD = 2**16
"""Bytes of a file in which a header is looked for."""


def deep(image: Image.Image) -> bool:
    """Whether an image file that is opened, but not decoded yet, has more than 8 bits a channel, grey or color."""
    if image.mode.startswith(("I", "F")):
        return True
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 8)
    if max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        return True
    if image.format in ("AVIF", "JPEG2000"):
        return _deep_header(image)
    return any(_deep_tile(tile[0], tile[3]) for tile in getattr(image, "tile", ()))


def _deep_tile(codec: str, arguments: object) -> bool:
    """Whether what Pillow tells its decoder is of more than 8 bits."""
    told = arguments if isinstance(arguments, tuple) else (arguments,)
    if codec == "SGI16" or (codec == "sgi_rle" and told[-1] == 2):
        return True
    if codec.startswith("ppm") and told[-1] > 255:
        return True
    return any(isinstance(word, str) and DEEP.search(word) for word in told)


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
