"""Output of the command ``sample``: numbers, pictures, the trajectory, and the printed table."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.cli import console, reports
from sde_gen.cli.generation import GeneratedSamples
from sde_gen.cli.run import Run
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import Denoiser
from sde_gen.inverse.task import Task, psnr
from sde_gen.utils.atomic import write, writing
from sde_gen.utils.images import attempt, save_folder, save_gif, save_panels, save_rows, save_samples

MAX_RESULTS_SHOWN = 8
"""Largest number of results of a task in its picture."""

MAX_FRAME_ROWS = 4
"""Largest number of samples whose intermediate states are shown."""

NOT_IN_ABOUT = {"data", "grid", "n", "out", "parts", "seed", "solver", "steps", "trust"}
"""Options that samples.json holds elsewhere, or that say where something lies."""

OF_TASKS = {"factor", "method", "noise_std"}
"""Options that have no effect without a task."""


@dataclass(frozen=True, kw_only=True)
class SampleOutput:
    """Samples, and what their pictures need.

    Arguments:
        config: the configuration of the command ``sample``.
        run: the run.
        task: the task that the samples solve; None for plain samples.
        model: the run's denoiser with its guidance.
        cond: conditioning inputs of every sample.
        generated: the samples.
    """

    config: DictConfig
    run: Run
    task: Task | None
    model: Denoiser
    cond: dict[str, Tensor]
    generated: GeneratedSamples

    @cached_property
    def folder(self) -> Path:
        """Folder of all files."""
        return Path(self.config.out)

    def write(self, details: dict[str, str]) -> None:
        """Write the numbers, then the pictures, and print a table with further rows ``details``."""
        config, run, generated = self.config, self.run, self.generated
        numbers, table = self._save_numbers(), {**self._save_table(), **self._save_networks()}
        folders = {"images": self.folder / "images"} if config.format == "png" else {}
        for folder in folders.values():
            save_folder(run.codec.decode_image(generated.x), folder)
        quality = self._psnr()
        self._save_about({**details, **quality})
        console.print_table(
            f"samples of {run.folder}",
            {
                "images": f"{config.n}",
                **details,
                "network evaluations per image": f"{generated.nfe:g}",
                "seconds": f"{generated.seconds:.2f}",
                "images/s": f"{config.n / generated.seconds:.2f}",
                "trained on": f"{run.images:,} images",
                **quality,
            },
            {"numbers": numbers, **table, **folders, **self._save_pictures()},
        )
        reports.after_samples(self.folder, run.folder)

    def _save_numbers(self) -> Path:
        """Save the samples in model space and in the space of the data."""
        x, path = self.generated.x, self.folder / "samples.npz"
        arrays: dict[str, Any] = {"model_space": x.numpy(), "data": self.run.codec.decode(x).numpy()}
        if self.task is not None:
            arrays["given"] = torch.cat([image.cpu() for image in self.task.inputs]).numpy()
        with writing(path) as file:
            np.savez_compressed(file, **arrays)
        return path

    def _save_table(self) -> dict[str, Path]:
        """Save rows of a table with the column of their classes; nothing for other data."""
        rows = self.run.codec.table(self.generated.x)
        if rows is None:
            return {}
        column = OmegaConf.select(self.run.config, "data.label")
        if column is not None and "label" in self.cond:
            classes = [*self.run.data.class_names, ""]  # the last one: no class
            cells = [column, *(classes[label] for label in self.cond["label"].tolist())]
            rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        path = self.folder / "samples.csv"
        write(path, text.getvalue())
        return {"table": path}

    def _save_networks(self) -> dict[str, Path]:
        """Save a state dictionary per sample as a file 000000.safetensors, ...; nothing for other data."""
        networks = self.run.codec.networks(self.generated.x)
        if networks is None:
            return {}
        folder = self.folder / "networks"
        folder.mkdir(parents=True, exist_ok=True)
        for index, tensors in enumerate(networks):
            write(folder / f"{index:06d}.safetensors", safetensors.torch.save(tensors))
        return {"networks": folder}

    def _save_pictures(self) -> dict[str, Path]:
        """Save the pictures; one that fails is warned of and left out."""
        pictures: dict[str, tuple[Path, Callable[[Path], None]]] = {
            "picture": (self.folder / "samples.png", self._save_picture),
        }
        if self.config.gif:
            pictures["animation"] = self.folder / "trajectory.gif", self._save_animation
        if self.config.trajectory_frames:
            pictures["trajectory"] = self.folder / "trajectory.png", self._save_frames
        return {what: path for what, (path, save) in pictures.items() if attempt(partial(save, path), path)}

    def _save_about(self, details: dict[str, str]) -> None:
        """Save how the samples were drawn, and what that cost."""
        config, generated = self.config, self.generated
        settings = OmegaConf.to_container(config, resolve=True)
        assert isinstance(settings, dict)
        about = {
            "n": config.n,
            "seed": config.seed,
            "nfe": generated.nfe,
            "seconds": generated.seconds,
            "images_per_second": config.n / generated.seconds,
            "trained_on_images": self.run.images,
            "command": reports.command_line("sample"),
            "details": details,
            "settings": {
                key: value
                for key, value in settings.items()
                if value is not None
                and key not in NOT_IN_ABOUT
                and (config.get("task") or key not in OF_TASKS)
            },
            "versions": package_versions(),
        }
        write(self.folder / "samples.json", json.dumps(about, indent=1))

    def _save_picture(self, path: Path) -> None:
        """Save the samples, or inputs and results of the task."""
        if self.task is None:
            save_samples(self.run.codec.decode_image(self.generated.x), path)
        else:
            save_rows([self._row_of(self.task)], path)

    def _row_of(self, task: Task) -> Tensor:
        """Return inputs, results, and twice the standard deviation of random results, in levels of 255."""
        decode, x = self.run.codec.decode_image, self.generated.x
        images = decode(x)
        row = [*(decode(image.cpu()) for image in task.inputs), images[:MAX_RESULTS_SHOWN]]
        if task.is_random and len(x) > 1:
            row.append((2 * images.float().std(0, keepdim=True)).clamp(max=255).to(torch.uint8))
        return torch.cat(row)

    def _save_animation(self, path: Path) -> None:
        """Save the trajectory of the first batch; its last frame is denoised."""
        states = self.generated.trajectory.states
        frames = [*states, self.generated.x[: len(states[0])]]
        save_gif([self.run.codec.decode_image(frame) for frame in frames], path)

    @torch.no_grad()
    def _save_frames(self, path: Path) -> None:
        """Save two rows for each of the first samples: intermediate states, and the clean samples predicted from them.

        Vectors, whose samples make one picture, get two rows for the whole batch.
        """
        trajectory, count = self.generated.trajectory, self.config.trajectory_frames
        last = len(trajectory.times) - 1
        indices = sorted({round(i * last / max(count - 1, 1)) for i in range(count)})
        if len(self.run.data_spec.shape) == 1:
            self._save_point_clouds(indices, path)
            return
        rows: list[Tensor] = []
        for i in range(min(MAX_FRAME_ROWS, len(trajectory.states[0]))):
            x_t = torch.cat([trajectory.states[index][i : i + 1] for index in indices])
            t = torch.tensor([trajectory.times[index] for index in indices], dtype=torch.float64)
            rows += self._decoded(
                x_t, t, {key: value[[i] * len(indices)] for key, value in self.cond.items()}
            )
        save_rows(rows, path)

    def _save_point_clouds(self, indices: list[int], path: Path) -> None:
        trajectory = self.generated.trajectory
        panels = []
        for index in indices:
            x_t = trajectory.states[index]
            t = torch.tensor(trajectory.times[index], dtype=torch.float64)
            panels.append(self._decoded(x_t, t, {key: value[: len(x_t)] for key, value in self.cond.items()}))
        save_panels([list(row) for row in zip(*panels, strict=True)], path)

    def _decoded(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return states and predicted clean samples in levels; states are scaled, as VE's noise would hide them."""
        x_t = x_t.to(self.run.device)
        prediction = self.run.bind(cond, self.model)(x_t, t)
        scale = torch.sqrt(prediction.alpha**2 + prediction.sigma**2)
        decode = self.run.codec.decode_image
        return decode(x_t / scale), decode(prediction.x0)

    def _psnr(self) -> dict[str, str]:
        """Return the peak signal-to-noise ratio of the results and of their mean, where the reference is known."""
        if self.task is None or self.task.reference is None:
            return {}
        decode, x = self.run.codec.decode_image, self.generated.x
        images, reference = decode(x), decode(self.task.reference.cpu())
        found = psnr(images, reference)
        error = f" +- {float(found.std() / len(x) ** 0.5):.2f}" if len(x) > 1 else ""
        mean = psnr(images.double().mean(0, keepdim=True), reference)
        return {"PSNR": f"{float(found.mean()):.2f}{error} dB", "PSNR of the mean": f"{float(mean):.2f} dB"}
