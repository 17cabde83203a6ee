"""One metric on a data set, batch by batch, by any number of processes, and what is left of it after a kill."""

import json
import math
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import __version__
from sde_gen.cli import build, console
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

DECIDING = ("split", "seed", "batch_size")
"""TrainingConfig of the door that decide over an image's result; n does not."""


def plan(count: int, n: int, *, seed: int, batch_size: int) -> list[list[int]]:
    """Batches of image numbers: n of count images, in an order drawn by seed.

    A batch is the same images whoever evaluates it and whatever is done already, because an integrator may couple
    the images of a batch. Any first part of the order is a fair sample of the data set, which may be sorted by
    class; a larger n only adds images, and only changes the batch that was not full.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:n].tolist()
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a metric found.

    Arguments:
        name: name of the metric.
        metric: the metric.
        settings: all that decides over a result.
        images: numbers of the images in the data set, ascending.
        found: their values and the parts of their errors.
        labels: their classes, if the data have any.
        nfe: network evaluations per image.
        seconds: time of all processes together.
    """

    name: str
    metric: Metric
    settings: dict[str, Any]
    images: list[int]
    found: MetricResult
    labels: Tensor | None
    nfe: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One metric of a run on some batches of a data set, with the help of all processes of a crew.

    Arguments:
        config: the configuration of the door.
        run: the run.
        data: the data set.
        name: name of the metric in the configuration.
        batches: numbers of the images of every batch.
        crew: the processes.
    """

    config: DictConfig
    run: Run
    data: Dataset
    name: str
    batches: list[list[int]]
    crew: WorkQueue

    def results(self) -> Results | None:
        """Do what is left to do, and wait for the others; None but for the leader.

        Raises:
            ValueError: results of other settings lie in the folder.
            FloatingPointError: a result is not finite.
            OSError: the disk is full; results of before stay.
            OutOfMemoryError: the device has no memory for a batch whose images are coupled, or not for a single one.
        """
        metric: Metric = build.make(self.config.metric[self.name])
        room = AutoBatchSize(size=self.config.batch_size, splittable=not metric.batch_coupled)
        ledger = ResultsLog(Path(self.config.out) / f"{self.name}.jsonl", self._settings())
        key = str(ledger.path.resolve())

        def begin() -> list[int]:
            ledger.begin(fresh=self.config.fresh)
            rows = ledger.rows()
            return [index for index in range(len(self.batches)) if not self._done(index, rows)]

        todo = self.crew.broadcast_object(key, begin)
        with console.progress() if self.crew.is_main else nullcontext() as bar:
            task = (
                None
                if bar is None
                else bar.add_task(self.name, total=sum(map(len, self.batches)), **self._state(metric, ledger))
            )

            told = time.monotonic()

            def tell(every: float = 1.0) -> None:
                nonlocal told
                if bar is not None and task is not None and time.monotonic() - told >= every:
                    bar.update(task, **self._state(metric, ledger))
                    told = time.monotonic()  # all results are read for it, and must not be all the time

            for index in self.crew.take(key, todo):
                ledger.append(self._measure(metric, room, index))
                tell()
            if not self.crew.is_main:
                return None
            for _ in self.crew.wait_all(key):
                tell()
            tell(every=0)
        return self._collect(metric, ledger)

    def _state(self, metric: Metric, ledger: ResultsLog) -> dict[str, Any]:
        """What the progress bar says: results of all processes."""
        rows = self._rows(ledger)
        if not rows:
            return {"completed": 0, "note": ""}
        mean, se, _ = estimate(_column(row["value"] for row in rows))
        return {"completed": len(rows), "note": f"{mean:.4f} +- {se:.4f} {metric.unit}"}

    def _settings(self) -> dict[str, Any]:
        """All that decides over the result of an image."""
        return {
            "metric": OmegaConf.to_container(self.config.metric[self.name], resolve=True),
            **{key: self.config[key] for key in DECIDING},
            "precision": str(self.run.precision),
            "device": self.run.device.type,
            "checkpoint": self.run.images,
            "model": self._model(),
            "data": self.data.fingerprint(),
            "sde_gen": __version__,
            "torch": torch.__version__,
        }

    def _model(self) -> str:
        kinds = ("sde", "parametrization", "codec", "model")
        meaning = {kind: OmegaConf.to_container(self.run.config[kind]) for kind in kinds}
        return digest(self.run.denoiser.state_dict().values(), json.dumps(meaning, sort_keys=True))

    def _done(self, index: int, rows: dict[int, Record]) -> bool:
        batch = self.batches[index]
        return all(
            image in rows and (rows[image]["batch"], rows[image]["of"]) == (index, len(batch))
            for image in batch
        )

    def _rows(self, ledger: ResultsLog) -> list[Record]:
        """Results of whole batches, in the order of the data: their mean is the same to the bit whoever got them."""
        rows = ledger.rows()
        done = (batch for index, batch in enumerate(self.batches) if self._done(index, rows))
        return [rows[image] for image in sorted(image for batch in done for image in batch)]

    def _measure(self, metric: Metric, room: AutoBatchSize, index: int) -> list[Record]:
        """Results of a batch, in parts where it must be; seconds and evaluations are shared evenly among its images."""
        batch, begin = self.batches[index], time.perf_counter()
        seeds = spawn_seeds(self.config.seed, max(batch) + 1)
        found, evaluations = [], 0

        def part(rows: range) -> tuple[MetricResult, int]:
            images, run = batch[rows.start : rows.stop], self.run
            denoiser = run.conditioned(None if self.data.labels is None else self.data.labels[images])
            values = self.data.values[images].to(run.device)
            with NFECounter(run.denoiser.net) as counter:
                return metric(denoiser, values, run.codec, [seeds[i] for i in images]), counter.samples

        for measured, samples in room.map(range(len(batch)), part):
            found += measured.rows()
            evaluations += samples
        bad = [image for image, row in zip(batch, found, strict=True) if not math.isfinite(row["value"])]
        if bad:
            raise FloatingPointError(
                f"{self.name} is not finite for images {bad[:8]} of the {self.config.split} split; "
                "try a smaller tolerance of the integrator, or precision=float32"
            )
        share = {"batch": index, "of": len(batch), "nfe": evaluations / len(batch)}
        seconds = (time.perf_counter() - begin) / len(batch)
        return [
            {"image": image, **row, **share, "seconds": seconds}
            for image, row in zip(batch, found, strict=True)
        ]

    def _collect(self, metric: Metric, ledger: ResultsLog) -> Results:
        rows = self._rows(ledger)
        if len(rows) < sum(map(len, self.batches)):
            raise ValueError(
                f"results vanished from {ledger.path} meanwhile; the same command computes them again"
            )
        images = [row["image"] for row in rows]
        return Results(
            name=self.name,
            metric=metric,
            settings=ledger.settings,
            images=images,
            found=MetricResult.of_rows(rows),
            labels=None if self.data.labels is None else self.data.labels[images],
            nfe=float(_column(row["nfe"] for row in rows).mean()),
            seconds=float(_column(row["seconds"] for row in rows).sum()),
        )


def _column(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
