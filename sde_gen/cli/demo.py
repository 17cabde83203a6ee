"""Web page to sample from a run: ``sde-gen demo run=runs/...``; needs the extra ``demo``."""

import importlib
import time
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from sde_gen.cli import build, threads
from sde_gen.cli.app import Command
from sde_gen.cli.config_files import load, names
from sde_gen.cli.guidance_setup import supports_unconditional
from sde_gen.cli.run import Run, load_run
from sde_gen.data.codec import OutOfRange
from sde_gen.denoiser import Denoiser
from sde_gen.guidance import CFG
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import NFECounter, StopOnNaN
from sde_gen.utils.images import as_picture

EVERY_CLASS = "all in turn"
"""Entry of the class menu that selects all classes."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Sampler of a run with the settings of the page.

    Arguments:
        run: the run.
    """

    run: Run

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty for a run without labels."""
        if "label" not in self.run.conditioning.names:
            return []
        return list(self.run.data.class_names) or [str(label) for label in range(self.run.data_spec.classes)]

    @property
    def guided(self) -> bool:
        """True if classifier-free guidance applies, as the run was trained with random label dropout."""
        return bool(self.classes) and supports_unconditional(self.run)

    @torch.no_grad()
    def draw(
        self,
        seed: int,
        n: int,
        solver: str,
        grid: str,
        steps: int,
        label: str = EVERY_CLASS,
        scale: float = 1.0,
    ) -> tuple[Image.Image, str]:
        """Sample; the same settings give the samples of ``python -m sde_gen.sample``.

        Arguments:
            seed: seed of the noise.
            n: number of samples.
            solver: name of the solver.
            grid: name of the time grid.
            steps: number of solver steps.
            label: name of the class; ignored for a run without labels.
            scale: guidance scale; 1 is the conditional model.

        Returns:
            The picture, and a line about its cost.

        Raises:
            ValueError: an unknown name, or a solver that does not fit the process.
            FloatingPointError: a sample is not finite.
        """
        sampler: Sampler = Sampler(
            solver=build.make(load("solver", solver)), grid=build.make(load("grid", grid)), steps=steps
        )
        denoiser = self.run.denoiser
        times = sampler.grid(denoiser.sde, steps)
        sampler.solver.check(denoiser, times)
        begin = time.perf_counter()
        with NFECounter(denoiser.net) as counter:
            x = sampler(
                self._model(n, label, scale),
                (n, *self.run.data_spec.shape),
                noise=PerSample(spawn_seeds(seed, n)),
                hooks=[StopOnNaN()],
                device=self.run.device,
            )
        seconds = time.perf_counter() - begin
        outside = OutOfRange.of(x.cpu(), self.run.codec, sigma=float(denoiser.sde.sigma(times[-1])))
        parts = [f"{counter.samples / n:g} network evaluations per sample", f"{seconds:.2f} s"]
        parts += [] if outside is None or not outside.notable else [f"warning: {outside.advice}"]
        return as_picture(self.run.codec.decode_image(x.cpu())), ", ".join(parts)

    def _model(self, n: int, label: str, scale: float) -> Denoiser:
        classes = self.classes
        if not classes:
            return self.run.denoiser
        if label != EVERY_CLASS and label not in classes:
            raise ValueError(f"class {label!r} is unknown; there are {', '.join(classes)}")
        labels = torch.arange(n) % len(classes)
        if label != EVERY_CLASS:
            labels = torch.full((n,), classes.index(label))
        model: Denoiser = CFG(denoiser=self.run.denoiser, scale=scale) if self.guided else self.run.denoiser
        return model.bind(label=labels.to(self.run.device))


def without_settings(kind: str) -> list[str]:
    """Return the names of a kind without required settings."""
    return [name for name in names(kind) if not OmegaConf.missing_keys(load(kind, name))]


def page(source: Demo, most: int, gradio: Any) -> Any:
    """Build the page.

    Arguments:
        source: draws the samples.
        most: maximum number of samples per picture.
        gradio: the module.
    """

    def draw(*settings: Any) -> tuple[Image.Image, str]:
        try:
            return source.draw(*settings)
        except (ValueError, FloatingPointError) as error:
            raise gradio.Error(str(error)) from error

    with gradio.Blocks(title=f"sde_gen: {source.run.folder.name}", analytics_enabled=False) as blocks:
        gradio.Markdown(f"### {source.run.folder.name}\n{source.run.images:,} training images")
        with gradio.Row():
            with gradio.Column():
                inputs = [
                    gradio.Number(0, label="seed", precision=0, minimum=0),
                    gradio.Slider(1, most, min(16, most), step=1, label="samples"),
                    gradio.Dropdown(without_settings("solver"), value="straight_adams", label="solver"),
                    gradio.Dropdown(without_settings("grid"), value="angle", label="time grid"),
                    gradio.Slider(1, 100, 10, step=1, label="steps"),
                ]
                if source.classes:
                    inputs.append(
                        gradio.Dropdown([EVERY_CLASS, *source.classes], value=EVERY_CLASS, label="class")
                    )
                if source.guided:
                    inputs.append(gradio.Slider(0, 10, 1, step=0.25, label="guidance scale"))
                button = gradio.Button("Sample", variant="primary")
            with gradio.Column():
                outputs = [gradio.Image(label="samples", format="png"), gradio.Textbox(label="cost")]
        button.click(draw, inputs, outputs)
        blocks.load(draw, inputs, outputs)
    return blocks


def demo(config: DictConfig) -> None:
    """Serve the page until it is stopped."""
    try:
        gradio = importlib.import_module("gradio")
    except ImportError as error:
        raise ValueError("gradio is not installed: pip install 'sde_gen[demo]'") from error
    run = load_run(config)
    with threads.in_use(config, run):
        page(Demo(run=run), config.n, gradio).launch(server_name=config.host, server_port=config.port)


main = Command(name="demo", function=demo)
