"""Degraded samples as conditions: what the network sees, what a file gives, noise, and what cannot be degraded."""

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import Dataset
from sde_gen.data.conditioning import (
    Colorization,
    ConditionImage,
    Inpainting,
    Several,
    Superresolution,
    Vector,
)
from sde_gen.noise import IID

LEVELS = torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
DATA = Dataset(values=LEVELS, levels=256)
IMAGES = 2 * LEVELS.double().numpy() / 255 - 1


def given(conditioning) -> np.ndarray:
    fitted = conditioning.fit(DATA)
    return fitted.given(fitted.prepare(DATA).conditions)["image"].double().numpy()


def test_low_resolution_is_the_mean_of_blocks_enlarged():
    found, factor = given(Superresolution(factor=4)), 4
    low = IMAGES.reshape(64, 3, 2, factor, 2, factor).mean((3, 5))
    expected = torch.nn.functional.interpolate(torch.from_numpy(low), size=(8, 8), mode="bicubic").numpy()
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    assert (found[:, 3:] == 1).all()
    assert found.shape == (64, 4, 8, 8)


def test_gray_is_the_luma_of_pillow():
    found = given(Colorization())
    for image, gray in zip(LEVELS[:5].numpy(), found, strict=False):
        expected = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"), float)
        np.testing.assert_allclose((gray[0] + 1) * 127.5, expected, atol=0.51)  # rounded to levels
    assert found.shape == (64, 2, 8, 8)


def test_holes_lie_in_the_middle_or_anywhere():
    conditioning = Inpainting(dropout=0.0).fit(DATA)
    middle = given(conditioning)
    known = middle[:, 3]
    assert not known[:, 2:6, 2:6].any()
    assert known.sum() == 64 * (64 - 16)
    np.testing.assert_allclose(middle[:, :3], IMAGES * known[:, None], atol=1e-6)
    drawn = conditioning({"image": LEVELS}, IID.seeded(0))["image"].numpy()
    known = drawn[:, 3]
    np.testing.assert_allclose(drawn[:, :3], IMAGES * known[:, None], atol=1e-6)
    rows, columns = (1 - known).any(2).sum(1), (1 - known).any(1).sum(1)
    assert {2, 3, 4, 5, 6} == set(rows) == set(columns)
    np.testing.assert_array_equal((1 - known).sum((1, 2)), rows * columns)  # rectangles
    places = {(int(np.argmax(hole.any(1))), int(np.argmax(hole.any(0)))) for hole in 1 - known}
    assert len(places) > 15


def save(path, array):
    Image.fromarray(array).save(path)
    return str(path)


def test_a_file_gives_what_a_sample_gives(tmp_path):
    picture = LEVELS[0].permute(1, 2, 0).numpy()
    means = LEVELS[:1].double().reshape(1, 3, 4, 2, 4, 2).mean((3, 5)).round()
    blocks = means.repeat_interleave(2, 2).repeat_interleave(2, 3)
    low = save(tmp_path / "low.png", means[0].permute(1, 2, 0).numpy().astype(np.uint8))
    hole = np.full((8, 8, 1), 255, np.uint8)
    hole[2:6, 2:6] = 0
    cut = save(tmp_path / "cut.png", np.concatenate([picture, hole], 2))
    gray = save(tmp_path / "gray.png", np.asarray(Image.fromarray(picture).convert("L")))
    for conditioning, path, sample, atol in (
        (Superresolution(), low, blocks, 1e-6),
        (Inpainting(), cut, LEVELS[:1], 1e-6),
        (Colorization(), gray, LEVELS[:1], 1 / 255),
    ):
        fitted = conditioning.fit(DATA)
        expected = fitted.given({"image": sample})["image"]
        found = fitted.prompt({"image": path}, 2)["image"]
        assert found.shape == (2, *expected.shape[1:])
        torch.testing.assert_close(found[:1], expected, atol=atol, rtol=0)
    with pytest.raises(ValueError, match="has no transparent pixels"):
        Inpainting().fit(DATA).prompt({"image": gray}, 1)
    with pytest.warns(UserWarning, match="resized from 8x8"):
        Superresolution().fit(DATA).prompt({"image": gray}, 1)


