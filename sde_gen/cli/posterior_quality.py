"""Metrics of conditional samples of a run on simulations: draws, exact references, baselines, files."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import __version__
from sde_gen.cli import build, console, reports
from sde_gen.cli.app import reject_unused
from sde_gen.cli.guidance_setup import apply_guidance
from sde_gen.cli.run import Run
from sde_gen.cli.run_data import moved_data, open_data
from sde_gen.data import Splits
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.evaluation.metric import ConditionalSamples, PosteriorMetric, PosteriorResult, Quantity
from sde_gen.inverse import ConditionalDensity
from sde_gen.noise import IID
from sde_gen.report.plot import PM
from sde_gen.report.result_sections import estimate
from sde_gen.utils import atomic
from sde_gen.utils.hashing import digest
from sde_gen.utils.images import attempt, save_figure

NARROW = 0.5
"""Factor by which the draws of an overconfident null are moved to their mean."""


def evaluate(
    config: DictConfig,
    run: Run,
    metrics: Mapping[str, PosteriorMetric],
    queue: WorkQueue,
    threads_used: str,
) -> None:
    """Draw, compute the metrics, and save and print them; only the main process works.

    Raises:
        ValueError: the run has no vectors given vectors, or a metric needs an exact posterior and there is none.
    """
    reject_unused(
        "c2st, sbc, tarp and coverage have their own, such as metric.sbc.draws", "draws", "reference", "label"
    )
    if not queue.is_main:
        return
    if config.n is not None:
        metrics = {name: replace(metric, observations=config.n) for name, metric in metrics.items()}
    quality = PosteriorQuality(config=config, run=run, splits=open_data(run, moved_data(config)))
    rows: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for name, metric in metrics.items():
        found = quality.results(name, metric)
        path = Path(config.out) / f"{name}-{found.key}.json"
        atomic.write(path, json.dumps(found.plain(run), indent=1, allow_nan=False))
        paths[f"numbers of {name}"] = path
        picture = path.with_suffix(".png")
        if attempt(partial(save_figure, found.figure(), picture), picture):
            paths[f"picture of {name}"] = picture
        rows |= found.rows()
    sampler = config.sampler
    console.print_table(
        f"conditional samples of {run.folder}",
        {
            **rows,
            "sampler": f"{sampler.solver._target_.rpartition('.')[2]}, {sampler.steps} steps on "
            f"{sampler.grid._target_.rpartition('.')[2]}",
            "conditions": f"those of the {config.split} split, drawn by seed",
            **({"threads": threads_used} if run.device.type == "cpu" else {}),
            "trained on": f"{run.images:,} simulations",
        },
        paths,
    )
    reports.after_evaluation(Path(config.out), run.folder)


@dataclass(frozen=True, kw_only=True)
class PosteriorQualityResult:
    """Result of a metric with its baselines.

    Arguments:
        name: name of the metric in the configuration.
        metric: the metric.
        samples: what it was computed of.
        result: its result.
        baselines: its results of other samples, by name.
        settings: all settings on which it depends.
        seconds: time of drawing and evaluation.
    """

    name: str
    metric: PosteriorMetric
    samples: ConditionalSamples
    result: PosteriorResult
    baselines: Mapping[str, PosteriorResult]
    settings: Mapping[str, Any]
    seconds: float

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return digest([], json.dumps(self.settings, sort_keys=True, default=str))[:12]

    def plain(self, run: Run) -> dict[str, Any]:
        """Return the result as plain JSON."""
        n = len(self.samples.truth)
        return {
            "metric": self.name,
            "name": self.result.name,
            "what": self.metric.what,
            "mean": self.result.value,
            "standard_error": _number(self.result.se),
            "quantities": _plain(self.result),
            "baselines": {what: {"quantities": _plain(one)} for what, one in self.baselines.items()},
            "observations": n,
            "draws_per_observation": self.samples.draws.shape[1],
            "seconds": self.seconds,
            "trained_on_images": run.images,
            "command": reports.command_line("evaluate"),
            "settings": self.settings,
        }

    def rows(self) -> dict[str, str]:
        """Return the rows of a table."""
        first = self.result.name
        table = {f"{first}: {self.metric.what}": _text(self.result.quantities[first])}
        for what, quantity in list(self.result.quantities.items())[1:]:
            table[f"  {self.name}, {what}"] = _text(quantity)
        for what, one in self.baselines.items():
            p_value = one.quantities.get("p-value of uniformity")
            more = "" if p_value is None else f"; p = {p_value.value:.3g}"
            table[f"  {self.name}, {what}"] = _text(one.quantities[one.name]) + more
        n, draws = len(self.samples.truth), self.samples.draws.shape[1]
        table[f"  {self.name}, of"] = f"{n:,} conditions, {draws:,} draws of each"
        return table

    def figure(self) -> Figure:
        """Return the plot: distribution functions beside the diagonal, or samples beside exact ones."""
        if not self.result.curves:
            return self._scatter()
        figure = Figure(figsize=(5, 4.4), dpi=110, layout="tight")
        axes = figure.subplots()
        grid = self.result.curves[0].x.numpy()
        band = self.result.band
        axes.fill_between(
            grid,
            np.clip(grid - band, 0, 1),
            np.clip(grid + band, 0, 1),
            color="0.85",
            label="95 % of calibrated",
        )
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=1)
        for curve in self.result.curves:
            axes.plot(curve.x, curve.y, label=curve.name, linewidth=1.4)
        for what, one in self.baselines.items():
            if what.startswith("null"):
                axes.plot(one.curves[0].x, one.curves[0].y, "--", label=what, linewidth=1)
        axes.set(xlabel=self.result.axes[0], ylabel=self.result.axes[1], xlim=(0, 1), ylim=(0, 1))
        axes.legend(fontsize=7)
        return figure

    def _scatter(self) -> Figure:
        figure = Figure(figsize=(9, 3.2), dpi=110, layout="tight")
        count = min(3, len(self.samples.draws))
        for i, axes in enumerate(figure.subplots(1, count, squeeze=False)[0]):
            for what, points in (("exact", self.samples.reference), ("model", self.samples.draws)):
                assert points is not None
                rows = points[i, :500].numpy()
                second = rows[:, 1] if rows.shape[1] > 1 else np.zeros(len(rows))
                axes.plot(rows[:, 0], second, ".", markersize=3, alpha=0.5, label=what)
            axes.set(title=f"condition {i}", xlabel="number 0", ylabel="number 1" if i == 0 else "")
            axes.legend(fontsize=7)
        return figure


@dataclass(frozen=True, kw_only=True)
class PosteriorQuality:
    """Metrics of conditional samples of a run.

    Arguments:
        config: the configuration of the command ``evaluate``.
        run: the run.
        splits: its data.
    """

    config: DictConfig
    run: Run
    splits: Splits

    def results(self, name: str, metric: PosteriorMetric) -> PosteriorQualityResult:
        """Draw samples, or read those of an earlier call, and evaluate a metric."""
        begin = time.perf_counter()
        samples = self._samples(metric)
        baselines = self._baselines(metric, samples) if self.config.baselines else {}
        result = metric(samples, self._rng(1))
        return PosteriorQualityResult(
            name=name,
            metric=metric,
            samples=samples,
            result=result,
            baselines=baselines,
            settings={**self._settings, "metric": {"name": name, **asdict(metric)}},
            seconds=time.perf_counter() - begin,
        )

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng([int(self.config.seed), part])

    @property
    def _density(self) -> ConditionalDensity:
        shape = self.run.data_spec.shape
        if len(shape) != 1 or self.run.data_spec.levels is not None:
            raise ValueError(
                f"c2st, sbc, tarp and coverage are for vectors given vectors; the data of {self.run.folder} have shape "
                f"{shape} and {self.run.data_spec.levels} levels"
            )
        return ConditionalDensity(
            denoiser=apply_guidance(self.config, self.run),
            codec=self.run.codec,
            conditioning=self.run.conditioning,
            dim=shape[0],
            sampler=build.make(self.config.sampler),
        )

    @property
    def _settings(self) -> dict[str, Any]:
        """All settings on which the samples depend."""
        config, run = self.config, self.run
        chosen = {
            key: OmegaConf.to_container(config[key], resolve=True) if config.get(key) is not None else None
            for key in ("sampler", "guidance", "threshold")
        }
        return {
            **chosen,
            "split": config.split,
            "seed": config.seed,
            "precision": str(run.precision),
            "device": run.device.type,
            "checkpoint": run.images,
            "model": digest(run.denoiser.state_dict().values()),
            "sde_gen": __version__,
            "torch": torch.__version__,
        }

    def _samples(self, metric: PosteriorMetric) -> ConditionalSamples:
        data = self.splits.test if self.config.split == "test" else self.splits.train
        n, density = metric.observations, self._density
        if n > len(data):
            raise ValueError(
                f"observations={n}: the {self.config.split} split has {len(data)}; give fewer, or data with more"
            )
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(int(self.config.seed)))[:n]
        values, c = data.values, data.conditions["vector"][order]
        assert isinstance(values, Tensor)
        truth = values[order]
        reference = self._reference(c, metric.draws, 2) if metric.needs_reference else None
        repeated = c.repeat_interleave(metric.draws, 0)
        shape = n, metric.draws, density.dim
        draws = self._draws(density, repeated, metric).reshape(shape)
        log_prob_truth = log_prob_draws = None
        if metric.needs_density:
            log_prob_truth = density.log_prob(truth, c)
            log_prob_draws = density.log_prob(draws.flatten(0, 1), repeated).reshape(shape[:2])
        return ConditionalSamples(
            given=c,
            truth=truth,
            draws=draws,
            reference=reference,
            log_prob_truth=log_prob_truth,
            log_prob_draws=log_prob_draws,
        )

    def _draws(self, density: ConditionalDensity, c: Tensor, metric: PosteriorMetric) -> Tensor:
        """Return draws, those of an earlier call where they are stored."""
        what = json.dumps([self._settings, metric.observations, metric.draws], sort_keys=True, default=str)
        path = Path(self.config.out) / f"draws-{digest([c], what)[:12]}.npz"
        if path.exists() and not self.config.fresh:
            with np.load(path, allow_pickle=False) as stored:
                return torch.from_numpy(stored["draws"])
        draws = density.sample(c, noise=IID.seeded(int(self.config.seed)))
        with atomic.writing(path) as file:
            np.savez_compressed(file, draws=draws.numpy())
        return draws

    def _reference(self, c: Tensor, count: int, part: int) -> Tensor:
        """Return exact samples given every condition."""
        source = build.make(self.run.config.data)
        draw = getattr(source, "reference", None)
        if draw is None:
            raise ValueError(
                f"c2st compares with an exact posterior, and {type(source).__name__} data have none; take "
                "metrics=[sbc,tarp,coverage]"
            )
        rng = self._rng(part)
        return torch.stack([draw(row, count, rng) for row in c]).float()

    def _baselines(self, metric: PosteriorMetric, samples: ConditionalSamples) -> dict[str, PosteriorResult]:
        """Return results of samples that need no model."""
        rng, draws, reference = self._rng(3), samples.draws, samples.reference
        marginal = self.splits.train.values
        assert isinstance(marginal, Tensor)
        rows = torch.from_numpy(rng.integers(0, len(marginal), draws.shape[:2]))
        if reference is not None:
            exact = {
                "ceiling: other exact samples": self._reference(samples.given, draws.shape[1], 4),
                "null: samples without the condition": marginal[rows],
            }
            return {what: metric(replace(samples, draws=one), self._rng(1)) for what, one in exact.items()}
        if samples.log_prob_draws is not None:
            log_prob = samples.log_prob_draws
            calibrated = ConditionalSamples(
                given=samples.given,
                truth=draws[:, 0],
                draws=draws[:, 1:],
                log_prob_truth=log_prob[:, 0],
                log_prob_draws=log_prob[:, 1:],
            )
            return {"ceiling: a draw in place of the truth": metric(calibrated, self._rng(1))}
        mean = draws.mean(1, keepdim=True)
        others = {
            "ceiling: a draw in place of the truth": (draws[:, 0], draws[:, 1:]),
            "null: draws of half the spread": (samples.truth, mean + NARROW * (draws - mean)),
            "calibrated but uninformed: samples without the condition": (samples.truth, marginal[rows]),
        }
        return {
            what: metric(replace(samples, truth=truth, draws=one), self._rng(1))
            for what, (truth, one) in others.items()
        }


def _plain(result: PosteriorResult) -> dict[str, Any]:
    return {
        name: {"value": _number(one.value), "standard_error": _number(one.se), "how": one.how}
        for name, one in result.quantities.items()
    }


def _text(quantity: Quantity) -> str:
    return estimate(quantity.value, quantity.se).replace(PM, "+- ")


def _number(x: float) -> float | None:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return x if math.isfinite(x) else None
