"""Feature extractors: one vector per image, independent of the batch, and a hash of the weights."""

import pytest
import torch

from sde_gen.evaluation.features import Features
from tests.helpers.catalogue import make, names

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=RANDOM)


def opened(name: str) -> Features:
    """The extractor, if its weights are available."""
    features = make("features", name)
    try:
        features(IMAGES[:1])
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
        pytest.skip(str(error))
    return features


@pytest.mark.parametrize("name", names("features"))
def test_one_vector_per_image_independent_of_the_batch(name: str) -> None:
    features = opened(name)
    together, alone = features(IMAGES), features(IMAGES[1:2])
    assert together.features.dtype == torch.float32
    assert together.features.shape == (3, alone.features.shape[1])
    torch.testing.assert_close(together.features[1:2], alone.features, rtol=1e-4, atol=1e-5)
    if together.logits is not None:
        assert len(together.logits) == 3


@pytest.mark.parametrize("name", names("features"))
def test_gray_images_equal_gray_rgb_images(name: str) -> None:
    features = opened(name)
    if features.color:
        torch.testing.assert_close(features(IMAGES).features, features(IMAGES.expand(-1, 3, -1, -1)).features)
        assert "repeated" in features.note(IMAGES)[0]


@pytest.mark.parametrize("name", names("features"))
def test_provenance(name: str) -> None:
    features = opened(name)
    about = features.about()
    assert set(about) == {"features", "sha256", "resize"}
    assert len(about["sha256"]) in (0, 64)
    assert features.frechet_name == ("FID" if name == "inception" else f"FD-{features.name}")


@pytest.mark.parametrize("name", names("features"))
def test_invalid_images_are_rejected(name: str) -> None:
    features = make("features", name)
    for wrong in (IMAGES.float(), IMAGES[0], IMAGES.expand(-1, 2, -1, -1), IMAGES[:0]):
        with pytest.raises(ValueError, match="expected uint8"):
            features(wrong)
