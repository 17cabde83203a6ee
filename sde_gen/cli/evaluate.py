"""Evaluate a run on held-out data: ``python -m sde_gen.evaluate run=runs/... metrics=[bpd]``."""

import json
import math
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import console, threads
from sde_gen.cli.app import as_list, door
from sde_gen.cli.evaluation import Evaluation, Results, plan
from sde_gen.cli.generation import coupling
from sde_gen.cli.overrides import suggest
from sde_gen.cli.run import Run, load_run, moved_data, open_data
from sde_gen.data import Dataset
from sde_gen.distributed.work_queue import PeerFailed, WorkQueue
from sde_gen.likelihood import ErrorBudget, MeanEstimate, budget, estimate
from sde_gen.utils import atomic


@door("evaluate")
def main(config: DictConfig) -> None:
    """Compute every metric asked for, and leave the value of every image."""
    metrics = _metrics(config)
    crew = WorkQueue.init()
    try:
        with crew.propagate_failure():
            run = load_run(config)
            with threads.in_use(config, run) as said:
                data, found = _evaluate(config, metrics, crew, run)
    except PeerFailed:
        raise SystemExit(2) from None  # the process that failed has said why
    results = [one for one in found if one is not None]
    if results:
        for one in results:
            _save(config, run, one, data)
        _show(config, run, results, data, said)


def _evaluate(
    config: DictConfig, metrics: list[str], crew: WorkQueue, run: Run
) -> tuple[Dataset, list[Results | None]]:
    """What this process does of the work."""
    data = _split(config, run)
    n = len(data) if config.n is None else config.n
    if n > len(data):
        raise ValueError(f"n={n}: the {config.split} split has {len(data)} images")
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    batches = plan(len(data), n, seed=config.seed, batch_size=config.batch_size)
    found = [
        Evaluation(config=config, run=run, data=data, name=name, batches=batches, crew=crew).results()
        for name in metrics
    ]
    return data, found


def _metrics(config: DictConfig) -> list[str]:
    known, metrics = sorted(config.metric), as_list(config.metrics)
    if not metrics:
        raise ValueError(f"metrics=[] asks for nothing; there are {', '.join(known)}")
    for name in metrics:
        if name not in known:
            raise ValueError(f"metric {name!r} is unknown; {suggest(name, known)}")
    chosen = HydraConfig.get().runtime.choices["dequantization"]
    deaf = [name for name in metrics if "dequantization" not in OmegaConf.to_yaml(config.metric[name])]
    if chosen != "uniform" and deaf:
        raise ValueError(
            f"dequantization={chosen} means nothing to {', '.join(deaf)}; for bits/dim take metrics=[importance]"
        )
    return list(dict.fromkeys(metrics))


def _split(config: DictConfig, run: Run) -> Dataset:
    if config.split not in ("train", "test"):
        raise ValueError(f"split={config.split} is unknown; there are train and test")
    splits = open_data(run, moved_data(config))
    return splits.test if config.split == "test" else splits.train


def _save(config: DictConfig, run: Run, one: Results, data: Dataset) -> None:
    """Leave a JSON, whole or not at all."""
    result, path = _budget(one), Path(config.out) / f"{one.name}.json"
    report = {
        "metric": one.name,
        "what": one.metric.what,
        "unit": one.metric.unit,
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
            for label, (mean, se, n) in _classes(one).items()
        },
        "network_evaluations_per_image": one.nfe,
        "seconds": one.seconds,
        "trained_on_images": run.images,
        "data_of_the_training": _trained_on(config, run, one),
        "settings": one.settings,
        "image": one.images,
        "per_image": one.found.value.tolist(),
    }
    atomic.write(path, json.dumps(report, indent=1, allow_nan=False))


def _budget(one: Results) -> ErrorBudget:
    return budget(one.found.value, one.found.random_errors, one.found.biases)


def _classes(one: Results) -> dict[int, MeanEstimate]:
    """The mean of every class, where the data have classes."""
    if one.labels is None:
        return {}
    labels = sorted(set(one.labels.tolist()))
    return {label: estimate(one.found.value[one.labels == label]) for label in labels}


def _name(data: Dataset, label: int) -> dict[str, str]:
    """The name of a class, where it has one."""
    return {"name": data.class_names[label]} if data.class_names else {}


def _trained_on(config: DictConfig, run: Run, one: Results) -> bool | None:
    """Whether the split is that of the training; None where the checkpoint does not say."""
    known = run.data.fingerprint.get(config.split)
    return None if known is None else bool(known == one.settings["data"])


def _show(config: DictConfig, run: Run, results: list[Results], data: Dataset, said: str) -> None:
    """The metrics side by side, each with what it bounds and the parts of its error."""
    images, of_images = len(results[0].images), len(data)
    which = f"all {images:,}" if images == of_images else f"{images:,} of {of_images:,}, drawn by seed"
    rows: dict[str, str] = {}
    for one in results:
        result = _budget(one)
        rows |= {
            f"{one.name}: {one.metric.what}": _of_images(result.total, one.metric.unit),
            **_parts(result, one.metric.unit),
            **{
                " ".join([f"  class {label}", *map("({})".format, _name(data, label).values())]): _of_images(
                    about, one.metric.unit
                )
                for label, about in _classes(one).items()
            },
            "  evaluations of the network per image; time": f"{one.nfe:g}; {one.seconds:.1f} s",
        }
        if len(results) > 1:
            rows[" " * len(rows)] = ""
    console.print_table(
        f"evaluation of {run.folder}",
        {
            **rows,
            "images of the " + config.split + " split": f"{which}; +- is the standard error over them",
            "that split": SAME[_trained_on(config, run, results[0])],
            **({"threads": said} if run.device.type == "cpu" else {}),
            "trained on": f"{run.images:,} images",
            "every image's value": f"{config.out}/*.json",
        },
    )
    for one in results:
        coupled = coupling(f"the integrator of {one.name}", images, config.batch_size)
        if one.metric.batch_coupled and coupled:
            console.console.print(f"- {coupled}", soft_wrap=True)


SAME = {
    True: "as it was in training",
    False: "WARNING: not as it was in training",
    None: "not known whether as in training",
}


def _parts(result: ErrorBudget, unit: str) -> dict[str, str]:
    """The parts of the error, for people."""
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


UNKNOWN = "not known: none of these images was looked at closer"


def _of_images(about: MeanEstimate, unit: str, sign: str = "") -> str:
    if about.n == 1:
        return f"{about.mean:{sign}.4f} {unit} (one image)"
    return f"{about.mean:{sign}.4f} +- {about.se:.4f} {unit} ({about.n} images)"


def _number(x: float) -> float | None:
    """JSON has no NaN."""
    return x if math.isfinite(x) else None
