"""The IDX file format of MNIST and its family."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from sde_gen.utils.atomic import check_regular


def read_idx(path: Path) -> Tensor:
    """Read a file of unsigned bytes, gzipped or not.

    Source of the format: LeCun, Cortes and Burges, the MNIST database: two zero bytes, the type 0x08, the
    number of dimensions, each dimension as a big-endian 32-bit integer, the bytes.

    Returns:
        uint8 with the shape that the file declares.

    Raises:
        ValueError: not such a file, or truncated.
        OSError: no regular file.
    """
    check_regular(path)
    raw = path.read_bytes()
    try:
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); download it again") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it begins with {content[:4].hex()}")
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise ValueError(f"{path} is truncated: {len(content)} bytes")
    shape = struct.unpack(f">{rank}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{path} declares the shape {shape} but holds {len(content) - header} bytes; download it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].reshape(shape).clone()
