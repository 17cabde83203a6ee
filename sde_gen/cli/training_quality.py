"""Metrics of samples during a training."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.cli import build, instantiate
from sde_gen.cli.app import as_list
from sde_gen.cli.config_files import load
from sde_gen.cli.sample_conditions import draw
from sde_gen.data import Dataset
from sde_gen.data.codec import Codec
from sde_gen.denoiser import AutoregressiveModel, Denoiser
from sde_gen.evaluation.features import FeatureSet, extract
from sde_gen.evaluation.metric import SampleMetric
from sde_gen.evaluation.metric.sample_metric import FULL
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.token_sampler import TokenSampler
from sde_gen.training import MetricValue, Trainer


def build_metrics(config: DictConfig, trainer: Trainer) -> "TrainingQuality | None":
    """Build the metrics of ``quality.metrics``; None without any.

    Raises:
        ValueError: an unknown metric, one of a density, features that do not fit, or data that are no images.
    """
    names = as_list(config.quality.metrics)
    if not names:
        return None
    metrics = {}
    for name in names:
        node = OmegaConf.create({"features": config.quality.features, "metric": load("metric", name)})
        if not get_object(node.metric._target_).of_samples:
            raise ValueError(
                f"quality.metrics: {name} is no metric of samples; the held-out loss is measured "
                "anyway (engine.validate)"
            )
        metrics[name] = instantiate.make(node.metric)
    data = trainer.train.of_one_size()
    if len(data.shape) != 3 or data.shape[0] not in (1, 3) or data.levels is None:
        raise ValueError(
            f"quality.metrics compare images; the data have shape {data.shape}, {data.levels} levels"
        )
    for metric in metrics.values():
        one = extract(
            metric.features, torch.zeros(1, *data.shape, dtype=torch.uint8)
        )  # better now than at its time
        metric.check_features(one, one)
        metric.check_sizes(config.quality.n, min(len(data), FULL))
    n, seeds = config.quality.n, spawn_seeds(config.engine.seed, config.quality.n)
    return TrainingQuality(
        metrics,
        sampler=build_sampler(config),
        train=data,
        held_out=trainer.held_out.of_one_size(),
        codec=trainer.codec,
        seeds=seeds[:n],
        cond=draw(trainer.conditioning, data, seeds),
        batch_size=config.quality.batch_size,
    )


def build_sampler(config: DictConfig) -> Any:
    """Build the sampler of the preview; that of codes, for a model of these."""
    codes = build.trained_class(config) is AutoregressiveModel
    return TokenSampler() if codes else instantiate.make(config.preview.sampler)


class TrainingQuality:
    """Metrics of samples of a model in training, always of the same noise; a failure does not stop the training.

    Arguments:
        metrics: the metrics by name.
        sampler: draws the samples.
        train: the training split, the reference.
        held_out: images held out of training.
        codec: between data and model space.
        seeds: one seed per sample.
        cond: conditioning inputs of every sample.
        batch_size: samples of a batch.
    """

    def __init__(
        self,
        metrics: Mapping[str, SampleMetric],
        *,
        sampler: Any,
        train: Dataset,
        held_out: Dataset,
        codec: Codec,
        seeds: list[int],
        cond: Mapping[str, Tensor],
        batch_size: int,
    ) -> None:
        self.metrics, self.sampler, self.codec, self.seeds = metrics, sampler, codec, seeds
        self.splits = {"training split": train, "held-out images": held_out}
        self.cond, self.batch_size = cond, batch_size
        self.known: dict[tuple[int, str], FeatureSet] = {}

    def __call__(self, denoiser: Denoiser, images: int) -> dict[str, MetricValue]:
        """Draw samples and compare them; metrics that fail are warned of and left out."""
        scores: dict[str, MetricValue] = {}
        try:
            samples = self._draw(denoiser)
        except FloatingPointError as error:
            warnings.warn(f"no metrics at {images:,} images: {error}", stacklevel=2)
            return scores
        for name, metric in self.metrics.items():
            try:
                found = metric.checked(
                    extract(metric.features, samples, what="samples", batch_size=self.batch_size),
                    self._of_data(metric, "training split"),
                    self._of_data(metric, "held-out images"),
                )
            except (ValueError, FloatingPointError) as error:
                warnings.warn(f"no {name} at {images:,} images: {error}", stacklevel=2)
                continue
            if math.isfinite(found.value):
                scores[name] = MetricValue(found.value, found.se, metric.larger_is_better)
        return scores

    def _draw(self, denoiser: Denoiser) -> Tensor:
        device = next(denoiser.parameters()).device
        shape = self.codec.event(self.splits["training split"].shape)
        batches = []
        for first in range(0, len(self.seeds), self.batch_size):
            part = slice(first, first + self.batch_size)
            seeds = self.seeds[part]
            cond = {name: rows[part].to(device) for name, rows in self.cond.items()}
            bound = denoiser.bind(**cond) if cond else denoiser
            x = self.sampler(bound, (len(seeds), *shape), noise=PerSample(seeds), device=device)
            batches.append(self.codec.decode_image(x))
        return torch.cat(batches)

    def _of_data(self, metric: SampleMetric, split: str) -> FeatureSet:
        """Return the features of a split, extracted once; of a large one, of its first images."""
        key = (id(metric.features), split)
        if key not in self.known:
            data: Any = self.splits[split]
            values = data.values[: min(len(data), FULL)]
            images = torch.round(values.double() * (255 / (data.levels - 1))).to(torch.uint8)
            self.known[key] = extract(metric.features, images, what=split, batch_size=self.batch_size)
        return self.known[key]
