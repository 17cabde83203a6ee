"""Images that are given to a task: brought to a shape by the rule of folders, and what is said of it."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from sde_gen.data import ImageFolder
from sde_gen.data.image_file import load_image

GRAY, COLOR = (1, 8, 8), (3, 8, 8)


def gray_ramp(side=8):
    return np.arange(side * side).reshape(side, side).astype(np.uint8) * (255 // (side * side))


@pytest.fixture(autouse=True)
def _nothing_unexpected_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "gray palette"])
def test_a_gray_picture_is_one_however_it_is_stored(tmp_path, mode):
    levels = gray_ramp()
    picture = Image.fromarray(levels)
    if mode == "gray palette":
        picture = Image.frombytes("P", (8, 8), bytes(range(64)))
        picture.putpalette(np.repeat(levels.reshape(-1), 3).tobytes())
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "a.png")
    gray = load_image(tmp_path / "a.png", GRAY)
    np.testing.assert_array_equal(gray[0], levels)
    assert torch.equal(load_image(tmp_path / "a.png", COLOR), gray.expand(3, 8, 8))
    assert load_image(tmp_path / "a.png", COLOR, GRAY).shape == GRAY  # the measurement of a coloring


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 31), (40, 16), (5, 5), (8, 9)])
def test_other_sizes_are_resized_and_cropped_as_in_a_folder(tmp_path, channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    expected = ImageFolder(root=str(tmp_path), size=8, channels=channels).load().train.values[0]
    words = rf"a\.png: resized from {size[1]}x{size[0]} and cropped to 8x8 pixels"
    with pytest.warns(
        UserWarning, match=words + (", its colors converted to gray" if channels == 1 else "$")
    ):
        found = load_image(tmp_path / "a.png", (channels, 8, 8))
    assert torch.equal(found, expected)


def test_the_shape_is_that_of_the_size_then_of_the_colors(tmp_path):
    color, gray = np.random.default_rng(0).integers(0, 256, (2, 2, 3)).astype(np.uint8), gray_ramp(2)
    large = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    for name, pixels in (("color", color), ("gray", gray), ("large", large), ("gray_large", large[..., 0])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    for name in ("color", "gray"):
        assert load_image(tmp_path / f"{name}.png", COLOR, (3, 2, 2)).shape == (
            3,
            2,
            2,
        )  # of a superresolution
    with pytest.warns(UserWarning, match="resized from 20x30"):
        assert load_image(tmp_path / "large.png", COLOR, (3, 2, 2)).shape == COLOR
    with pytest.warns(UserWarning, match="resized from 20x30"):
        assert load_image(tmp_path / "large.png", COLOR, GRAY).shape == COLOR
    with pytest.warns(UserWarning, match=r"resized from 20x30 and cropped to 8x8 pixels$"):
        assert load_image(tmp_path / "gray_large.png", COLOR, GRAY).shape == GRAY
    with pytest.warns(UserWarning, match=r"color\.png: its colors converted to gray"):
        assert load_image(tmp_path / "color.png", (1, 2, 2)).shape == (1, 2, 2)
    Image.fromarray(large).save(tmp_path / "wide.png")
    with pytest.warns(UserWarning, match=r"cropped to 12x4 pixels"):
        assert load_image(tmp_path / "wide.png", (3, 4, 12)).shape == (3, 4, 12)


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_pictures_are_converted_for_either_number_of_channels(tmp_path, channels):
    """A picture in CIE L*a*b* is that in sRGB up to its rounding to 8 bits."""
    pixels = np.linspace(40, 215, 192, dtype=np.uint8).reshape(8, 8, 3)
    rgb = Image.fromarray(pixels)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    ImageCms.applyTransform(rgb, to_lab).save(tmp_path / "lab.tiff")
    expected = np.atleast_3d(np.asarray(rgb.convert("L" if channels == 1 else "RGB"), dtype=int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_image(tmp_path / "lab.tiff", (channels, 8, 8))
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 3


@pytest.mark.parametrize("size", [(6, 10), (10, 6), 8])
def test_images_are_resized_to_cover_a_rectangle(tmp_path, size):
    """The same as Pillow's own, in every source; a cache of them is opened again."""
    from PIL import ImageOps

    from sde_gen.data import ImageFolder, Shards
    from tests.helpers.tar_images import pack

    height, width = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        pixels = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    expected = np.array(ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS))
    source = ImageFolder(root=str(tmp_path), size=size, cache=str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="splits"):
        folder = source.load()
    again = source.load()
    pack(tmp_path / "test.tar", {"0.png": (tmp_path / "test" / "0.png").read_bytes()})
    pack(tmp_path / "train.tar", {"0.png": (tmp_path / "train" / "0.png").read_bytes()})
    shards = Shards(train=str(tmp_path / "train.tar"), test=str(tmp_path / "test.tar"), size=size).load()
    for splits in (folder, again, shards):
        assert splits.test.shape == (3, height, width)
        np.testing.assert_array_equal(splits.test.values[:][0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("size", [0, (4, 0), (4, 4, 4), ()])
def test_a_size_that_is_none(tmp_path, size):
    from sde_gen.data import ImageFolder

    with pytest.raises(ValueError, match="expected a positive side, or height and width"):
        ImageFolder(root=str(tmp_path), size=size)