@pytest.mark.parametrize("kind", [ConditionImage, Superresolution, Colorization, Inpainting])
def test_network_receives_the_noise_level(kind):
    """The variance of the noise over the numbers of one image, five standard errors of 192 numbers."""
    data = Dataset(values=LEVELS, levels=256, conditions={"image": LEVELS})
    clean, noisy = (kind(noise=noise, dropout=0.0).fit(data) for noise in (0.0, 0.8))
    assert noisy.sizes["image"] == clean.sizes["image"] + 1
    conditions, channels = noisy.prepare(data).conditions, noisy.channels
    still, given = clean.given(conditions)["image"], noisy.given(conditions)["image"]
    torch.testing.assert_close(given[:, [*range(channels), channels + 1]], still)
    assert not given[:, channels].any()
    drawn = noisy.noised({"image": given}, 0.6, IID.seeded(0))["image"]
    assert bool((drawn[:, channels] == 0.6).all())
    colors = noisy.colors
    added = (drawn - 0.8 * given)[:, :colors] / 0.6
    assert abs(float(added.std()) - 1) < 5 / (2 * added.numel()) ** 0.5
    torch.testing.assert_close(drawn[:, colors:channels], given[:, colors:channels])
    trained = noisy(conditions, IID.seeded(1))["image"]
    levels = trained[:, channels, 0, 0]
    assert bool((trained[:, channels] == levels[:, None, None]).all())
    assert 0 <= float(levels.min()) < 0.1
    assert 0.7 < float(levels.max()) <= 0.8
    assert torch.equal(noisy.noised({"image": given}, 0.0, IID.seeded(0))["image"], given)
    assert noisy.noised({}, 0.5, IID.seeded(0)) == {}
    with pytest.raises(ValueError, match=r"image_noise=0.9: the run was trained with noise of 0 to 0.8"):
        noisy.noised({"image": given}, 0.9, IID.seeded(0))


def test_noise_of_one_of_several_conditions():
    data = Dataset(values=LEVELS, levels=256, conditions={"vector": torch.randn(64, 2), "image": LEVELS})
    several = Several(parts={"a": Vector(), "b": ConditionImage(noise=0.5)}).fit(data)
    given = several.given(data.conditions)
    found = several.noised(given, 0.3, IID.seeded(0))
    assert torch.equal(found["vector"], given["vector"])
    assert not torch.equal(found["image"], given["image"])
    with pytest.raises(ValueError, match=r"image_noise=.*: the run was trained without images"):
        Several(parts={"a": Vector()}).fit(data).noised(given, 0.3, IID.seeded(0))


def test_prepared_data_share_the_memory_of_the_samples():
    prepared = Superresolution().fit(DATA).prepare(DATA)
    assert prepared.conditions["image"].data_ptr() == LEVELS.data_ptr()


def test_what_cannot_be_degraded(tmp_path):
    gray = Dataset(values=LEVELS[:, :1], levels=256)
    with pytest.raises(ValueError, match="have no colors"):
        Colorization().fit(gray)
    with pytest.raises(ValueError, match="images of 8x8 have no blocks of 3x3"):
        Superresolution(factor=3).fit(DATA)
    with pytest.raises(ValueError, match="have no middle"):
        Inpainting().fit(Dataset(values=LEVELS[:, :, :2], levels=256))
    with pytest.raises(ValueError, match="restores images"):
        Superresolution().fit(Dataset(values=torch.zeros(3, 2), levels=None))
    with pytest.raises(ValueError, match="factor=1"):
        Superresolution(factor=1)
    with pytest.raises(ValueError, match=r"noise=1.5 must lie in \[0, 1\]"):
        Superresolution(noise=1.5)
    from sde_gen.data import Arrays

    np.save(tmp_path / "a.npy", LEVELS.numpy())
    disk = Arrays(path=str(tmp_path / "a.npy"), levels=256, mmap=True).load().train
    with pytest.raises(ValueError, match=r"images in memory.*data\.mmap"):
        Superresolution().fit(disk)
