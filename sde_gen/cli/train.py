"""Train a score network, a classifier or an autoencoder: ``python -m sde_gen.train sde=vp model=ncsnpp``."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict
from torch import Tensor

from sde_gen.cli import build, reconstruction, training_quality
from sde_gen.cli.app import Command, cli_overrides, reject_unused, require_int
from sde_gen.cli.config_files import load
from sde_gen.cli.constructors import accepts
from sde_gen.cli.run import SAMPLED
from sde_gen.cli.sample_conditions import take
from sde_gen.cli.stored_config import with_initial, with_stored
from sde_gen.cli.training import fit
from sde_gen.data.codec import Codec, OutOfRange
from sde_gen.denoiser import (
    AutoregressiveModel,
    Denoiser,
    DenoisingGAN,
    NetworkAutoencoder,
    NoisyClassifier,
)
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.solver.callbacks import StopOnNaN
from sde_gen.training import Callback, Trainer
from sde_gen.utils.images import attempt, save_samples
from sde_gen.utils.types import Shape


def train(config: DictConfig) -> None:
    """Train, or continue from the last checkpoint of the run folder."""
    config = with_initial(with_stored(config))
    require_int(config.preview, "n")
    trained = build.trained_class(config)
    if trained is NoisyClassifier:
        reject_unused("a classifier draws no samples", "preview", "quality")
    if trained is NetworkAutoencoder:
        reject_unused("an autoencoder draws no samples", "preview.sampler", "quality")
        reject_unused("an autoencoder adds no noise", "sde", "parametrization")
    if trained is AutoregressiveModel:
        reject_unused("codes are drawn one after the other", "preview.sampler")
        reject_unused("codes have no noise", "sde", "parametrization")
    if issubclass(trained, DenoisingGAN):
        _sample_as_trained(config)
    own = ("time_sampler", "weighting", "pointwise_loss", "training_noise", "step_sampler")
    unused = [key for key in own if not accepts(config.objective, key)]
    reject_unused("the objective does not use it", *unused)
    fit(config, _previews, training_quality.build_metrics)


def _sample_as_trained(config: DictConfig) -> None:
    """Let previews and the commands that open the run sample a generator by the steps of its training."""
    steps, place = config.objective.steps, "preview.sampler.steps"
    with open_dict(config):
        config.solver = load("solver", "gan_ancestral")
        config.grid = config.objective.grid
        config.sampling = {"steps": steps, "denoise_final": True}
        config.preview.sampler = {
            **config.preview.sampler,
            "solver": config.solver,
            "grid": config.grid,
            "steps": config.preview.sampler.steps if place in cli_overrides() else steps,
        }


def _previews(config: DictConfig, trainer: Trainer) -> list[Callback]:
    """Build the pictures of samples, or of reconstructions; a classifier has none."""
    trained = build.trained_class(config)
    if not issubclass(trained, SAMPLED):
        return reconstruction.previews(config, trainer) if trained is NetworkAutoencoder else []
    sampler, sde = training_quality.build_sampler(config), trainer.denoiser.sde

    def sigma() -> float:
        """Return the noise that samples are left with before the last step; none in codes."""
        codes = trained is AutoregressiveModel
        return 0.0 if codes else float(sde.sigma(sampler.grid(sde, sampler.steps)[-1]))

    shape = (config.preview.n, *trainer.codec.event(trainer.train.shape))
    cond = take(trainer.conditioning, trainer.held_out, config.preview.n)
    return [_Preview(sampler, sigma, shape, cond, trainer.codec, config.engine.seed, Path(config.run))]


class _Preview(Callback):
    """Save a picture of samples, always of the same noise; its failure does not stop a training."""

    def __init__(
        self,
        sampler: Any,
        sigma: Callable[[], float],
        shape: Shape,
        cond: dict[str, Tensor],
        codec: Codec,
        seed: int,
        folder: Path,
    ) -> None:
        self.sampler, self.sigma, self.shape, self.cond, self.codec = sampler, sigma, shape, cond, codec
        self.seeds = spawn_seeds(seed, shape[0])
        self.folder = folder / "previews"

    def on_preview(self, denoiser: Denoiser, images: int) -> None:
        path = self.folder / f"{images:012d}.png"
        attempt(partial(self._save, denoiser, path), path)

    def _save(self, denoiser: Denoiser, path: Path) -> None:
        device = next(denoiser.parameters()).device
        cond = {key: value.to(device) for key, value in self.cond.items()}
        bound = denoiser.bind(**cond) if cond else denoiser
        x = self.sampler(bound, self.shape, noise=PerSample(self.seeds), hooks=[StopOnNaN()], device=device)
        outside = OutOfRange.of(x, self.codec, sigma=self.sigma())
        if outside is not None and outside.notable:
            warnings.warn(f"the preview {path.name} has {outside.advice}", stacklevel=2)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_samples(self.codec.decode_image(x), path)


main = Command(name="train", function=train)
