"""Weight files of feature extractors: checked by SHA-256, read without executing code, downloaded only on request."""

import hashlib
import http.client
import io
import urllib.request
import warnings
from pathlib import Path

import torch
from torch import Tensor

from sde_gen.checkpoint.manifest import line
from sde_gen.utils import atomic


def read(path: Path | None, *, sha256: str | None, what: str, advice: str) -> bytes:
    """Read a weight file and check its hash.

    Arguments:
        path: the file.
        sha256: its SHA-256, or the first digits of it; None accepts any file.
        what: name of the network, for messages.
        advice: how to get the file, for messages.

    Raises:
        ValueError: the file is missing, or its hash differs.
    """
    if path is None:
        raise ValueError(f"{what} needs a weight file: {advice}")
    if not path.exists():
        raise ValueError(f"there is no weight file {path} for {what}: {advice}")
    atomic.check_regular(path)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not found.startswith(sha256.lower()):
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {sha256}: it is damaged or another network; fetch it again, or "
            "accept it with features.digest=null"
        )
    return content


def tensors(content: bytes, *, what: str) -> dict[str, Tensor]:
    """Read the tensors of a PyTorch file, which must contain nothing but tensors.

    Raises:
        ValueError: the file is not a dictionary of tensors.
    """
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
            raise TypeError("it holds no tensors by name")
    except Exception as error:  # of any damaged file
        reason = line(str(error), 100) or type(error).__name__
        raise ValueError(f"the weights of {what} cannot be read ({reason})") from error
    return found


def fetch(url: str, path: Path, *, sha256: str | None, size: str) -> None:
    """Download a weight file unless it exists, with a warning that names the source; move it into place when verified.

    Arguments:
        url: address of the file.
        path: file to write; its folder is created.
        sha256: as for :func:`read`.
        size: for the message.

    Raises:
        ValueError: the download failed, was interrupted or has an unexpected hash; no file is left behind.
    """
    if path.exists():
        return
    warnings.warn(f"fetching {url} ({size}) into {path}", stacklevel=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, atomic.writing(path) as file:
            digest, expected, got = hashlib.sha256(), answer.headers.get("Content-Length"), 0
            while block := answer.read(2**20):
                digest.update(block)
                file.write(block)
                got += len(block)
            if expected is not None and got != int(expected):
                raise ValueError(f"the connection ended after {got:,} of {int(expected):,} bytes")
            if sha256 is not None and not digest.hexdigest().startswith(sha256.lower()):
                raise ValueError(f"SHA-256 {digest.hexdigest()}, expected {sha256}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ValueError(f"cannot fetch {url}: {error}; fetch it by hand into {path}") from error
