"""Mean and covariance of features: accumulated over batches, stored without pickles, read from files of others."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sde_gen.interop.formats import pickled
from sde_gen.interop.formats.numpy_arrays import array
from sde_gen.interop.formats.persistent import pairs
from sde_gen.utils import atomic


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Mean and covariance of features.

    Arguments:
        mean: float64 with shape (d,).
        cov: covariance divided by n - 1, float64 with shape (d, d).
        n: number of images; None where a file does not state it.
        about: metadata such as the extractor's name, the SHA-256 of its weights and the fingerprint of the data.
    """

    mean: Tensor
    cov: Tensor
    n: int | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        d = len(self.mean)
        if self.mean.ndim != 1 or self.cov.shape != (d, d):
            raise ValueError(
                f"mean has shape {tuple(self.mean.shape)}, covariance {tuple(self.cov.shape)}; expected (d,), (d, d)"
            )
        if not bool(torch.isfinite(self.mean).all() and torch.isfinite(self.cov).all()):
            raise ValueError("mean or covariance holds numbers that are not finite")

    @classmethod
    def of(cls, features: Tensor, about: Mapping[str, str] | None = None) -> "Statistics":
        """Compute the statistics of features with shape (n, d)."""
        running = RunningStatistics()
        running.add(features)
        return running.statistics(about)

    def write(self, path: Path) -> None:
        """Write an ``.npz`` file, which :meth:`load` reads bit for bit; ``mu`` and ``sigma`` in it suit other tools."""
        with atomic.writing(path) as file:
            np.savez(
                file,
                mu=self.mean.numpy(),
                sigma=self.cov.numpy(),
                n=np.int64(-1 if self.n is None else self.n),
                about=np.frombuffer(json.dumps(dict(self.about)).encode(), np.uint8),
            )

    @classmethod
    def load(cls, path: Path, edm2_key: str | None = None) -> "Statistics":
        """Read an ``.npz`` of :meth:`write`, EDM or guided-diffusion (whose images are not read), or EDM2's ``.pkl``.

        EDM2's file is a pickled dictionary of several features, {"fid": {"mu", "sigma"}, "fd_dinov2": {...}}; it is
        read without executing anything.

        Source: Karras et al., 2024, arXiv:2312.02696, the reference statistics of the code.

        Arguments:
            path: the file.
            edm2_key: key of the features in a file of EDM2.

        Raises:
            ValueError: the file is missing or damaged, or holds no ``mu`` and ``sigma`` of the features.
        """
        if not path.exists():
            raise ValueError(f"there is no file of statistics {path}")
        atomic.check_regular(path)
        if path.suffix == ".pkl":
            return cls._of_edm2(path, edm2_key)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                if not {"mu", "sigma"} <= set(file.files):
                    raise ValueError(f"it holds {', '.join(file.files) or 'nothing'}; expected mu and sigma")
                n = int(file["n"]) if "n" in file.files else -1
                about = json.loads(file["about"].tobytes()) if "about" in file.files else {}
                return cls(
                    mean=torch.from_numpy(file["mu"].astype(np.float64)),
                    cov=torch.from_numpy(file["sigma"].astype(np.float64)),
                    n=None if n < 0 else n,
                    about={str(key): str(value) for key, value in about.items()},
                )
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(f"{path} is no file of statistics ({str(error).splitlines()[0]})") from error

    @classmethod
    def _of_edm2(cls, path: Path, key: str | None) -> "Statistics":
        """Read the statistics of some features from a file of EDM2."""
        found = dict(pairs(pickled.read(path), str(path)))
        sets = {
            str(name): dict(pairs(entry, str(name)))
            for name, entry in found.items()
            if not isinstance(entry, int)
        }
        known = [name for name, entry in sets.items() if {"mu", "sigma"} <= entry.keys()]
        if key not in known:
            raise ValueError(
                f"{path} holds statistics of {', '.join(known) or 'nothing'}; expected {key or 'an .npz file'} for "
                "these features"
            )
        mu, sigma = (array(sets[key][name], f"{key}.{name}").astype(np.float64) for name in ("mu", "sigma"))
        n = found.get("num_images")
        try:
            return cls(
                mean=torch.from_numpy(mu),
                cov=torch.from_numpy(sigma),
                n=n if type(n) is int and n > 0 else None,
            )
        except ValueError as error:
            raise ValueError(f"{path} is no file of statistics ({error})") from error


class RunningStatistics:
    """Mean and scatter matrix over batches, in float64; batches in the same order give the same bits.

    Source: Chan et al., 1983, Algorithms for computing the sample variance, equation 1.5.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.empty(0, dtype=torch.float64)
        self.scatter = torch.empty(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add a batch with shape (b, d)."""
        batch = features.detach().cpu().double()
        count, mean = len(batch), batch.mean(0)
        centered = batch - mean
        if self.n == 0:
            self.n, self.mean, self.scatter = count, mean, centered.mT @ centered
            return
        total, delta = self.n + count, mean - self.mean
        self.scatter += centered.mT @ centered + torch.outer(delta, delta) * (self.n * count / total)
        self.mean = self.mean + delta * (count / total)
        self.n = total

    def statistics(self, about: Mapping[str, str] | None = None) -> Statistics:
        """Return the statistics of all batches so far.

        Raises:
            ValueError: fewer than two images, which have no covariance.
        """
        if self.n < 2:
            raise ValueError(f"{self.n} images have no covariance; at least 2 are needed")
        return Statistics(mean=self.mean, cov=self.scatter / (self.n - 1), n=self.n, about=about or {})
