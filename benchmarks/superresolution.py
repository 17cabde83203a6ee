"""Measure a model that was trained on low resolutions as conditions beside posterior sampling without training.

    python benchmarks/superresolution.py RUN [--prior pretrained/digits-vp] [--steps 9] [--prior-steps 49]

All held-out images of RUN, trained with conditioning=superres, are reduced to means of blocks and restored: by RUN
given the enlarged means, and by the unconditional model with DiffPIR (Zhu et al., 2023, arXiv:2305.08995). Per method:
the peak signal-to-noise ratio of a sample, and of the mean of all samples of an image, in dB with standard errors over
images; and the Frechet distance of the samples to the training images in features of the shipped classifier, the mean
of all draws of as many samples as there are held-out images, with the jackknife's standard error of one. Null: bicubic
enlargement. Ceiling: the held-out images themselves. Prints a table, writes JSON and a picture.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks import machine
from sde_gen.cli import console, pretrained
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.evaluation.features import Classifier, FeatureSet, extract
from sde_gen.evaluation.metric import FrechetDistance
from sde_gen.grid import LogSNR
from sde_gen.inverse import DiffPIR
from sde_gen.inverse.method import DenoiserMethod
from sde_gen.inverse.operator import AveragePool
from sde_gen.inverse.task import psnr
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import Ancestral
from sde_gen.solver.callbacks import NFECounter
from sde_gen.utils.images import save_rows

COLUMNS, NOISE_STD = 12, 0.01


def opened(name: str) -> Run:
    """A run on the CPU, or a pretrained one by its name."""
    folder = (
        pretrained.folder(name.removeprefix(pretrained.PREFIX))
        if name.startswith(pretrained.PREFIX)
        else name
    )
    return load_run(OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"}))


def restored(run: Run, data: Any, steps: int, seed: int) -> tuple[Tensor, float]:
    """One sample of every image by the conditional model, and the evaluations of one."""
    cond = run.conditioning.given(data.conditions)
    sampler = Sampler(steps=steps)
    noise = PerSample(spawn_seeds(seed, len(data)))
    with NFECounter(run.denoiser.net) as counter, torch.no_grad():
        x = sampler(run.bind(cond), (len(data), *data.shape), noise=noise)
    return x, counter.samples / len(data)


def solved(run: Run, factor: int, x0: Tensor, steps: int, seed: int) -> tuple[Tensor, float]:
    """One sample of every image by DiffPIR with the unconditional model, and the evaluations of one."""
    operator = AveragePool(factor=factor)
    method = DenoiserMethod(guidance=partial(DiffPIR, noise_std=NOISE_STD))
    sampler = Sampler(solver=Ancestral(), grid=LogSNR(), steps=steps)
    denoiser, make = method(run.denoiser, sampler, operator, operator(x0))
    with NFECounter(run.denoiser.net) as counter:
        x = make(denoiser, x0.shape, noise=PerSample(spawn_seeds(seed, len(x0))))
    return x, counter.samples / len(x0)


def judged(
    method: str,
    draws: list[Tensor],
    nfe: float,
    seconds: float,
    truth: Tensor,
    reference: FeatureSet,
    weights: str,
) -> dict[str, Any]:
    """PSNR and Frechet distance of draws of 8-bit images, with standard errors."""
    features = Classifier(weights=weights)
    metric = FrechetDistance(features=features)
    found = [metric.compare(extract(features, images, what=method), reference) for images in draws]
    each = torch.stack([psnr(images, truth) for images in draws]).mean(0)
    mean = psnr(torch.stack(draws).double().mean(0), truth)
    root = len(truth) ** 0.5
    return {
        "method": method,
        "nfe": nfe,
        "seconds_an_image": seconds,
        "psnr": float(each.mean()),
        "psnr_se": float(each.std()) / root,
        "psnr_of_mean": float(mean.mean()),
        "psnr_of_mean_se": float(mean.std()) / root,
        "fd": sum(one.value for one in found) / len(found),
        "fd_se": found[0].se,
    }


def main() -> None:
    """Restore all held-out images by every method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--prior", default="pretrained/digits-vp")
    parser.add_argument("--steps", type=machine.count, default=9)
    parser.add_argument("--prior-steps", type=machine.count, default=49)
    parser.add_argument("--draws", type=machine.count, default=4)
    parser.add_argument("--images", type=machine.count, default=None)
    parser.add_argument("--features", default="digits")
    parser.add_argument("--name", default="digits_x2")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run, prior = opened(args.run), opened(args.prior)
    splits = open_data(run)
    data = run.conditioning.prepare(splits.test)
    count = args.images or len(data)
    data = type(data)(values=data.values[:count], levels=data.levels, conditions=data.given(range(count)))
    factor = run.conditioning.factor
    x0 = run.codec.encode(data.values)
    show = run.codec.decode_image
    truth, low = show(x0), AveragePool(factor=factor)(x0)
    features = Classifier(weights=args.features)
    reference = extract(features, show(run.codec.encode(splits.train.values)), what="training images")
    bicubic = show(torch.nn.functional.interpolate(low, scale_factor=factor, mode="bicubic"))
    rows = [judged("null: bicubic", [bicubic], 0, 0.0, truth, reference, args.features)]
    pictures = [truth, show(low.repeat_interleave(factor, 2).repeat_interleave(factor, 3)), bicubic]
    for method, draw in (
        ("DiffPIR, unconditional model", partial(solved, prior, factor, x0, args.prior_steps)),
        ("conditional model", partial(restored, run, data, args.steps)),
    ):
        begin = time.perf_counter()
        found = [draw(seed) for seed in range(args.draws)]
        seconds = (time.perf_counter() - begin) / (args.draws * count)
        draws = [show(x) for x, _ in found]
        rows.append(judged(method, draws, found[0][1], seconds, truth, reference, args.features))
        pictures += draws[:2]
    ceiling = judged("ceiling: held-out images", [truth], 0, 0.0, truth, reference, args.features)
    rows.append({key: None if key.startswith("psnr") else value for key, value in ceiling.items()})
    console.print_summary(
        f"super-resolution x{factor} of {count} held-out images, {args.draws} draws",
        ["method", "evaluations", "PSNR of a sample", "of their mean", "FD to the training images"],
        [
            [
                row["method"],
                f"{row['nfe']:g}",
                *(
                    "" if row[key] is None else f"{row[key]:.2f} +- {row[key + '_se']:.2f}"
                    for key in ("psnr", "psnr_of_mean", "fd")
                ),
            ]
            for row in rows
        ],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"superresolution_{args.name}.json"
    settings = {
        "factor": factor,
        "images": count,
        "draws": args.draws,
        "prior": args.prior,
        "features": args.features,
        "trained_on": run.images,
        "prior_trained_on": prior.images,
    }
    path.write_text(
        json.dumps({**machine.about(torch.device("cpu")), **settings, "rows": rows}, indent=1) + "\n"
    )
    save_rows([part[:COLUMNS] for part in pictures], path.with_suffix(".png"))
    print(path)


if __name__ == "__main__":
    main()
