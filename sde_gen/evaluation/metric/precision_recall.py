"""Improved precision and recall."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sde_gen.evaluation.features.base import Features
from sde_gen.evaluation.features.feature_set import FeatureSet
from sde_gen.evaluation.features.inception import Inception
from sde_gen.evaluation.metric import _jackknife
from sde_gen.evaluation.metric.sample_metric import Quantity, SampleMetric, SampleResult


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall(SampleMetric):
    """Share of samples in the manifold of the reference, and of reference images in the manifold of the samples.

    A manifold is the union of balls around the points of a set, whose radii are the distances to the k-th nearest
    neighbors. Both numbers depend on k and on the numbers of images, which are part of the name.

    Source: Kynkaanniemi et al., 2019, arXiv:1904.06991, equation 2.

    Arguments:
        features: the extractor.
        k: neighbor that defines the radius: 3 in torch-fidelity, 5 in dgm-eval.
        most: maximum number of images per set; the first ones are used.
        groups: number of jackknife groups.

    Raises:
        ValueError: k, most or groups is too small.
    """

    features: Features = field(default_factory=Inception)
    k: int = 3
    most: int = 10_000
    groups: int = _jackknife.GROUPS
    what: ClassVar[str] = "samples in the reference's manifold, and the reverse"
    larger_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.k < 1 or self.most <= self.k + 1 or self.groups < 2:
            raise ValueError(
                f"k={self.k}, most={self.most}, groups={self.groups}: expected at least 1, more than k + 1, at least 2"
            )

    def check_sizes(self, n: int, n_reference: int | None) -> None:
        """Check that every image has a k-th nearest other one.

        Raises:
            ValueError: it does not.
        """
        super().check_sizes(n, n_reference)
        if min(n, n if n_reference is None else n_reference) < self.k + 2:
            raise ValueError(f"precision_recall: k={self.k} needs at least {self.k + 2} images in both sets")

    def compare(
        self, samples: FeatureSet, reference: FeatureSet, held_out: FeatureSet | None = None
    ) -> SampleResult:
        """Compute both, with standard errors over the samples."""
        del held_out
        x = samples.vectors("PrecisionRecall")[: self.most]
        y = reference.vectors("PrecisionRecall")[: self.most]
        between = torch.cdist(x, y)  # (n, m)
        within = torch.cdist(x, x)
        inside = (between <= self._radii(torch.cdist(y, y))).any(1).double()
        precision, recall = float(inside.mean()), self._recall(within, between)
        kept = _jackknife.group_masks(len(x), self.groups)
        errors = {
            "precision": [float(inside[mask].mean()) for mask in kept],
            "recall": [
                self._recall(within[mask][:, mask], between[mask])
                for mask in kept
                if int(mask.sum()) > self.k + 1
            ],
        }
        how = f"jackknife over {len(kept)} groups of samples, reference fixed"
        suffix = f" k={self.k} n={len(x)},{len(y)}" + (
            "" if self.features.frechet_name == "FID" else f" {self.features.name}"
        )
        return self.result(
            {
                f"{name}{suffix}": Quantity(value, _jackknife.standard_error(errors[name]), how)
                for name, value in (("precision", precision), ("recall", recall))
            },
            samples,
            reference,
            k=self.k,
            most=self.most,
        )

    def _radii(self, distances: Tensor) -> Tensor:
        """Return the distance to the k-th nearest neighbor, given all distances within a set."""
        return distances.kthvalue(self.k + 1, dim=1).values  # the nearest is the point itself

    def _recall(self, within: Tensor, between: Tensor) -> float:
        radii = self._radii(within)
        return float((between <= radii.unsqueeze(1)).any(0).double().mean())
