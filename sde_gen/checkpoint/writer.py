"""Writer of checkpoints: a temporary folder that is renamed once it is complete."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint.manifest import Manifest
from sde_gen.checkpoint.tensors import put_shards
from sde_gen.distributed.storage import TensorShard
from sde_gen.utils.atomic import flush


class CheckpointWriter:
    """Write a checkpoint to a temporary folder, by one process or by several, and rename it atomically.

    A killed process or a full disk leaves earlier checkpoints untouched.

    Arguments:
        folder: the folder of checkpoints.
        images: number of training images seen, which names it.
        about: JSON-serializable metadata.
    """

    def __init__(self, folder: Path, images: int, about: Mapping[str, Any]) -> None:
        self.folder, self.images, self.about = folder, images, about
        self.final = folder / f"{images:012d}"
        self.tmp_dir, self.old = folder / f".{self.final.name}.new", folder / f".{self.final.name}.old"

    def begin(self) -> None:
        """Create the temporary folder; called by one process, before any process writes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.tmp_dir, ignore_errors=True)  # left by a killed process
        self.tmp_dir.mkdir()

    def write(self, part: str, shards: Mapping[str, TensorShard], suffix: str = "") -> dict[str, str]:
        """Write the shards of a part to a file; ``suffix`` distinguishes the files of several processes.

        Returns:
            The file's name and SHA-256.
        """
        name = ".".join(filter(None, (part, suffix, "safetensors")))
        return {name: put_shards(self.tmp_dir / name, shards)}

    def commit(self, checksums: Mapping[str, str]) -> None:
        """Write the manifest and rename the folder; called by one process, after all processes have written.

        Arguments:
            checksums: the SHA-256 of every file.
        """
        manifest.write(self.tmp_dir, Manifest(self.images, dict(self.about), dict(checksums)))
        flush(self.tmp_dir)
        if (
            self.final.exists()
        ):  # the same number again: that checkpoint is damaged, or the run would have resumed from it
            shutil.rmtree(self.old, ignore_errors=True)
            os.rename(self.final, self.old)
        os.rename(self.tmp_dir, self.final)
        flush(self.folder)

    def abort(self) -> None:
        """Delete the temporary folder and a replaced checkpoint."""
        shutil.rmtree(self.tmp_dir, ignore_errors=True)
        shutil.rmtree(self.old, ignore_errors=True)
