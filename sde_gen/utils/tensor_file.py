"""Safetensors files written tensor by tensor."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sde_gen.utils import atomic

KINDS: dict[torch.dtype, str] = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of dtypes, in the order in which the tensors of a file stand."""

ALIGNMENT = 8
"""Bytes of which the length of a header is a multiple."""


def put_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write a new safetensors file in a temporary folder and flush it to the disk, a tensor at a time.

    The bytes are those of ``safetensors.torch.save``: the length of the header in eight bytes, little-endian; the
    header as JSON, filled up with spaces; then the tensors by dtype and name. Besides the tensors, no more memory than
    that of one of them is needed, and for contiguous ones on the CPU none.

    Source: https://github.com/huggingface/safetensors#format.

    Arguments:
        path: the file.
        tensors: tensors by name, on any device.
        metadata: texts of the header, at most one: the order of several is not defined.

    Returns:
        SHA-256 of the file.

    Raises:
        ValueError: a tensor has a dtype that such files do not hold, or there are several texts.
        OSError: it could not be written; the message names the path.
    """
    order = [*KINDS]
    for name, tensor in tensors.items():
        if tensor.dtype not in KINDS or tensor.layout is not torch.strided:
            raise ValueError(
                f"{name} is a tensor of {tensor.dtype}, {tensor.layout}, which safetensors do not hold"
            )
    if len(metadata or {}) > 1:
        raise ValueError(f"metadata={list(metadata or {})}: expected one text at most")
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name.encode()))
    sha256 = hashlib.sha256()
    with atomic.putting(path) as file:
        for block in _blocks(tensors, names, metadata):
            file.write(block)
            sha256.update(block)
    return sha256.hexdigest()


def _blocks(
    tensors: Mapping[str, Tensor], names: list[str], metadata: Mapping[str, str] | None
) -> Iterator[bytes | memoryview]:
    """Yield header and tensors as bytes."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": KINDS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        if tensors[name].numel():
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            yield memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
