"""Evaluate a run on held-out data: ``python -m sde_gen.evaluate run=runs/... metrics=[bpd]``."""

import json
import math
import time
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sde_gen import __version__, show
from sde_gen.door import check_counts, door, nearest, several
from sde_gen.engine.precision import Precision
from sde_gen.hooks import NFECounter
from sde_gen.likelihood import Budget, budget, estimate
from sde_gen.metric import Measured, Metric
from sde_gen.noise import sample_seeds
from sde_gen.run import Run, open_data, open_run


@door("evaluate")
def main(config: DictConfig) -> None:
    """Compute every metric asked for, and leave a JSON with the value of every image."""
    known, metrics = sorted(config.metric), several(config.metrics)
    if not metrics:
        raise ValueError(f"metrics=[] asks for nothing; there are {', '.join(known)}")
    for name in metrics:
        if name not in known:
            raise ValueError(f"metric {name!r} is unknown; {nearest(name, known)}")
    chosen = HydraConfig.get().runtime.choices["dequantisation"]
    deaf = [name for name in metrics if "dequantisation" not in OmegaConf.to_yaml(config.metric[name])]
    if chosen != "uniform" and deaf:
        raise ValueError(
            f"dequantisation={chosen} means nothing to {', '.join(deaf)}; for bits/dim take metrics=[importance]"
        )
    check_counts(config, "batch_size", *([] if config.n is None else ["n"]))
    check_counts(config, "seed", least=0)
    run = open_run(config)
    Path(config.out).mkdir(parents=True, exist_ok=True)  # better now than after the work
    splits = open_data(run)
    if config.split not in ("train", "test"):
        raise ValueError(f"split={config.split} is unknown; there are train and test")
    data = splits.test if config.split == "test" else splits.train
    n = len(data) if config.n is None else config.n
    if n > len(data):
        raise ValueError(f"n={n}: the {config.split} split has {len(data)} images")
    for name in metrics:
        _evaluate(config, run, name, data.values[:n], None if data.labels is None else data.labels[:n])


def _evaluate(
    config: DictConfig, run: Run, name: str, values: torch.Tensor, labels: torch.Tensor | None
) -> None:
    metric: Metric = instantiate(config.metric[name])
    precision: Precision = instantiate(config.precision)
    seeds = sample_seeds(config.seed, len(values))
    found: list[Measured] = []
    with show.progress() as bar, NFECounter(run.denoiser.net) as counter:
        task = bar.add_task(name, total=len(values), note="")
        begin = time.perf_counter()
        for start in range(0, len(values), config.batch_size):
            batch = slice(start, start + config.batch_size)
            denoiser = run.conditioned(None if labels is None else labels[batch])
            with precision.context(run.device):
                result = metric(denoiser, values[batch].to(run.device), run.codec, seeds[batch])
            if not bool(torch.isfinite(result.value).all()):
                rows = (start + (~torch.isfinite(result.value)).nonzero().flatten()).tolist()
                raise FloatingPointError(
                    f"{name} is not finite for images {rows[:8]} of the {config.split} split; "
                    "try a smaller tolerance of the integrator, or precision=float32"
                )
            found.append(result)
            mean, se, done = estimate(Measured.join(found).value)
            bar.update(task, completed=done, note=f"{mean:.4f} +- {se:.4f} {metric.unit}")
        seconds = time.perf_counter() - begin
    _save(config, run, name, metric, precision, Measured.join(found), counter.samples / len(values), seconds)


def _save(
    config: DictConfig,
    run: Run,
    name: str,
    metric: Metric,
    precision: Precision,
    found: Measured,
    nfe: float,
    seconds: float,
) -> None:
    result = budget(found.value, found.spread, found.offset)
    mean, se, images = result.total
    path = Path(config.out) / f"{name}.json"
    report = {
        "metric": name,
        "what": metric.what,
        "unit": metric.unit,
        "mean": mean,
        "standard_error": _number(se),
        "images": images,
        "split": config.split,
        "network_evaluations_per_image": nfe,
        "seconds": seconds,
        "trained_on_images": run.images,
        "precision": str(precision.dtype(run.device)),
        "settings": OmegaConf.to_container(config.metric[name], resolve=True),
        "seed": config.seed,
        "sde_gen": __version__,
        "torch": torch.__version__,
        "spread": {part: _number(error) for part, error in result.spread.items()},
        "offset": {
            part: {"mean": _number(one.mean), "standard_error": _number(one.se), "images": one.n}
            for part, one in result.offset.items()
        },
        "per_image": found.value.tolist(),
        "per_image_spread": {part: list(map(_number, x.tolist())) for part, x in found.spread.items()},
        "per_image_offset": {part: list(map(_number, x.tolist())) for part, x in found.offset.items()},
    }
    path.write_text(json.dumps(report, indent=1, allow_nan=False))
    show.table(
        f"{name} of {run.folder}",
        {
            metric.what: f"{mean:.4f} +- {se:.4f} {metric.unit} (standard error over {images} images)",
            **_parts(result, metric.unit),
            "network evaluations per image": f"{nfe:g}",
            "seconds": f"{seconds:.1f}",
            "trained on": f"{run.images:,} images",
            "every image's value": str(path),
        },
    )


def _parts(result: Budget, unit: str) -> dict[str, str]:
    """The parts of the error, for people."""
    spread = {
        f"+- of which by {part}": "not known (a second draw tells)"
        if math.isnan(error)
        else f"{error:.4f} {unit}"
        for part, error in result.spread.items()
    }
    doubts = result.doubts()
    offset = {
        f"error of the {part}": (
            f"{one.mean:+.4f} +- {one.se:.4f} {unit} (on {one.n} images)" if one.n else "not looked at"
        )
        + (f"; WARNING: not small beside {result.total.se:.4f}" if part in doubts else "")
        for part, one in result.offset.items()
    }
    return {**spread, **offset}


def _number(x: float) -> float | None:
    """JSON has no NaN."""
    return x if math.isfinite(x) else None


if __name__ == "__main__":
    main()
