"""Metrics of conditional samples of a run on simulations: draws, exact references and baselines."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen import __version__
from sde_gen.cli import console, instantiate, reports
from sde_gen.cli.app import reject_unused
from sde_gen.cli.guidance_setup import apply_guidance
from sde_gen.cli.posterior_quality_report import PosteriorQualityResult
from sde_gen.cli.run import Run
from sde_gen.cli.run_data import moved_data, open_data
from sde_gen.data import Splits
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.evaluation.metric import ConditionalSamples, PosteriorMetric, PosteriorResult
from sde_gen.inverse import ConditionalDensity
from sde_gen.noise import IID
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
            sampler=instantiate.make(self.config.sampler),
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
        source = instantiate.make(self.run.config.data)
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
