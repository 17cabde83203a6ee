"""Evaluation of one metric on a data set: batch by batch, by any number of processes, resumable after a kill."""

import json
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import __version__
from sde_gen.cli import console, instantiate
from sde_gen.cli.run import Run
from sde_gen.data import Dataset
from sde_gen.distributed.auto_batch import AutoBatchSize
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.evaluation.metric import Metric, MetricResult
from sde_gen.evaluation.results_log import Record, ResultsLog
from sde_gen.likelihood import estimate
from sde_gen.noise import spawn_seeds
from sde_gen.solver.callbacks import NFECounter
from sde_gen.utils.hashing import digest

RESULT_OPTIONS = ("split", "seed", "batch_size")
"""Options of the command on which the result of an image depends; it does not depend on n."""


def plan(count: int, n: int, *, seed: int, batch_size: int) -> list[list[int]]:
    """Return batches of image numbers: n of count images, in an order drawn by seed.

    A batch is the same images whichever process evaluates it and whatever is done already, because an integrator may
    couple the images of a batch. Any first part of the order is a fair sample of the data set, which may be sorted by
    class; a larger n only adds images, and only changes the batch that was not full.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:n].tolist()
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]


@dataclass(frozen=True, kw_only=True)
class Results:
    """Results of a metric.

    Arguments:
        name: name of the metric.
        metric: the metric.
        settings: everything on which a result depends.
        images: numbers of the images in the data set, ascending.
        values: their values and the components of their errors.
        labels: their classes, if the data have any.
        nfe: network evaluations per image.
        seconds: time of all processes together.
    """

    name: str
    metric: Metric
    settings: dict[str, Any]
    images: list[int]
    values: MetricResult
    labels: Tensor | None
    nfe: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MetricEvaluation:
    """One metric of a run on some batches of a data set, shared by the processes of a work queue.

    Arguments:
        config: the configuration of the command.
        run: the run.
        data: the data set.
        name: name of the metric in the configuration.
        batches: numbers of the images of every batch.
        queue: the processes.
    """

    config: DictConfig
    run: Run
    data: Dataset
    name: str
    batches: list[list[int]]
    queue: WorkQueue

    @cached_property
    def conditioned(self) -> Dataset:
        """The data with the conditions that the run reads."""
        return self.run.conditioning.prepare(self.data)

    def results(self) -> Results | None:
        """Evaluate the batches that are left, and wait for the other processes; None but in the main process.

        Raises:
            ValueError: the folder holds results of other settings.
            FloatingPointError: a result is not finite.
            OSError: the disk is full; earlier results are kept.
            OutOfMemoryError: the device has no memory for a batch whose images are coupled, or not for a single one.
        """
        metric: Metric = instantiate.make(self.config.metric[self.name])
        auto_batch = AutoBatchSize(size=self.config.batch_size, splittable=not metric.batch_coupled)
        results_log = ResultsLog(Path(self.config.out) / f"{self.name}.jsonl", self._settings())
        key = str(results_log.path.resolve())

        def begin() -> list[int]:
            results_log.begin(fresh=self.config.fresh)
            rows = results_log.rows()
            return [index for index in range(len(self.batches)) if not self._done(index, rows)]

        todo = self.queue.broadcast_object(key, begin)
        with console.progress() if self.queue.is_main else nullcontext() as bar:
            task = (
                None
                if bar is None
                else bar.add_task(
                    self.name, total=sum(map(len, self.batches)), **self._state(metric, results_log)
                )
            )

            reported = time.monotonic()

            def report(every: float = 1.0) -> None:
                nonlocal reported
                if bar is not None and task is not None and time.monotonic() - reported >= every:
                    bar.update(task, **self._state(metric, results_log))
                    reported = time.monotonic()  # reads all results, so not after every batch

            for index in self.queue.take(key, todo):
                results_log.append(self._measure(metric, auto_batch, index))
                report()
            if not self.queue.is_main:
                return None
            for _ in self.queue.wait_all(key):
                report()
            report(every=0)
        return self._collect(metric, results_log)

    def _state(self, metric: Metric, results_log: ResultsLog) -> dict[str, Any]:
        """Return the fields of the progress bar: the results of all processes."""
        rows = self._rows(results_log)
        if not rows:
            return {"completed": 0, "note": ""}
        mean, se, _ = estimate(_column(row["value"] for row in rows))
        return {"completed": len(rows), "note": f"{mean:.4f} +- {se:.4f} {metric.unit}"}

    def _settings(self) -> dict[str, Any]:
        """Return everything on which the result of an image depends."""
        conditions = {
            name: value
            for name, value in self.data.fingerprints_of_conditions().items()
            if name in self.run.conditioning.names
        }
        return {
            "metric": OmegaConf.to_container(self.config.metric[self.name], resolve=True),
            **{key: self.config[key] for key in RESULT_OPTIONS},
            "precision": str(self.run.precision),
            "device": self.run.device.type,
            "checkpoint": self.run.images,
            "model": self._model(),
            "data": self.data.fingerprint(),
            **({"conditions": conditions} if conditions else {}),
            "sde_gen": __version__,
            "torch": torch.__version__,
        }

    def _model(self) -> str:
        kinds = ("sde", "parametrization", "codec", "model")
        parts = {kind: OmegaConf.to_container(self.run.config[kind]) for kind in kinds}
        return digest(self.run.denoiser.state_dict().values(), json.dumps(parts, sort_keys=True))

    def _done(self, index: int, rows: dict[int, Record]) -> bool:
        batch = self.batches[index]
        return all(
            image in rows and (rows[image]["batch"], rows[image]["of"]) == (index, len(batch))
            for image in batch
        )

    def _rows(self, results_log: ResultsLog) -> list[Record]:
        """Return results of whole batches in the order of the data, so that their mean is bit-identical."""
        rows = results_log.rows()
        done = (batch for index, batch in enumerate(self.batches) if self._done(index, rows))
        return [rows[image] for image in sorted(image for batch in done for image in batch)]

    def _measure(self, metric: Metric, auto_batch: AutoBatchSize, index: int) -> list[Record]:
        """Evaluate a batch, in parts where memory requires it; seconds and evaluations are divided evenly by images."""
        batch, begin = self.batches[index], time.perf_counter()
        seeds = spawn_seeds(self.config.seed, max(batch) + 1)
        records, evaluations = [], 0

        def evaluate(index: range) -> tuple[MetricResult, int]:
            images, run = batch[index.start : index.stop], self.run
            denoiser = run.bind(run.conditioning.given(self.conditioned.given(images)))
            values = self.data.values[images].to(run.device)
            with NFECounter(run.denoiser.net) as counter:
                return metric(denoiser, values, run.codec, [seeds[i] for i in images]), counter.samples

        for measured, samples in auto_batch.map(range(len(batch)), evaluate):
            records += measured.rows()
            evaluations += samples
        bad = [image for image, row in zip(batch, records, strict=True) if not math.isfinite(row["value"])]
        if bad:
            raise FloatingPointError(
                f"{self.name} is not finite for images {bad[:8]} of the {self.config.split} split; "
                "try a smaller tolerance of the integrator, or precision=float32"
            )
        share = {"batch": index, "of": len(batch), "nfe": evaluations / len(batch)}
        seconds = (time.perf_counter() - begin) / len(batch)
        return [
            {"image": image, **row, **share, "seconds": seconds}
            for image, row in zip(batch, records, strict=True)
        ]

    def _collect(self, metric: Metric, results_log: ResultsLog) -> Results:
        rows = self._rows(results_log)
        if len(rows) < sum(map(len, self.batches)):
            raise ValueError(
                f"results vanished from {results_log.path} during the evaluation; the same command computes them again"
            )
        images = [row["image"] for row in rows]
        return Results(
            name=self.name,
            metric=metric,
            settings=results_log.settings,
            images=images,
            values=MetricResult.of_rows(rows),
            labels=None if self.data.labels is None else self.data.labels[images],
            nfe=float(_column(row["nfe"] for row in rows).mean()),
            seconds=float(_column(row["seconds"] for row in rows).sum()),
        )


def _column(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
