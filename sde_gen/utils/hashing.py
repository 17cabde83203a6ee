"""SHA-256 digests of tensors."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def digest(tensors: Iterable[Tensor], text: str = "") -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a text and of tensors, independent of their device."""
    sha256 = hashlib.sha256(text.encode())
    for tensor in tensors:
        sha256.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()[:16]
