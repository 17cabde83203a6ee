"""A named pipe in the place of a file is refused; to open it would wait for ever."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sde_gen.data import emoji
from sde_gen.data.atomic_build import HEADER, build_atomically
from sde_gen.data.idx import read_idx
from sde_gen.data.image_file import load_image

READERS = {
    "task image": lambda path: load_image(path, (1, 8, 8)),
    "idx": read_idx,
    "emoji": emoji.content,
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
