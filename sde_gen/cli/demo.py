"""Web page to sample from a run: ``sde-gen demo run=runs/...``; needs the extra ``demo``."""

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from sde_gen.cli import instantiate, threads
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
        """True if classifier-free guidance applies, as the run was trained with randomly dropped conditions."""
        return bool(self.run.conditioning.names) and supports_unconditional(self.run)

    @torch.no_grad()
    def draw(
        self,
        seed: int,
        n: int,
        solver: str,
        grid: str,
        steps: int,
        conditions: Mapping[str, Any] = MappingProxyType({}),
        scale: float = 1.0,
    ) -> tuple[Image.Image, str]:
        """Sample; the same settings give the samples of ``python -m sde_gen.sample``.

        Arguments:
            seed: seed of the noise.
            n: number of samples.
            solver: name of the solver.
            grid: name of the time grid.
            steps: number of solver steps.
            conditions: conditions by name as the command takes them; those missing or None have their default.
            scale: guidance scale; 1 is the conditional model.

        Returns:
            The picture, and a line about its cost.

        Raises:
            ValueError: an unknown name, a condition that does not fit, guidance without a condition, or a solver that
                does not fit the process.
            FloatingPointError: a sample is not finite.
        """
        sampler: Sampler = Sampler(
            solver=instantiate.make(load("solver", solver)),
            grid=instantiate.make(load("grid", grid)),
            steps=steps,
        )
        denoiser = self.run.denoiser
        times = sampler.grid(denoiser.sde, steps)
        sampler.solver.check(denoiser, times)
        begin = time.perf_counter()
        with NFECounter(denoiser.net) as counter:
            x = sampler(
                self._model(n, conditions, scale),
                (n, *self.run.event),
                noise=PerSample(spawn_seeds(seed, n)),
                hooks=[StopOnNaN()],
                device=self.run.device,
            )
        seconds = time.perf_counter() - begin
        outside = OutOfRange.of(x.cpu(), self.run.codec, sigma=float(denoiser.sde.sigma(times[-1])))
        parts = [f"{counter.samples / n:g} network evaluations per sample", f"{seconds:.2f} s"]
        parts += [] if outside is None or not outside.notable else [f"warning: {outside.advice}"]
        return as_picture(self.run.codec.decode_image(x.cpu())), ", ".join(parts)

    def _model(self, n: int, conditions: Mapping[str, Any], scale: float) -> Denoiser:
        cond = self.run.prompt(n, **conditions)
        if not cond and scale != 1:
            raise ValueError(
                f"a guidance scale of {scale:g} needs a condition: give {' or '.join(self.run.conditioning.names)}"
            )
        model: Denoiser = (
            CFG(denoiser=self.run.denoiser, scale=scale) if cond and self.guided else self.run.denoiser
        )
        return self.run.bind(cond, model)

    def typed(self, name: str, value: Any) -> Any:
        """Return a condition as the command takes it for what an input of the page holds; None for its default.

        Raises:
            ValueError: the value does not fit.
        """
        if value in (None, "", EVERY_CLASS):
            return None
        if name == "label":
            if value not in self.classes:
                raise ValueError(f"class {value!r} is unknown; there are {', '.join(self.classes)}")
            return self.classes.index(value)
        if name != "vector":
            return value
        try:
            return [float(number) for number in str(value).strip("[] ").split(",")]
        except ValueError as error:
            raise ValueError(
                f"vector={value}: expected numbers separated by commas, such as 0.5, -1"
            ) from error


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
    names = source.run.conditioning.names

    def draw(seed: int, n: int, solver: str, grid: str, steps: int, *more: Any) -> tuple[Image.Image, str]:
        try:
            conditions = {name: source.typed(name, value) for name, value in zip(names, more, strict=False)}
            return source.draw(seed, n, solver, grid, steps, conditions, *more[len(names) :])
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
                inputs += [_input(source, name, gradio) for name in names]
                if source.guided:
                    inputs.append(gradio.Slider(0, 10, 1, step=0.25, label="guidance scale"))
                button = gradio.Button("Sample", variant="primary")
            with gradio.Column():
                outputs = [gradio.Image(label="samples", format="png"), gradio.Textbox(label="cost")]
        button.click(draw, inputs, outputs)
        blocks.load(draw, inputs, outputs)
    return blocks


def _input(source: Demo, name: str, gradio: Any) -> Any:
    """Build the input of a condition."""
    if name == "label":
        return gradio.Dropdown([EVERY_CLASS, *source.classes], value=EVERY_CLASS, label="class")
    optional = "" if supports_unconditional(source.run) else " (required)"
    if name == "image":
        return gradio.Image(type="filepath", label=f"image{optional}")
    hint = {"text": "empty: no text", "vector": "numbers separated by commas"}.get(name, "")
    return gradio.Textbox("", label=f"{name}{optional}", placeholder=hint)


def demo(config: DictConfig) -> None:
    """Serve the page until it is stopped."""
    try:
        gradio = importlib.import_module("gradio")
    except ImportError as error:
        raise ValueError(f"gradio cannot be imported ({error}): pip install 'sde_gen[demo]'") from error
    run = load_run(config)
    with threads.in_use(config, run):
        page(Demo(run=run), config.n, gradio).launch(server_name=config.host, server_port=config.port)


main = Command(name="demo", function=demo)
