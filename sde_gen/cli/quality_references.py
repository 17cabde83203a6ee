"""Images that samples are compared with: the reference, held-out images, and baselines in place of samples."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.cli.image_sources import ImageBatch, ImageSource, key, ranges
from sde_gen.cli.run import Run
from sde_gen.data import Dataset, Splits
from sde_gen.evaluation import image_set
from sde_gen.evaluation.features import Features, FeatureSet, Statistics
from sde_gen.utils.hashing import digest

STATISTICS = (".npz", ".pkl")
"""Suffixes of files of statistics."""

REFERENCE_BATCH = 1024
"""Number of images per file of reference features."""


@dataclass(frozen=True, kw_only=True)
class QualityReferences:
    """References of the metrics of samples; statistics of the reference are cached.

    Arguments:
        config: the configuration of the command ``evaluate``.
        run: the run.
        splits: the data of the run; None where nothing needs them.
        n: number of samples of a draw.
        uses_images: whether a metric needs the images of the reference, not their statistics alone.
        uses_held_out: whether a metric needs images held out of training.
    """

    config: DictConfig
    run: Run
    splits: Splits | None
    n: int
    uses_images: bool
    uses_held_out: bool

    def stored(self, features: Features) -> FeatureSet | None:
        """Return the statistics of the reference if it is a file."""
        path = Path(str(self.config.reference))
        if path.suffix not in STATISTICS:
            return None
        return FeatureSet(what=str(path), given=Statistics.load(path, features.edm2_key))

    @cached_property
    def reference(self) -> ImageSource | None:
        """Reference images; None for a file of statistics.

        Raises:
            ValueError: the reference is missing, or its images have another shape than the samples.
        """
        if Path(str(self.config.reference)).suffix in STATISTICS:
            return None
        name = str(self.config.reference)
        if name in ("train", "test"):
            assert self.splits is not None
            return self._of_data(self.splits.train if name == "train" else self.splits.test, f"{name} split")
        if not Path(name).is_dir():
            raise ValueError(
                f"reference={name}: expected train, test, a folder of images, or a file of statistics, .npz "
                "with mu and sigma or .pkl of EDM2"
            )
        images = image_set.read_folder(Path(name))
        if images.shape[1:] != self.run.data_spec.shape:
            raise ValueError(
                f"the images of {name} have shape {tuple(images.shape[1:])}, the samples {self.run.data_spec.shape}; "
                "resize the reference: a metric of both resolutions would compare the resizing"
            )
        return self._source(
            f"images of {name}",
            image_set.fingerprint(images),
            len(images),
            lambda batch: images[batch.start : batch.stop],
        )

    @cached_property
    def held_out(self) -> ImageSource | None:
        """Images held out of training, if a metric or a baseline needs them."""
        if not (self.config.baselines or self.uses_held_out) or self.splits is None:
            return None
        return self._of_data(self.splits.test, "held-out images")

    @cached_property
    def baselines(self) -> dict[str, ImageSource]:
        """Baselines in place of samples: held-out images as ceiling, a fitted Gaussian and noise as nulls."""
        if not self.config.baselines or self.splits is None or self.held_out is None:
            return {}
        found = {"ceiling: held-out images": self.held_out}
        try:
            found["null: Gaussian fitted to the pixels"] = self._fitted_gaussian(self.splits.train)
        except ValueError as error:
            warnings.warn(f"no Gaussian is fitted as a null: {error}", stacklevel=2)
        return {**found, "null: noise N(0, I)": self._noise()}

    def sources(self, extractors: Sequence[Features]) -> list[ImageSource]:
        """Return all images whose features the metrics need; the reference only without cached statistics."""
        sources = list(self.baselines.values())
        sources += [] if self.reference is None or self._cached(extractors) else [self.reference]
        return sources + ([] if self.held_out in sources or self.held_out is None else [self.held_out])

    def features(self, features: Features) -> FeatureSet:
        """Return the features of the reference, or its cached statistics; cache the statistics."""
        if (stored := self.stored(features)) is not None:
            return stored
        assert self.reference is not None
        path, source = self._statistics_file(features), self.reference
        if self._cached([features]):
            return FeatureSet(what=source.what, given=Statistics.load(path))
        found = source.features(features, source.batches)
        if not path.exists():
            found.about["fingerprint"] = source.folder.name
            found.statistics.write(path)
        return found

    def _cached(self, extractors: Sequence[Features]) -> bool:
        """Return whether stored statistics of the reference suffice for all metrics."""
        return not self.uses_images and all(self._statistics_file(one).exists() for one in extractors)

    def _statistics_file(self, features: Features) -> Path:
        assert self.reference is not None
        return self.reference.folder / f"{key(features)}.npz"

    def _fitted_gaussian(self, train: Dataset) -> ImageSource:
        seed = int(self.config.seed)
        fitted = image_set.FittedGaussian(as_images(train, range(len(train))))
        return self._source(
            "fitted Gaussian",
            settings_hash({"data": train.fingerprint(), "seed": seed, "what": "gaussian"}),
            self.n,
            lambda batch: fitted.draw(len(batch), seed + batch.start),
        )

    def _noise(self) -> ImageSource:
        shape, codec, seed = self.run.event, self.run.codec, int(self.config.seed)

        def draw(batch: range) -> Tensor:
            generator = torch.Generator().manual_seed(seed + batch.start)
            return codec.decode_image(torch.randn(len(batch), *shape, generator=generator))

        what = {
            "codec": OmegaConf.to_container(self.run.config.codec),
            "shape": shape,
            "seed": seed,
            "what": "noise",
        }
        return self._source("noise", settings_hash(what), self.n, draw)

    def _of_data(self, data: Dataset, what: str) -> ImageSource:
        return self._source(what, data.fingerprint(), len(data), lambda batch: as_images(data, batch))

    def _source(self, what: str, name: str, count: int, images: Callable[[range], Tensor]) -> ImageSource:
        return ImageSource(
            what=what,
            folder=Path(self.config.cache) / name,
            batches=ranges(0, count, REFERENCE_BATCH),
            draw=lambda batch: ImageBatch(images=images(batch)),
        )


def as_images(data: Dataset, batch: range) -> Tensor:
    """Return rows of a data set as 8-bit images with shape (B, C, H, W)."""
    assert data.levels is not None
    values = data.values[batch.start : batch.stop]
    return torch.round(values.double() * (255 / (data.levels - 1))).to(torch.uint8)


def settings_hash(settings: Any) -> str:
    """Return a hash of settings, 12 hexadecimal digits."""
    return digest([], json.dumps(settings, sort_keys=True, default=str))[:12]
