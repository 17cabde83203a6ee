"""A trained run opened from Python: ``sde_gen.load("runs/digits-vp-ncsnpp")``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import instantiate, pretrained
from sde_gen.cli.config_files import kinds, names, suggest
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.run_defaults import default_guidance
from sde_gen.cli.run_reference import BEFORE
from sde_gen.cli.stages import chain, condition_of, stage_seeds, typed_samples
from sde_gen.data import Splits
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning.base import PLURALS
from sde_gen.data.simulator import ParameterPrior
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.inverse import AmortizedPosterior, ConditionalDensity, InferencePosterior, LikelihoodPosterior
from sde_gen.likelihood import LogProb, log_prob
from sde_gen.noise import IID, Noise, PerSample, spawn_seeds
from sde_gen.ode import Adams, Integrator
from sde_gen.sampler import Sampler

OF_SAMPLER = ("steps", "denoise_final", "final_gain")
"""Settings of the stored default of samples that are those of the sampler."""


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its codec and its data.

    Arguments:
        run: the run rebuilt from its checkpoint.
    """

    run: Run

    def __repr__(self) -> str:
        net, sde = type(self.denoiser.net).__name__, type(self.denoiser.sde).__name__
        shape, images = self.run.data_spec.shape, self.run.images
        return f"LoadedRun({self.run.folder}: {net}, {sde}, data {shape}, trained on {images:,} images)"

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The denoiser with averaged weights, in evaluation mode."""
        return self.run.denoiser

    @property
    def codec(self) -> Codec:
        """The map between data and model space."""
        return self.run.codec

    @cached_property
    def data(self) -> Splits:
        """The data of the training, loaded at first use."""
        return open_data(self.run)

    @property
    def sampler(self) -> Sampler:
        """The default sampler: that of a converted pipeline, else ``Sampler()``."""
        config = self.run.config
        if config.get("sampling") is None:
            return Sampler()
        parts = {key: instantiate.make(config[key], _convert_="all") for key in ("solver", "grid")}
        own = {key: config.sampling[key] for key in OF_SAMPLER if key in config.sampling}
        return Sampler(**parts, **own)

    @cached_property
    def guided(self) -> Denoiser:
        """The denoiser with the guidance that a converted pipeline has by default; without any, :attr:`denoiser`."""
        found: Denoiser = self.denoiser
        for option, node in default_guidance(self.run).items():
            more: dict[str, Any] = {}
            if option == "guidance":
                null = self.run.conditioning.omitted(1)
                more = {"null": {key: value.to(self.run.device) for key, value in null.items()}}
            found = instantiate.make(node)(denoiser=found, **more)
        return found

    @property
    def before(self) -> "LoadedRun | None":
        """The run of the stage before, whose samples this one is given; None without one."""
        found = self.run.named.get(BEFORE)
        return None if found is None else LoadedRun(found)

    def encode(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Map data (B, *event) to model space on the device of the run; noise dequantizes integer levels."""
        return self.codec.encode(values.to(self.run.device), noise)

    def decode(self, x: Tensor) -> Tensor:
        """Map model space (B, *event) back to data."""
        return self.codec.decode(x)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        sampler: Sampler | Sequence[Sampler] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        **conditions: Any,
    ) -> Tensor:
        """Sample; the same seed gives the samples of ``python -m sde_gen.sample``.

        A run that names the stage before it is given its samples, unless these are given as a condition.

        Arguments:
            n: number of samples.
            sampler: solver, grid and steps, of all stages or a list with those of each; None takes :attr:`sampler`.
            seed: seed of the samples' noise.
            batch_size: samples per batch.
            conditions: as the command takes them, ``label``, ``text``, ``vector`` or ``image``: one value, or a list or
                tensor of n values. Without any, all classes in turn, and no text, vector or image.

        Returns:
            Samples in model space with shape (n, *event); :meth:`decode` maps them to data.

        Raises:
            ValueError: n or batch_size is below 1, a condition does not fit, or there are more or fewer samplers than
                stages.
        """
        if n < 1 or batch_size < 1:
            raise ValueError(f"n={n}, batch_size={batch_size}: expected at least 1")
        x, before = torch.empty(0), None
        runs = chain(self.run, {key for key, value in conditions.items() if value is not None})
        samplers = list(sampler) if isinstance(sampler, Sequence) else [sampler] * len(runs)
        if len(samplers) != len(runs):
            raise ValueError(f"{len(samplers)} samplers were given for {len(runs)} stages")
        known = {name for run in runs for name in run.conditioning.names}
        for number, run in enumerate(runs):
            stage, others = LoadedRun(run), known - {*run.conditioning.names}
            given = {key: value for key, value in conditions.items() if key not in others}
            if before is not None:
                given[condition_of(before)] = typed_samples(before, run, x)
            seeds = [stage_seeds(each, number)[0] for each in spawn_seeds(seed, n)]
            chosen = samplers[number] or stage.sampler
            x, before = stage._draw(chosen, seeds, batch_size, stage._given(n, given)), run
        return x

    def _draw(
        self, sampler: Sampler, seeds: Sequence[int], batch_size: int, cond: dict[str, Tensor]
    ) -> Tensor:
        """Draw a sample by each seed, given the conditioning inputs."""
        batches = []
        for first in range(0, len(seeds), batch_size):
            part = slice(first, min(first + batch_size, len(seeds)))
            model = self.run.bind({key: value[part] for key, value in cond.items()}, self.guided)
            shape = (part.stop - first, *self.run.event)
            batches.append(sampler(model, shape, noise=PerSample(seeds[part]), device=self.run.device))
        return torch.cat(batches)

    @torch.no_grad()
    def log_prob(self, x: Tensor, **options: Any) -> LogProb:
        """Log-density in nats of samples in model space (B, *event), by :func:`~sde_gen.likelihood.log_prob`.

        Arguments:
            x: samples in model space, such as ``run.encode(values, noise)``.
            options: conditions of the run as for :meth:`sample`, without which the density is the unconditional one;
                and integrator, divergence, noise, prior; by default the probes are seeded with 0.

        Raises:
            ValueError: x has another shape or holds integers, or a condition does not fit or is none of the run.
        """
        if tuple(x.shape[1:]) != tuple(self.run.event):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, self.run.event))})"
            )
        options.setdefault("noise", IID.seeded(0))
        conditions = {name: options.pop(name) for name in PLURALS if name in options}
        cond = self._given(len(x), conditions) if conditions else self.run.conditioning.omitted(len(x))
        return log_prob(self.run.bind(cond), x.to(self.run.device), **options)

    def posterior(
        self,
        *,
        prior: ParameterPrior | None = None,
        sampler: Sampler | None = None,
        integrator: Integrator | None = None,
        proposals: int = 10_000,
    ) -> InferencePosterior:
        """Return the posterior p(theta | x) of a run on simulations, with the methods of sbi's posteriors.

        Arguments:
            prior: prior of the parameters; None takes that of the simulator.
            sampler: solver, grid and steps; None takes ``Sampler()``.
            integrator: method for the density; None takes ``Adams()``.
            proposals: of a run on ``direction=likelihood``, parameters drawn from the prior and weighed.

        Raises:
            ValueError: the run has no vector as condition, or a likelihood and no prior.
        """
        source = instantiate.make(self.run.config.data)
        prior = getattr(source, "prior", None) if prior is None else prior
        density = ConditionalDensity(
            denoiser=self.denoiser,
            codec=self.codec,
            conditioning=self.run.conditioning,
            dim=self.run.data_spec.shape[0],
            sampler=Sampler() if sampler is None else sampler,
            integrator=Adams() if integrator is None else integrator,
        )
        if self.run.config.data.get("direction") != "likelihood":
            return AmortizedPosterior(density, prior)
        if prior is None:
            raise ValueError("a learned likelihood needs the prior of the parameters: give prior=...")
        return LikelihoodPosterior(density, prior, proposals)

    def _given(self, n: int, conditions: dict[str, Any]) -> dict[str, Tensor]:
        """Return the conditioning inputs of n samples."""
        for name, value in conditions.items():
            if isinstance(value, Tensor) and value.ndim and len(value) != n:
                raise ValueError(f"{name} has {len(value)} entries; expected one per sample, n={n}")
        return self.run.prompt(n, **conditions)


