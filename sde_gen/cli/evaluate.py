"""Evaluate a run on held-out data and by its samples: ``python -m sde_gen.evaluate run=runs/... metrics=[bpd,fid]``."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig

from sde_gen.cli import console, instantiate, posterior_quality, quality_report, reports, threads
from sde_gen.cli.app import Command, as_list, reject_unused, require_int
from sde_gen.cli.config_files import suggest
from sde_gen.cli.evaluation import MetricEvaluation, Results, plan
from sde_gen.cli.generation import coupling
from sde_gen.cli.quality import Quality, QualityResults
from sde_gen.cli.run import SAMPLED, Run, load_run
from sde_gen.cli.run_data import moved_data, open_data
from sde_gen.cli.run_defaults import take_sampler
from sde_gen.data import Dataset
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue
from sde_gen.evaluation.metric import PosteriorMetric, SampleMetric
from sde_gen.likelihood import ErrorBudget, MeanEstimate, budget, estimate
from sde_gen.utils import atomic


def evaluate(config: DictConfig) -> None:
    """Compute the metrics, and save the value of every image."""
    require_int(config, "steps", "draws")
    densities, samples, posteriors = _metrics(config)
    queue = WorkQueue.init()
    try:
        with queue.propagate_failure():
            run = load_run(config, *_trained(config, densities, samples, posteriors))
            _check_codec(config, densities, run)
            Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
            if run.of_codes:
                reject_unused(
                    f"{run.folder} is a model of codes, which are drawn one after the other",
                    *OF_SCORE_NETWORKS,
                )
            if samples:
                take_sampler(config, run, {})
            with threads.in_use(config, run) as threads_used:
                if densities:
                    _densities(config, densities, queue, run, threads_used)
                if samples:
                    found = Quality(config=config, run=run, metrics=samples, queue=queue).results()
                    if found is not None:
                        _show_quality(config, run, found, threads_used)
                if posteriors:
                    posterior_quality.evaluate(config, run, posteriors, queue, threads_used)
    except PeerFailed:
        raise SystemExit(2) from None  # the process that failed has printed the reason


OF_SCORE_NETWORKS = ("solver", "grid", "steps", "sampler", "guidance", "threshold")
"""Options of metrics of samples of score networks."""


def _trained(
    config: DictConfig, densities: list[str], samples: Iterable[str], posteriors: Iterable[str]
) -> tuple[type, ...]:
    """Return the classes of models that the metrics measure.

    Raises:
        ValueError: they measure different ones.
    """
    found: dict[str, tuple[type, ...]] = {
        name: (get_object(config.metric[name]._target_).trained,) for name in densities
    }
    found |= dict.fromkeys(posteriors, (NetworkDenoiser,)) | dict.fromkeys(samples, SAMPLED)
    common = [kind for kind in next(iter(found.values())) if all(kind in kinds for kinds in found.values())]
    if not common:
        first, *others = found
        second = next(name for name in others if not set(found[name]) & set(found[first]))
        raise ValueError(f"{first} and {second} measure different models: give them one after the other")
    return tuple(common)


def _check_codec(config: DictConfig, densities: list[str], run: Run) -> None:
    """Refuse a density of latents where one of data is needed, and the reverse.

    Raises:
        ValueError: a metric does not suit the codec of the run; the message names one that does.
    """
    latent = run.codec.of_latents
    for name in densities:
        metric = get_object(config.metric[name]._target_)
        if metric.of_latents and not latent:
            raise ValueError(f"{name} is of a model of latents; for {run.folder} take metrics=[bpd]")
        if latent and not metric.of_latents:
            raise ValueError(
                f"{name} needs the density of the data, and {run.folder} is a model of latents: take "
                "metrics=[latent_bound], or metrics=[code_bound] of codes, which adds the autoencoder's part"
            )


def _densities(config: DictConfig, metrics: list[str], queue: WorkQueue, run: Run, threads_used: str) -> None:
    """Evaluate metrics of the density, and report them in the main process."""
    data, found = _evaluate(config, metrics, queue, run)
    results = [each for each in found if each is not None]
    if results:
        for evaluated in results:
            _save(config, run, evaluated, data)
        _show(config, run, results, data, threads_used)
        reports.after_evaluation(Path(config.out), run.folder)


def _evaluate(
    config: DictConfig, metrics: list[str], queue: WorkQueue, run: Run
) -> tuple[Dataset, list[Results | None]]:
    """Evaluate the share of this process."""
    data = _split(config, run)
    n = len(data) if config.n is None else config.n
    if n > len(data):
        raise ValueError(f"n={n}: the {config.split} split has {len(data)} images")
    batches = plan(len(data), n, seed=config.seed, batch_size=config.batch_size)
    found = [
        MetricEvaluation(config=config, run=run, data=data, name=name, batches=batches, queue=queue).results()
        for name in metrics
    ]
    return data, found


def _metrics(config: DictConfig) -> tuple[list[str], dict[str, SampleMetric], dict[str, PosteriorMetric]]:
    """Return the names of the metrics of the density, and the metrics of samples and of posteriors by name."""
    known, metrics = sorted(config.metric), as_list(config.metrics)
    if not metrics:
        raise ValueError(f"metrics=[] names no metric; there are {', '.join(known)}")
    for name in metrics:
        if name not in known:
            raise ValueError(f"metric {name!r} is unknown; {suggest(name, known)}")
    metrics = list(dict.fromkeys(metrics))
    targets = {name: get_object(config.metric[name]._target_) for name in metrics}
    samples = {name: instantiate.make(config.metric[name]) for name in metrics if targets[name].of_samples}
    posteriors = {
        name: instantiate.make(config.metric[name]) for name in metrics if targets[name].of_posteriors
    }
    densities = [name for name in metrics if name not in {*samples, *posteriors}]
    chosen = HydraConfig.get().runtime.choices["dequantization"]
    if chosen != "uniform":
        ignoring = [*samples, *posteriors]
        ignoring += [
            name for name in densities if not instantiate.make(config.metric[name]).uses_dequantization
        ]
        if ignoring:
            raise ValueError(
                f"dequantization={chosen} has no effect because {', '.join(ignoring)} does not use it; "
                "for bits/dim take metrics=[importance]"
            )
    return densities, samples, posteriors


def _split(config: DictConfig, run: Run) -> Dataset:
    if config.split not in ("train", "test"):
        raise ValueError(f"split={config.split} is unknown; there are train and test")
    splits = open_data(run, moved_data(config))
    return splits.test if config.split == "test" else splits.train


def _save(config: DictConfig, run: Run, evaluated: Results, data: Dataset) -> None:
    """Save the results as JSON, atomically."""
    result, path = _budget(evaluated), Path(config.out) / f"{evaluated.name}.json"
    report = {
        "metric": evaluated.name,
        "what": evaluated.metric.what,
        "unit": evaluated.metric.unit,
        "mean": result.total.mean,
        "standard_error": _number(result.total.se),
        "images": result.total.n,
        "of_images": len(data),
        "spread": {part: _number(error) for part, error in result.random_errors.items()},
        "offset": {
            part: {"mean": _number(about.mean), "standard_error": _number(about.se), "images": about.n}
            for part, about in result.biases.items()
        },
        "not_known_to_be_small": sorted(result.significant_biases()),
        "classes": {
            label: {**_name(data, label), "mean": mean, "standard_error": _number(se), "images": n}
            for label, (mean, se, n) in _classes(evaluated).items()
        },
        "network_evaluations_per_image": evaluated.nfe,
        "seconds": evaluated.seconds,
        "trained_on_images": run.images,
        "data_of_the_training": _trained_on(config, run, evaluated),
        "command": reports.command_line("evaluate"),
        "settings": evaluated.settings,
        "image": evaluated.images,
        "per_image": evaluated.values.value.tolist(),
    }
    atomic.write(path, json.dumps(report, indent=1, allow_nan=False))


def _budget(evaluated: Results) -> ErrorBudget:
    return budget(evaluated.values.value, evaluated.values.random_errors, evaluated.values.biases)


def _classes(evaluated: Results) -> dict[int, MeanEstimate]:
    """Return the mean of every class, where the data have classes."""
    if evaluated.labels is None:
        return {}
    labels = sorted(set(evaluated.labels.tolist()))
    return {label: estimate(evaluated.values.value[evaluated.labels == label]) for label in labels}


def _name(data: Dataset, label: int) -> dict[str, str]:
    """Return the name of a class, where it has one."""
    return {"name": data.class_names[label]} if data.class_names else {}


def _trained_on(config: DictConfig, run: Run, evaluated: Results) -> bool | None:
    """Return whether the split is that of the training; None where the checkpoint holds no fingerprint."""
    known = run.data.fingerprint.get(config.split)
    return None if known is None else bool(known == evaluated.settings["data"])


def _show(config: DictConfig, run: Run, results: list[Results], data: Dataset, threads_used: str) -> None:
    """Print the metrics, each with the components of its error."""
    images, of_images = len(results[0].images), len(data)
    which = f"all {images:,}" if images == of_images else f"{images:,} of {of_images:,}, drawn by seed"
    rows: dict[str, str] = {}
    for evaluated in results:
        result = _budget(evaluated)
        rows |= {
            f"{evaluated.name}: {evaluated.metric.what}": _of_images(result.total, evaluated.metric.unit),
            **_parts(result, evaluated.metric.unit),
            **{
                " ".join([f"  class {label}", *map("({})".format, _name(data, label).values())]): _of_images(
                    about, evaluated.metric.unit
                )
                for label, about in _classes(evaluated).items()
            },
            "  evaluations of the network per image; time": f"{evaluated.nfe:g}; {evaluated.seconds:.1f} s",
        }
        if len(results) > 1:
            rows[" " * len(rows)] = ""
    console.print_table(
        f"evaluation of {run.folder}",
        {
            **rows,
            "images of the " + config.split + " split": f"{which}; +- is the standard error over them",
            "that split": SAME[_trained_on(config, run, results[0])],
            **({"threads": threads_used} if run.device.type == "cpu" else {}),
            "trained on": f"{run.images:,} images",
        },
        {f"values of {metric.name}": Path(config.out) / f"{metric.name}.json" for metric in results},
    )
    for evaluated in results:
        coupled = coupling(f"the integrator of {evaluated.name}", images, config.batch_size)
        if evaluated.metric.batch_coupled and coupled:
            console.console.print(f"- {coupled}", soft_wrap=True)


def _show_quality(config: DictConfig, run: Run, results: list[QualityResults], threads_used: str) -> None:
    """Save and print metrics of samples."""
    out, first = Path(config.out), results[0]
    paths = {f"numbers of {found.name}": quality_report.write(out, run, found) for found in results}
    rows: dict[str, str] = {}
    for found in results:
        rows |= quality_report.rows(found)
    sampler = config.sampler
    drawn = (
        "codes, one after the other"
        if run.of_codes
        else f"{sampler.solver._target_.rpartition('.')[2]}, {sampler.steps} steps on "
        f"{sampler.grid._target_.rpartition('.')[2]}"
    )
    console.print_table(
        f"samples of {run.folder}",
        {
            **rows,
            "sampler": drawn,
            **({"conditions": first.conditions} if first.conditions else {}),
            "network evaluations per sample": f"{first.nfe:g}",
            "seconds of sampling": f"{first.seconds:.1f}",
            "reference": str(config.reference),
            **({"threads": threads_used} if run.device.type == "cpu" else {}),
            "trained on": f"{run.images:,} images",
        },
        paths,
    )
    reports.after_evaluation(out, run.folder)


SAME = {
    True: "as it was in training",
    False: "WARNING: not as it was in training",
    None: "unknown whether as in training",
}


def _parts(result: ErrorBudget, unit: str) -> dict[str, str]:
    """Return the components of the error as lines of the table."""
    spread = {
        f"  of that +-, by {part}": "not known" if math.isnan(error) else f"{error:.4f} {unit}"
        for part, error in result.random_errors.items()
    }
    doubts = result.significant_biases()
    offset = {
        f"  error of the {part}": (_of_images(about, unit, "+") if about.n else UNKNOWN)
        + (
            f"; WARNING: not small beside {result.total.se:.4f}, take a finer one"
            if part in doubts and about.n > 1
            else ""
        )
        for part, about in result.biases.items()
    }
    return {**spread, **offset}


UNKNOWN = "not estimated: none of these images was diagnosed"


def _of_images(about: MeanEstimate, unit: str, sign: str = "") -> str:
    if about.n == 1:
        return f"{about.mean:{sign}.4f} {unit} (one image)"
    return f"{about.mean:{sign}.4f} +- {about.se:.4f} {unit} ({about.n} images)"


def _number(x: float) -> float | None:
    """Return the number, None for NaN, which JSON does not have."""
    return x if math.isfinite(x) else None


main = Command(name="evaluate", function=evaluate)
