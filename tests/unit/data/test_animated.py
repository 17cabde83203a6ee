"""Files of several frames or pages: refused as a condition, warned of in a data set."""

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import ImageFolder, Shards
from sde_gen.data.image_file import load_image
from sde_gen.evaluation.image_set import read_folder

LEVELS = (0, 255, 100)
MOVING = ["a.gif", "a.png", "a.tiff", "a.webp"]


def save(path: Path, count: int) -> Path:
    """Write a file with the given number of gray frames."""
    first, *rest = (Image.fromarray(np.full((8, 8), level, np.uint8)) for level in LEVELS[:count])
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, **({"save_all": True, "append_images": rest} if rest else {}), **lossless)
    return path


@pytest.mark.parametrize("name", MOVING)
def test_a_task_image_of_several_frames_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="holds several frames or pages, and one image is needed"):
        load_image(save(tmp_path / name, 3), (1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(load_image(save(tmp_path / name, 1), (1, 8, 8)).max()) == 0


def test_previews_of_a_photo_are_no_frames(tmp_path):
    """As phones write them: an MPO file has its own suffix, .jpg."""
    first, second = (Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert int(load_image(tmp_path / "a.jpg", (3, 8, 8)).max()) < 5


def test_a_folder_warns_and_takes_the_first_frame(tmp_path):
    for index, name in enumerate(MOVING):
        save(tmp_path / f"{index}{name}", 3 if index < 2 else 1)
    with pytest.warns(
        UserWarning, match=r"2 of 4 images hold several frames .* first is used: 0a\.gif, 1a\.png"
    ):
        splits = ImageFolder(root=str(tmp_path), size=8, channels=1).load()
    assert all(int(part.values[:].max()) == 0 for part in (splits.train, splits.test))


def test_a_reference_folder_warns(tmp_path):
    for index, name in enumerate(("a.png", "a.webp")):
        save(tmp_path / f"{index}{name}", 2 - index)
    with pytest.warns(UserWarning, match=r"1 of 2 images hold several frames, .* such as 0a\.png"):
        assert int(read_folder(tmp_path).max()) == 0


def test_shards_warn_once(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for index in range(4):
            content = save(tmp_path / "a.webp", 2).read_bytes()
            member = tarfile.TarInfo(f"{index}.webp")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data = Shards(train=str(tmp_path / "a.tar"), size=8, channels=1, test_fraction=0.5).load().train
    with pytest.warns(
        UserWarning, match="holds several frames or pages, of which the first is used"
    ) as caught:
        values = torch.cat([data.values[:], data.values[:]])
    assert len(caught) == 1
    assert int(values.max()) == 0