def load(
    folder: str | Path,
    *,
    checkpoint: str | None = None,
    device: str = "auto",
    trust: Iterable[str] = (),
    clip_skip: int = 0,
    parts: Iterable[str | Path] = (),
) -> LoadedRun:
    """Load a run folder, or a pretrained model that comes with the package.

    Arguments:
        folder: the run folder; or a name of ``sg.list("pretrained")``, such as ``"digits-vp"``.
        checkpoint: None for the last one, "best", or a folder name in checkpoints.
        device: "auto", "cpu", "cuda", ...
        trust: further packages whose classes the stored configuration may name.
        clip_skip: last layers of an encoder CLIP of texts that are left out.
        parts: folders of runs that the run names, such as its autoencoder, where they were moved.

    Raises:
        ValueError: no run folder or checkpoint, or an invalid one.
    """
    name = str(folder).removeprefix(pretrained.PREFIX)
    if not Path(folder).is_dir() and name in pretrained.names():
        folder = pretrained.folder(name)
    if not Path(folder).is_dir():
        raise ValueError(
            f"there is no run folder and no pretrained model {name}; train a run with python -m sde_gen.train, or "
            f"{suggest(name, pretrained.names())}"
        )
    given = {
        "run": str(folder),
        "checkpoint": checkpoint,
        "device": device,
        "trust": [*trust],
        "clip_skip": clip_skip,
        "parts": [*map(str, parts)],
    }
    return LoadedRun(load_run(OmegaConf.create(given)))


def list_names(kind: str | None = None) -> Sequence[str]:
    """Return the names of a kind, such as ``"solver"``, as the command line takes them; without a kind, all kinds.

    The kind ``"pretrained"`` has the names of the models that come with the package.

    Raises:
        ValueError: an unknown kind.
    """
    if kind is None:
        return kinds()
    if kind not in kinds():
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(kinds())}")
    return names(kind)
