"""Pairs of images: partners by name, one crop for both, and every file that does not fit by its name."""

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import Pairs


def save(path, size=(8, 8), level=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level if mode == "L" else (level,) * 3).save(path)


def folder(root, count=6, **more):
    for index in range(count):
        save(root / "input" / "deep" / f"{index}.png", level=index, **more)
        save(root / "target" / "deep" / f"{index}.bmp", level=100 + index)
    return root


def test_partners_are_found_by_name_whatever_the_suffix(tmp_path):
    splits = Pairs(root=str(folder(tmp_path, 40)), size=8).load()
    rows = 0
    for part in (splits.train, splits.test):
        assert torch.equal(part.values, part.conditions["image"] + 100)
        rows += len(part)
    assert rows == 40
    assert 1 <= len(splits.test) < 15
    more = Pairs(root=str(folder(tmp_path, 60)), size=8).load()
    assert set(splits.test.values[:, 0, 0, 0].tolist()) <= set(more.test.values[:, 0, 0, 0].tolist())


def test_small_inputs_are_enlarged_and_may_be_gray(tmp_path):
    folder(tmp_path, 3, size=(4, 2), mode="L")
    for index in range(3):
        save(tmp_path / "target" / "deep" / f"{index}.bmp", (8, 4), 100 + index)
    train = Pairs(root=str(tmp_path), size=[4, 8], input_channels=1).load().train
    assert train.shape == (3, 4, 8)
    assert train.conditions["image"].shape[1:] == (1, 4, 8)


def test_both_are_cropped_alike(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 14, 3), dtype=np.uint8)
    for name in ("input", "target"):
        for index in range(2):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(path)
    train = Pairs(root=str(tmp_path), size=8).load().train
    assert torch.equal(train.values, train.conditions["image"])
    assert train.values.tolist() == [picture[:, 3:11].transpose(2, 0, 1).tolist()]


def test_what_is_no_pair_is_named(tmp_path):
    def answer(**settings):
        with pytest.raises(ValueError) as found:  # noqa: PT011, the caller matches
            Pairs(root=str(tmp_path), size=8, **settings).load()
        return str(found.value)

    assert "folder not found" in answer()
    assert "needs the folders input and target" in answer()
    folder(tmp_path, 1)
    assert "holds 1 pairs; at least 2" in answer()
    folder(tmp_path)
    save(tmp_path / "input" / "alone.png")
    assert "alone.png has no partner in" in answer()
    (tmp_path / "input" / "alone.png").unlink()
    save(tmp_path / "target" / "other.png")
    assert "other.png has no partner in" in answer()
    (tmp_path / "target" / "other.png").unlink()
    save(tmp_path / "input" / "deep" / "1.jpg")
    assert "differ by their suffix only" in answer()
    (tmp_path / "input" / "deep" / "1.jpg").unlink()
    (tmp_path / "input" / "deep" / "2.png").write_bytes(b"junk")
    assert "1 pairs cannot be read" in answer()
    assert "2.png" in answer()
    save(tmp_path / "input" / "deep" / "2.png", (8, 4))
    assert "2.png (8x4 pixels" in answer()
    assert "another aspect ratio" in answer()
    with pytest.raises(ValueError, match="is the folder of the targets, too"):
        Pairs(root=str(tmp_path), input="a", target="a")
