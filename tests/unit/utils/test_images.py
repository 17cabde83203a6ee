"""Samples of every shape have a picture, and one that cannot be made costs nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.utils.images import attempt, save_gif, save_panels, save_rows, save_samples


def pixels(path: Path, width: int) -> np.ndarray:
    """The picture at the size of the samples."""
    with Image.open(path) as picture:
        zoom = picture.width // width
        return np.asarray(picture)[zoom // 2 :: zoom, zoom // 2 :: zoom]


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_make_no_color_lie_side_by_side(tmp_path: Path, channels: int) -> None:
    images = torch.arange(channels * 6, dtype=torch.uint8).reshape(1, channels, 2, 3)
    save_samples(images, tmp_path / "a.png")
    found = pixels(tmp_path / "a.png", channels * 4 + 1)
    assert found.ndim == 2
    for channel in range(channels):
        begin = 1 + 4 * channel
        assert (found[1:3, begin : begin + 3] == images[0, channel].numpy()).all()
        assert (found[1:3, begin + 3] == 96).all()


def test_numbers_are_shown_between_the_least_and_the_largest(tmp_path: Path) -> None:
    images = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 7.0]).reshape(2, 1, 2, 2)
    save_samples(images, tmp_path / "a.png")
    found = pixels(tmp_path / "a.png", 7)
    assert found[1:3, 1:3].flatten().tolist() == [0, 26, 51, 76]  # 25.5 is half-way: to the even one
    assert found[1:3, 4:6].flatten().tolist() == [102, 128, 153, 255]
    save_samples(torch.full((1, 3, 2, 2), 0.5), tmp_path / "b.png")  # of one number alone
    assert pixels(tmp_path / "b.png", 4)[1:3, 1:3].max() == 0


def test_latent_channels_have_a_range_each(tmp_path: Path) -> None:
    images = torch.stack([torch.tensor([0.0, 1.0]), torch.tensor([-100.0, 100.0])]).reshape(1, 2, 1, 2)
    save_samples(images, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png", 7)[1].tolist() == [96, 0, 255, 96, 0, 255, 96]


def test_numbers_alone_have_a_histogram(tmp_path: Path) -> None:
    save_samples(torch.cat([torch.zeros(900, 1), torch.ones(100, 1)]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        found = np.asarray(picture).astype(int)
    blue = (found[..., 2] - found[..., 0] > 60).sum(0)
    columns = np.flatnonzero(blue)
    left, right = blue[columns[1]], blue[columns[-2]]
    assert left / right == pytest.approx(9, rel=0.1), "bars are as high as there are numbers"


def test_rows_films_and_panels_take_them_too(tmp_path: Path) -> None:
    save_rows([torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)], tmp_path / "rows.png")
    save_gif([torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)], tmp_path / "film.gif", milliseconds=20)
    save_gif([torch.rand(3, 1), torch.rand(3, 1)], tmp_path / "numbers.gif")
    save_panels([[torch.rand(9, 2)] * 3, [torch.rand(9, 2)] * 3], tmp_path / "panels.png")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 2
    with Image.open(tmp_path / "panels.png") as picture:
        assert picture.size == (1500, 1000)


def test_a_picture_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_samples(torch.rand(3, 2), path)
    before = path.read_bytes()

    def fail() -> None:
        save_samples(torch.rand(3, 2, 2, 2, 2, 2), path)

    with pytest.warns(UserWarning, match=r"a\.png was not made \(a picture needs images.*older one"):
        assert not attempt(fail, path)
    assert path.read_bytes() == before
    with pytest.warns(UserWarning, match=r"nowhere/a\.png was not made \(.*No such file"):
        assert not attempt(
            lambda: save_samples(torch.rand(3, 2), tmp_path / "nowhere" / "a.png"),
            path.parent / "nowhere" / "a.png",
        )
    assert attempt(lambda: save_samples(torch.rand(3, 2), path), path)


def test_series_and_volumes_are_drawn(tmp_path):
    """Lines of series in as many panels as there are, and of volumes the middle slices, as separate images."""
    volumes = torch.randint(0, 256, (4, 1, 5, 6, 7)).to(torch.uint8)
    save_samples(volumes, tmp_path / "volumes.png")
    save_samples(volumes[:, :, 2], tmp_path / "slices.png")
    assert (tmp_path / "volumes.png").read_bytes() == (tmp_path / "slices.png").read_bytes()
    pictures = []
    for series in (torch.zeros(3, 2, 8), torch.eye(8).expand(3, 2, 8, 8)[:, :, 0]):
        save_samples(series, tmp_path / "series.png")
        pictures.append((tmp_path / "series.png").read_bytes())
    assert pictures[0] != pictures[1]
