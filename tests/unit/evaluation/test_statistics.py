"""Mean and covariance of features: over batches, on disk and from files of other tools."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sde_gen.evaluation.features import Classifier, DINOv2, Inception, RunningStatistics, Statistics

X = torch.randn(101, 7, generator=torch.Generator().manual_seed(0)) * 3 + 100


def test_running_covariance_equals_numpys() -> None:
    running = RunningStatistics()
    for part in X.split(13):
        running.add(part)
    found = running.statistics()
    np.testing.assert_allclose(found.mean.numpy(), X.double().numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.cov.numpy(), np.cov(X.double().numpy(), rowvar=False), rtol=1e-10)
    assert found.n == 101


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    before = Statistics.of(X, {"features": "pixels", "sha256": "", "fingerprint": "abc"})
    before.write(tmp_path / "x.npz")
    after = Statistics.load(tmp_path / "x.npz")
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.cov, after.cov)
    assert (before.n, before.about) == (after.n, after.about)


def test_files_of_edm_and_adm(tmp_path: Path) -> None:
    """EDM: mu and sigma. ADM: images too, and statistics of spatial features, which are not read."""
    mu, sigma = X.double().numpy().mean(0), np.cov(X.double().numpy(), rowvar=False)
    np.savez(tmp_path / "edm.npz", mu=mu, sigma=sigma)
    images = np.zeros((3, 4, 4, 3), np.uint8)
    np.savez(
        tmp_path / "adm.npz", arr_0=images, mu=mu.astype(np.float32), sigma=sigma, mu_s=mu, sigma_s=sigma
    )
    for name, rtol in (("edm", 0), ("adm", 1e-6)):
        found = Statistics.load(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(found.mean.numpy(), mu, rtol=rtol)
        assert np.array_equal(found.cov.numpy(), sigma)
        assert found.n is None


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_files_of_edm2_are_read_without_executing_them(tmp_path: Path, protocol: int) -> None:
    """A pickled dictionary of several features, by Python's own pickle."""
    mu, sigma = X.double().numpy().mean(0), np.cov(X.double().numpy(), rowvar=False)
    stored = {
        "fid": {"mu": mu, "sigma": np.asfortranarray(sigma)},
        "fd_dinov2": {"mu": mu.astype(">f8"), "sigma": 2 * sigma},
        "num_images": 101,
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(stored, protocol=protocol))
    for features, factor in ((Inception(), 1), (DINOv2(), 2)):
        found = Statistics.load(tmp_path / "x.pkl", features.edm2_key)
        assert np.array_equal(found.mean.numpy(), mu)
        assert np.array_equal(found.cov.numpy(), factor * sigma)
        assert found.n == 101
    with pytest.raises(
        ValueError, match=r"holds statistics of fid, fd_dinov2; expected an \.npz file for these"
    ):
        Statistics.load(tmp_path / "x.pkl", Classifier().edm2_key)


class Hostile:
    """Called by Python's unpickler, but not here."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("called",)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ({"fid": {"mu": Hostile(), "sigma": np.eye(2)}}, "expected an array of numbers"),
        (Hostile(), "expected a dictionary"),
        ({"fid": {"mu": np.zeros(2)}}, "holds statistics of nothing"),
        ({"fid": {"mu": np.zeros(2), "sigma": np.eye(3)}}, r"mean has shape \(2,\)"),
        ({"fid": {"mu": np.array(["a", None], object), "sigma": np.eye(2)}}, "holds no plain numbers"),
        ({"fid": {"mu": np.full(2, np.nan), "sigma": np.eye(2)}}, "not finite"),
    ],
)
def test_other_pickles_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: object, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(stored))
    with pytest.raises(ValueError, match=words):
        Statistics.load(tmp_path / "x.pkl", "fid")
    assert not (tmp_path / "called").exists()
    whole = pickle.dumps({"fid": {"mu": np.zeros(50), "sigma": np.eye(50)}})
    (tmp_path / "x.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a complete pickle"):
        Statistics.load(tmp_path / "x.pkl", "fid")


def test_invalid_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="there is no file"):
        Statistics.load(path)
    wrong = [
        {"mu": np.zeros(3)},
        {"mu": np.zeros(3), "sigma": np.zeros((2, 2))},
        {"mu": np.full(2, np.nan), "sigma": np.eye(2)},
        {"mu": np.array([None, 1], object), "sigma": np.eye(2)},
    ]
    for arrays in wrong:
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match="is no file of statistics") as caught:
            Statistics.load(path)
        assert "\n" not in str(caught.value)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is no file of statistics"):
        Statistics.load(path)
    with pytest.raises(ValueError, match="no covariance"):
        Statistics.of(X[:1])
