"""Explicit downloads: checked, atomic, never of their own accord."""

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
        url: where the file lies.
        path: where it goes; its folder is made.
        sha256_of_content: SHA-256 of what the file decompresses to.

    Raises:
        ValueError: no connection, or another content than expected; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
        digest = hashlib.sha256(gzip.decompress(content)).hexdigest()
        if digest != sha256_of_content:
            raise ValueError(
                f"{url} holds something else than expected: SHA-256 {digest}, not {sha256_of_content}"
            )
        atomic.write(path, content)
    except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
        raise ValueError(f"cannot fetch {url}: {error}; fetch it by hand into {path.parent}") from error
