"""Metrics of samples: draws of the model, reference images, baselines, and the results."""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import __version__
from sde_gen.cli import instantiate
from sde_gen.cli.app import as_list
from sde_gen.cli.guidance_setup import apply_guidance, choose_conditions, prompted
from sde_gen.cli.image_sources import ImageBatch, ImageSource, complete, key, load, ranges
from sde_gen.cli.quality_references import QualityReferences, settings_hash
from sde_gen.cli.run import Run
from sde_gen.cli.run_data import moved_data, open_data
from sde_gen.cli.sample_conditions import describe, draw, draw_indices, needs_rows
from sde_gen.data import Dataset, Splits
from sde_gen.denoiser import Denoiser
from sde_gen.distributed.auto_batch import AutoBatchSize
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.evaluation.features import FeatureSet, extract
from sde_gen.evaluation.metric import SampleMetric, SampleResult
from sde_gen.evaluation.metric.sample_metric import FULL
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.token_sampler import TokenSampler
from sde_gen.utils.hashing import digest


@dataclass(frozen=True, kw_only=True)
class QualityResults:
    """Results of one metric.

    Arguments:
        name: name of the metric in the configuration.
        metric: the metric.
        draws: results of independent draws of the model, in order.
        baselines: results of baseline images, by name.
        settings: all settings on which the results depend.
        conditions: conditions of the samples and their source; empty without any.
        seeds: first and last index of the seeds of every draw.
        nfe: network evaluations per sample.
        seconds: time of sampling.
    """

    name: str
    metric: SampleMetric
    draws: list[SampleResult]
    baselines: dict[str, SampleResult]
    settings: dict[str, Any]
    conditions: str
    seeds: list[tuple[int, int]]
    nfe: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Metrics of samples of a run.

    Arguments:
        config: the configuration of the command ``evaluate``.
        run: the run.
        metrics: the metrics by name.
        queue: work queue of the processes.
    """

    config: DictConfig
    run: Run
    metrics: dict[str, SampleMetric] = field(default_factory=dict)
    queue: WorkQueue

    def results(self) -> list[QualityResults] | None:
        """Draw missing samples, extract features and compute the metrics; None except in the main process.

        Raises:
            ValueError: the data are no images, the reference is missing or does not fit, or a metric needs more images.
            FloatingPointError: a sample is not finite; earlier samples are kept.
            OSError: the disk is full; earlier samples are kept.
        """
        shape = self.run.data_spec.shape
        if len(shape) != 3 or shape[0] not in (1, 3) or self.run.data_spec.levels is None:
            raise ValueError(
                f"{', '.join(self.metrics)} compare images; the data of {self.run.folder} have shape {shape} and "
                f"{self.run.data_spec.levels} levels"
            )
        self._check()
        if self.config.fresh and self.queue.is_main:
            shutil.rmtree(self._samples.folder, ignore_errors=True)
        extractors = list(
            {key(metric.features): metric.features for metric in self.metrics.values()}.values()
        )
        sources = [self._samples, *self._references.sources(extractors)]
        complete(sources, extractors, self.queue, device=self.run.device, batch_size=self.config.batch_size)
        if not self.queue.is_main:
            return None
        return [self._compare(name, metric) for name, metric in self.metrics.items()]

    def _check(self) -> None:
        """Check sizes, and features by those of one black image, before a sample is drawn."""
        image, references = torch.zeros(1, *self.run.data_spec.shape, dtype=torch.uint8), self._references
        count = None if references.reference is None else references.reference.count
        for metric in self.metrics.values():
            one = extract(metric.features, image)
            metric.check_features(one, references.stored(metric.features) or one)
            metric.check_sizes(self.n, count)

    @cached_property
    def n(self) -> int:
        """Number of samples of a draw."""
        if self.config.n is not None:
            return int(self.config.n)
        return min(FULL, FULL if self._splits is None else len(self._splits.train))

    @cached_property
    def _needs_data(self) -> bool:
        path = Path(str(self.config.reference))
        return (
            str(path) in ("train", "test")
            or bool(self.config.baselines)
            or needs_rows(self.run.conditioning)
            or any(metric.uses_held_out for metric in self.metrics.values())
        )

    @cached_property
    def _splits(self) -> Splits | None:
        return open_data(self.run, moved_data(self.config)) if self._needs_data else None

    @cached_property
    def _references(self) -> QualityReferences:
        return QualityReferences(
            config=self.config,
            run=self.run,
            splits=self._splits,
            n=self.n,
            uses_images=any(metric.uses_images for metric in self.metrics.values()),
            uses_held_out=any(metric.uses_held_out for metric in self.metrics.values()),
        )

    @cached_property
    def _samples(self) -> ImageSource:
        """Draws of the model, in the order of their seeds."""
        config, run = self.config, self.run
        model: Denoiser = apply_guidance(config, run)
        sampler, coupled = self._sampler
        total = self.n * int(config.draws)
        seeds = spawn_seeds(config.seed, total)
        conditions = self._conditions(seeds)
        auto_batch = AutoBatchSize(size=config.batch_size, splittable=not coupled)

        def part(some: range) -> tuple[Tensor, int]:
            index = slice(some.start, some.stop)
            denoiser = run.bind(conditions(index), model)
            with NFECounter(run.denoiser.net) as counter:
                x = sampler(
                    denoiser,
                    (len(some), *run.event),
                    noise=PerSample(seeds[index]),
                    hooks=[StopOnNaN()],
                    device=run.device,
                )
                return run.codec.decode_image(x).cpu(), counter.samples

        def draw(batch: range) -> ImageBatch:
            begin = time.perf_counter()
            images, evaluations = zip(*auto_batch.map(batch, part), strict=True)
            return ImageBatch(
                images=torch.cat(images), evaluations=sum(evaluations), seconds=time.perf_counter() - begin
            )

        batches = [
            batch for first in range(0, total, self.n) for batch in ranges(first, self.n, config.batch_size)
        ]
        folder = Path(config.out) / f"samples-{settings_hash(self._sampling)}"
        return ImageSource(what="samples", folder=folder, batches=batches, draw=draw, keep=True)

    @property
    def _sampler(self) -> tuple[Any, bool]:
        """Return the sampler, and whether the samples of a batch depend on each other."""
        if self.run.of_codes:
            return TokenSampler(), False
        sampler: Sampler = instantiate.make(self.config.sampler)
        times = sampler.grid(self.run.denoiser.sde, sampler.steps)
        sampler.solver.check(self.run.denoiser, times)
        return sampler, sampler.solver.batch_coupled

    @cached_property
    def _sampling(self) -> dict[str, Any]:
        """All settings on which a sample depends, given its index."""
        config, run = self.config, self.run
        chosen = {
            name: OmegaConf.to_container(config[name], resolve=True) if config.get(name) is not None else None
            for name in ("sampler", "guidance", "threshold", "label")
        }
        parts = {
            kind: OmegaConf.to_container(run.config[kind])
            for kind in ("sde", "parametrization", "codec", "model")
        }
        return {
            **chosen,
            "seed": config.seed,
            "batch_size": config.batch_size,
            "precision": str(run.precision),
            "device": run.device.type,
            "checkpoint": run.images,
            "model": digest(
                apply_guidance(config, run).state_dict().values(), json.dumps(parts, sort_keys=True)
            ),
            **({} if self._rows is None else {"conditions": self._rows.fingerprints_of_conditions()}),
            "sde_gen": __version__,
            "torch": torch.__version__,
        }

    @cached_property
    def _rows(self) -> Dataset | None:
        """Rows of which the samples take the conditions: those of the reference, or held-out ones; None for classes."""
        if not needs_rows(self.run.conditioning):
            return None
        assert self._splits is not None
        return self._splits.train if str(self.config.reference) == "train" else self._splits.test

    def _conditions(self, seeds: Sequence[int]) -> Callable[[slice], dict[str, Tensor]]:
        """Return a function from indices of samples to their conditioning inputs.

        Raises:
            ValueError: a label is given for a run with other conditions, or the data lack a condition.
        """
        config, rows = self.config, self._rows
        if rows is None:
            labels = _labels(config, self.run, seeds)
            return lambda index: {name: values[index] for name, values in labels.items()}
        if config.label is not None:
            raise ValueError(
                f"label={config.label}: the samples take all conditions of random rows of the data, also the labels, "
                "as the run is given more than labels; leave label out"
            )
        conditioning = prompted(config, self.run)[0]
        draw(conditioning, rows, seeds[:1])  # better now than after the work
        return lambda index: draw(conditioning, rows, seeds[index])

    @property
    def _described_conditions(self) -> str:
        """Conditions of the samples and their source."""
        conditioning, label = prompted(self.config, self.run)[0], self.config.label
        if self._rows is not None:
            split = "train" if str(self.config.reference) == "train" else "test"
            return describe(conditioning, f"of random rows of the {split} split")
        source = "drawn uniformly for every sample" if label is None else f"{as_list(label)} in turn"
        return describe(conditioning, source)

    def _compare(self, name: str, metric: SampleMetric) -> QualityResults:
        """Compare every draw, and the baselines, with the reference."""
        features, samples, references = metric.features, self._samples, self._references
        reference, held_out = references.features(features), references.held_out
        held_out_features = None if held_out is None else held_out.features(features, held_out.batches)
        note = features.note(torch.empty(1, *self.run.data_spec.shape))
        draws, seeds = [], []
        for first in range(0, self.n * int(self.config.draws), self.n):
            mine = [batch for batch in samples.batches if first <= batch.start < first + self.n]
            found = samples.features(features, mine)
            draws.append(
                metric.checked(FeatureSet(**{**vars(found), "notes": note}), reference, held_out_features)
            )
            seeds.append((first, first + self.n - 1))
        baselines = {}
        for what, source in references.baselines.items():
            if metric.uses_held_out and source is held_out:
                continue
            found = source.features(features, source.batches, what)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # already issued for the samples
                    baselines[what] = metric.checked(found, reference, held_out_features)
            except ValueError as error:
                warnings.warn(f"{what}: {error}", stacklevel=2)
        stored = [load(samples.images_file(batch)) for batch in samples.batches]
        count = self.n * int(self.config.draws)
        fingerprint = "" if references.reference is None else references.reference.folder.name
        return QualityResults(
            name=name,
            metric=metric,
            draws=draws,
            baselines=baselines,
            settings={
                "sampling": self._sampling,
                "metric": OmegaConf.to_container(self.config.metric[name], resolve=True),
                "reference": str(self.config.reference),
                "reference_fingerprint": fingerprint,
            },
            conditions=self._described_conditions,
            seeds=seeds,
            nfe=sum(int(one["evaluations"]) for one in stored) / count,
            seconds=sum(float(one["seconds"]) for one in stored),
        )


def _labels(config: DictConfig, run: Run, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Return the conditioning inputs of the samples: ``label``, or a class drawn uniformly by the seed of each."""
    whole = OmegaConf.merge(config, {"n": len(seeds)})
    assert isinstance(whole, DictConfig)
    cond = choose_conditions(whole, run)
    if "label" not in cond or config.label is not None:
        return cond
    return {**cond, "label": draw_indices(seeds, int(cond["label"].max()) + 1)}
