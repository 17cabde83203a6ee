"""Measure how well inverse problems are solved with a trained network, beside simple baselines.

    python benchmarks/inverse_psnr.py RUN [--images 16] [--samples 2] [--steps 50] [--methods ...] [--out FOLDER]

Held-out images of RUN are measured with noise of standard deviation 0.01: without a box in the middle, as means of
blocks of 4 and 2 pixels, and, in color, as gray images. Per method: the peak signal-to-noise ratio of one sample and
of the mean of all samples of an image, with standard errors over images. Baselines: the mean of 2,000 training images
in the hidden box, bicubic enlargement, gray in every channel. Prints tables, writes JSON and a picture per problem with
a column per image: the image, the measurement, the baseline, and one sample of every method.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import console
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.grid import LogSNR
from sde_gen.inverse import DPS, MMPS, DiffPIR, PiGDM
from sde_gen.inverse.method import DenoiserMethod, Method, SolverMethod
from sde_gen.inverse.operator import AveragePool, Gray, Mask, Operator
from sde_gen.inverse.projection import Projection
from sde_gen.inverse.repaint import RePaint
from sde_gen.inverse.task import psnr
from sde_gen.noise import IID, PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import Ancestral
from sde_gen.solver.callbacks import NFECounter
from sde_gen.utils.images import save_rows

NOISE_STD, COLUMNS = 0.01, 8

METHODS: dict[str, Method] = {
    "diffpir": DenoiserMethod(guidance=partial(DiffPIR, noise_std=NOISE_STD)),
    "projection": SolverMethod(solver=Projection),
    "repaint x5": SolverMethod(solver=partial(RePaint, repeats=5)),
    "pigdm": DenoiserMethod(guidance=partial(PiGDM, noise_std=NOISE_STD)),
    "dps gamma=1": DenoiserMethod(guidance=partial(DPS, noise_std=NOISE_STD, gamma=1.0)),
    "mmps, 3 products": DenoiserMethod(guidance=partial(MMPS, noise_std=NOISE_STD, steps=3)),
}
Baseline = Callable[[Tensor], Tensor]
"""From measurements to images, in model space."""


def problems(run: Run, mean: Tensor) -> dict[str, tuple[Operator, str, Baseline]]:
    """Operator, name of the baseline, and the baseline."""
    channels, height, width = run.data_spec.shape
    known = torch.ones(height, width, dtype=torch.bool)
    known[height * 2 // 7 : height * 5 // 7, width * 2 // 7 : width * 5 // 7] = False
    enlarge = partial(torch.nn.functional.interpolate, size=(height, width), mode="bicubic")
    found: dict[str, tuple[Operator, str, Baseline]] = {
        "inpainting a box": (Mask(mask=known), "mean fill", lambda y: torch.where(known, y, mean)),
        "super-resolution x4": (AveragePool(factor=4), "bicubic", enlarge),
        "super-resolution x2": (AveragePool(factor=2), "bicubic", enlarge),
    }
    if channels == 3:
        found["colorization"] = (Gray(), "gray", lambda y: y.expand(-1, 3, -1, -1))
    return found


def solve(run: Run, method: Method, operator: Operator, y: Tensor, samples: int, steps: int) -> Tensor:
    """Samples with shape (images, samples, *event)."""
    sampler = Sampler(solver=Ancestral(), grid=LogSNR(), steps=steps)
    denoiser, method_sampler = method(run.denoiser, sampler, operator, y.repeat_interleave(samples, 0))
    count = len(y) * samples
    x = method_sampler(denoiser, (count, *run.data_spec.shape), noise=PerSample(spawn_seeds(0, count)))
    return x.unflatten(0, (len(y), samples))


def judge(run: Run, x: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR of a sample and of the mean of an image's samples, in dB, with standard errors over images."""
    images = torch.stack([run.codec.decode_image(one) for one in x.unbind(1)], 1)
    each = torch.stack([psnr(one, truth) for one in images.unbind(1)], 1).mean(1)
    mean = psnr(images.double().mean(1), truth)
    error = len(each) ** -0.5
    return {
        "sample": float(each.mean()),
        "sample_se": float(each.std()) * error,
        "mean": float(mean.mean()),
        "mean_se": float(mean.std()) * error,
    }


def main() -> None:
    """Solve every problem by every method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--problems", nargs="+", default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": str(args.run), "checkpoint": None, "trust": [], "device": "cpu"}))
    data = open_data(run)
    x0 = run.codec.encode(data.test.values[: args.images])
    truth = run.codec.decode_image(x0)
    known = problems(run, run.codec.encode(data.train.values[:2000]).mean(0))
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for title in args.problems or list(known):
        operator, name, baseline = known[title]
        y = operator.noised(x0, NOISE_STD, IID.seeded(0))
        plain = baseline(y)
        blank = torch.zeros_like(x0)
        shown = [x0, y if y.shape == x0.shape else operator.project(blank, y), plain]
        found = [{"method": name, "nfe": 0, "seconds": 0.0, **judge(run, plain.unsqueeze(1), truth)}]
        for label in args.methods:
            begin = time.perf_counter()
            with NFECounter(run.denoiser.net) as counter:
                x = solve(run, METHODS[label], operator, y, args.samples, args.steps)
            seconds = (time.perf_counter() - begin) / (len(x0) * args.samples)
            found.append({"method": label, "nfe": counter.calls, "seconds": seconds, **judge(run, x, truth)})
            shown.append(x[:, 0])
        console.print_summary(
            f"{title}: PSNR in dB over {args.images} held-out images of {run.folder.name}",
            ["method", "NFE", "of a sample", f"of the mean of {args.samples}", "seconds a sample"],
            [
                [
                    str(r["method"]),
                    f"{r['nfe']}",
                    *(f"{r[key]:.2f} +- {r[key + '_se']:.2f}" for key in ("sample", "mean")),
                    f"{r['seconds']:.2f}",
                ]
                for r in found
            ],
        )
        rows += [{"problem": title, **r} for r in found]
        place = args.out / f"inverse_{run.folder.name}_{title.replace(' ', '_')}.png"
        save_rows([run.codec.decode_image(part[:COLUMNS]) for part in shown], place)
        print(place)
    about = {"machine": platform.machine(), "threads": torch.get_num_threads(), "trained_on": run.images}
    settings = {"images": args.images, "samples": args.samples, "steps": args.steps, "noise_std": NOISE_STD}
    path = args.out / f"inverse_psnr_{run.folder.name}.json"
    path.write_text(json.dumps({**about, "versions": package_versions(), **settings, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
