"""Explicit downloads with checksums, written atomically."""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from pathlib import Path

from sde_gen.utils import atomic


def fetch(url: str, path: Path, *, sha256_of_content: str) -> None:
    """Fetch a gzip file, check its decompressed content and move it into place in one step.

    Arguments:
        url: address of the file.
        path: destination; its folder is created.
        sha256_of_content: SHA-256 of the decompressed content.

    Raises:
        ValueError: the download failed or has another content; no file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
        digest = hashlib.sha256(gzip.decompress(content)).hexdigest()
        if digest != sha256_of_content:
            raise ValueError(f"{url} has an unexpected content: SHA-256 {digest}, not {sha256_of_content}")
        atomic.write(path, content)
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise ValueError(f"cannot fetch {url}: {error}; download it manually into {path.parent}") from error
