"""Metrics of the rows of the results table, the same for all."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sde_gen.data import Dataset, Splits
from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.evaluation.features import Features, FeatureSet, extract
from sde_gen.evaluation.metric import BitsPerDim, FrechetDistance, KernelDistance
from sde_gen.likelihood import estimate
from sde_gen.likelihood.divergence import Hutchinson
from sde_gen.noise import spawn_seeds
from sde_gen.ode import Adams
from sde_gen.utils import atomic


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Metrics of one data set, the same for all rows.

    Arguments:
        splits: the data.
        folder: where the features of the reference are kept.
        images: number of test images for bits/dim.
        samples: number of samples for each budget of evaluations.
        reference: number of training images to compare them with.
        features: the extractor.
    """

    splits: Splits
    folder: Path
    images: int
    samples: int
    reference: int
    features: Features

    def bits(self, denoiser: Denoiser, codec: Codec) -> dict[str, Any]:
        """Bits per dimension of test images, with the standard error over them."""
        test, values = self.splits.test, []
        index = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: self.images]
        metric, seeds = (
            BitsPerDim(integrator=Adams(steps=48), divergence=Hutchinson(), diagnose_every=None),
            spawn_seeds(0, len(test)),
        )
        for part in index.split(64):
            values.append(metric(denoiser, test.values[part], codec, [seeds[i] for i in part.tolist()]).value)
        found = estimate(torch.cat(values))
        return {"bits_per_dim": found.mean, "bits_per_dim_se": found.se, "bits_per_dim_n": found.n}

    def quality(self, images: Tensor, nfe: int) -> dict[str, Any]:
        """Frechet and kernel distance of samples from the training images."""
        found = extract(self.features, images, what="samples")
        frechet = FrechetDistance(features=self.features).checked(found, self._reference)
        size = min(1000, len(images), self.reference)
        kernel = KernelDistance(features=self.features, subset_size=size).checked(found, self._reference)
        parts = {"fd_efflite0": frechet, "kid": kernel}
        return {
            **{f"{name}_{nfe}": part.value for name, part in parts.items()},
            **{f"{name}_{nfe}_se": part.se for name, part in parts.items()},
            f"fd_efflite0_{nfe}_name": frechet.name,
        }

    @cached_property
    def _reference(self) -> FeatureSet:
        """Features of the first training images, computed once."""
        path = (
            self.folder
            / f"reference-{self.splits.train.fingerprint()}-{self.reference}-{self.features.name}.safetensors"
        )
        if not path.exists():
            found = extract(self.features, levels(self.splits.train, self.reference)).features
            assert found is not None
            atomic.write(path, safetensors.torch.save({"features": found}))
        return FeatureSet(what="training images", features=safetensors.torch.load_file(path)["features"])


def levels(data: Dataset, n: int) -> Tensor:
    """Return the first images of a data set as uint8."""
    assert data.levels is not None
    return torch.round(data.values[:n].double() * (255 / (data.levels - 1))).to(torch.uint8)
