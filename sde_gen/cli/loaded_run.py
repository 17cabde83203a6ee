"""A trained run opened from Python: ``sde_gen.load("runs/digits-vp-ncsnpp")``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import pretrained
from sde_gen.cli.config_files import kinds, names
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data import Splits
from sde_gen.data.codec import Codec
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.likelihood import LogProb, log_prob
from sde_gen.noise import IID, Noise, PerSample, spawn_seeds
from sde_gen.sampler import Sampler


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its codec and its data.

    Arguments:
        run: the run rebuilt from its checkpoint.
    """

    run: Run

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
        sampler: Sampler | None = None,
        label: Tensor | None = None,
        seed: int = 0,
        batch_size: int = 64,
    ) -> Tensor:
        """Sample; the same seed gives the samples of ``python -m sde_gen.sample``.

        Arguments:
            n: number of samples.
            sampler: solver, grid and steps; None takes ``Sampler()``.
            label: class of every sample with shape (n,); None takes all classes in turn.
            seed: seed of the samples' noise.
            batch_size: samples per batch.

        Returns:
            Samples in model space with shape (n, *event); :meth:`decode` maps them to data.

        Raises:
            ValueError: n or batch_size is below 1, or label has another length than n.
        """
        if n < 1 or batch_size < 1:
            raise ValueError(f"n={n}, batch_size={batch_size}: expected at least 1")
        if label is not None and len(label) != n:
            raise ValueError(f"label has {len(label)} entries; expected one per sample, n={n}")
        sampler = Sampler() if sampler is None else sampler
        labels = self.run.labels(n) if label is None else label
        seeds, batches = spawn_seeds(seed, n), []
        for first in range(0, n, batch_size):
            part = slice(first, min(first + batch_size, n))
            model = self.run.conditioned(None if labels is None else labels[part])
            shape = (part.stop - first, *self.run.data_spec.shape)
            batches.append(sampler(model, shape, noise=PerSample(seeds[part]), device=self.run.device))
        return torch.cat(batches)

    @torch.no_grad()
    def log_prob(self, x: Tensor, *, label: Tensor | None = None, **options: Any) -> LogProb:
        """Log-density in nats of samples in model space (B, *event), by :func:`~sde_gen.likelihood.log_prob`.

        Arguments:
            x: samples in model space, such as ``run.encode(values, noise)``.
            label: class of every sample with shape (B,), for a run trained with labels.
            options: integrator, divergence, noise, prior; by default the probes are seeded with 0.
        """
        options.setdefault("noise", IID.seeded(0))
        return log_prob(self.run.conditioned(label), x.to(self.run.device), **options)


def load(
    folder: str | Path,
    *,
    checkpoint: str | None = None,
    device: str = "auto",
    trust: Iterable[str] = (),
) -> LoadedRun:
    """Load a run folder, or a pretrained model that comes with the package.

    Arguments:
        folder: the run folder; or a name of ``sg.list("pretrained")``, such as ``"digits-vp"``.
        checkpoint: None for the last one, "best", or a folder name in checkpoints.
        device: "auto", "cpu", "cuda", ...
        trust: further packages whose classes the stored configuration may name.

    Raises:
        ValueError: no run folder or checkpoint, or an invalid one.
    """
    if not Path(folder).is_dir() and str(folder).removeprefix(pretrained.PREFIX) in pretrained.names():
        folder = pretrained.folder(str(folder))
    given = {"run": str(folder), "checkpoint": checkpoint, "device": device, "trust": [*trust]}
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
