"""Evaluate a run on held-out data: ``python -m sde_gen.evaluate run=runs/... metrics=[bpd]``."""

import json
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
from sde_gen.metric import Metric
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
    per_image: list[float] = []
    with show.progress() as bar, NFECounter(run.denoiser.net) as counter:
        task = bar.add_task(name, total=len(values), note="")
        begin = time.perf_counter()
        for start in range(0, len(values), config.batch_size):
            batch = slice(start, start + config.batch_size)
            denoiser = run.conditioned(None if labels is None else labels[batch])
            with precision.context(run.device):
                result = metric(denoiser, values[batch].to(run.device), run.codec, seeds[batch])
            if not bool(torch.isfinite(result).all()):
                rows = (start + (~torch.isfinite(result)).nonzero().flatten()).tolist()
                raise FloatingPointError(
                    f"{name} is not finite for images {rows[:8]} of the {config.split} split; "
                    "try a smaller tolerance of the integrator, or precision=float32"
                )
            per_image += result.tolist()
            mean, se = _mean(per_image)
            bar.update(task, completed=len(per_image), note=f"{mean:.4f} +- {se:.4f} {metric.unit}")
        seconds = time.perf_counter() - begin
    _save(config, run, name, metric, precision, per_image, counter.samples / len(values), seconds)


def _mean(values: list[float]) -> tuple[float, float]:
    """Mean and standard error over images."""
    x = torch.tensor(values, dtype=torch.float64)
    return float(x.mean()), float(x.std() / len(x) ** 0.5) if len(x) > 1 else float("nan")


def _save(
    config: DictConfig,
    run: Run,
    name: str,
    metric: Metric,
    precision: Precision,
    per_image: list[float],
    nfe: float,
    seconds: float,
) -> None:
    mean, se = _mean(per_image)
    path = Path(config.out) / f"{name}.json"
    report = {
        "metric": name,
        "what": metric.what,
        "unit": metric.unit,
        "mean": mean,
        "standard_error": se if len(per_image) > 1 else None,  # JSON has no NaN
        "images": len(per_image),
        "split": config.split,
        "network_evaluations_per_image": nfe,
        "seconds": seconds,
        "trained_on_images": run.images,
        "precision": str(precision.dtype(run.device)),
        "settings": OmegaConf.to_container(config.metric[name], resolve=True),
        "seed": config.seed,
        "sde_gen": __version__,
        "torch": torch.__version__,
        "per_image": per_image,
    }
    path.write_text(json.dumps(report, indent=1))
    show.table(
        f"{name} of {run.folder}",
        {
            metric.what: f"{mean:.4f} +- {se:.4f} {metric.unit} (standard error over {len(per_image)} images)",
            "network evaluations per image": f"{nfe:g}",
            "seconds": f"{seconds:.1f}",
            "trained on": f"{run.images:,} images",
            "every image's value": str(path),
        },
    )


if __name__ == "__main__":
    main()
