"""Images in tar files, as WebDataset lays them out."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    """An image (H, W, C) as the content of a file."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind)
    return out.getvalue()


def pictures(count: int, side: tuple[int, int] = (8, 8), seed: int = 0) -> list[np.ndarray]:
    """Random images (H, W, 3)."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*side, 3)).astype(np.uint8) for _ in range(count)]


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def shards(
    folder: Path, *, count: int = 3, images: int = 8, side: tuple[int, int] = (8, 8)
) -> list[np.ndarray]:
    """Write train-000.tar and so on, with the classes 0, 1, 2; return the images in their order."""
    every = pictures(count * images, side)
    for number in range(count):
        files: dict[str, bytes] = {}
        for index in range(number * images, (number + 1) * images):
            files[f"{index:04d}.png"] = png(every[index])
            if number % 2:
                files[f"{index:04d}.cls"] = str(index % 3).encode()
            else:
                files[f"{index:04d}.json"] = json.dumps({"label": index % 3, "text": "a picture"}).encode()
        pack(folder / f"train-{number:03d}.tar", files)
    return every
