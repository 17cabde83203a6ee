"""A named pipe in the place of a file is refused; to open it would wait for ever."""

import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from sde_gen.cli import image_sources
from sde_gen.data import ImageFolder, Shards, emoji, tar
from sde_gen.data.atomic_build import HEADER, build_atomically
from sde_gen.data.idx import read_idx
from sde_gen.data.image_file import load_image
from sde_gen.interop.formats import files


def cached(path):
    """Open a cache whose labels are replaced by the pipe."""
    folder, root = path.parent / "cache", path.parent / "images"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8)).save(root / label / f"{number}.png")
    source = ImageFolder(root=str(root), size=8, channels=1, cache=str(folder), test_fraction=0.5)
    source.load()
    os.replace(path, folder / path.name)
    source.load()


def indexed(path):
    """Open shards whose index is replaced by the pipe."""
    folder, shard = path.parent / "index", path.parent / "a.tar"
    with tarfile.open(shard, "w") as archive:
        for number in range(4):
            Image.new("L", (8, 8)).save(path.parent / "a.png")
            archive.add(path.parent / "a.png", f"{number}.png")
    source = Shards(train=str(shard), size=8, channels=1, test_fraction=0.5, index=str(folder))
    source.load()
    os.replace(path, folder / path.name)
    source.load()


READERS = {
    "task image": lambda path: load_image(path, (1, 8, 8)),
    "idx": read_idx,
    "emoji": emoji.content,
    "features.safetensors": image_sources.load,
    "config.json": files.json_of,
    "shard.tar": lambda path: tar.index_members([path], field="label"),
    "train.labels.npy": cached,
    "members.npz": indexed,
    HEADER: lambda path: build_atomically(path.parent, {}, lambda folder: {}),
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(name, tmp_path):
    path = tmp_path / name
    os.mkfifo(path)
    with ThreadPoolExecutor() as pool:
        done = pool.submit(READERS[name], path)
        try:
            with pytest.raises((ValueError, OSError), match=r"Not a regular file"):
                done.result(timeout=5)
        finally:
            if not done.done():  # let the reader end
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
