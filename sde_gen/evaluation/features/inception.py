"""Inception features, which define FID."""

import importlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from sde_gen.checkpoint.manifest import line
from sde_gen.evaluation.features.base import Extracted
from sde_gen.evaluation.features.pretrained import DownloadableFeatures

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True, kw_only=True)
class Inception(DownloadableFeatures):
    """The 2048 average-pooled features of the Inception-v3 graph of 2015-12-05, by torch-fidelity (extra ``metrics``).

    The network resizes to 299x299 itself, bilinear as TensorFlow 1 did, without antialiasing.

    Source: Szegedy et al., 2015, arXiv:1512.00567; Heusel et al., 2017, arXiv:1706.08500.

    Arguments:
        weights: the file weights-inception-2015-12-05-6726825d.pth.
        digest: expected first digits of the file's SHA-256; None accepts any file. Results record its hash.
        download: download a missing file from torch-fidelity's release (96 MB).
    """

    digest: str | None = "6726825d"
    network: ClassVar[str] = "Inception"
    url: ClassVar[str] = URL
    size: ClassVar[str] = "96 MB"
    advice: ClassVar[str] = f"give features.weights=FILE, and features.download=true to fetch {URL}"
    name: ClassVar[str] = "Inception"
    resize: ClassVar[str] = "299x299, bilinear as in TensorFlow 1"
    edm2_key: ClassVar[str | None] = "fid"

    @property
    def frechet_name(self) -> str:
        """Name of the distance in these features, FID."""
        return "FID"

    @cached_property
    def net(self) -> Any:
        """The extractor of torch-fidelity with these weights."""
        tensors = self._tensors()
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except ImportError as error:
            raise ValueError(
                f"features=inception needs torch-fidelity: pip install 'sde_gen[metrics]' ({error})"
            ) from error
        plain = io.BytesIO()  # torch-fidelity unpickles the file, so it gets one with tensors only
        torch.save(tensors, plain)
        plain.seek(0)
        try:
            return module.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=plain
            )
        except RuntimeError as error:
            raise ValueError(f"{self.weights} holds no Inception-v3 ({line(str(error), 160)})") from error

    def extract(self, images: Tensor) -> Extracted:
        """Extract features and the logits without bias."""
        return Extracted(*self.net.to(images.device)(images))
