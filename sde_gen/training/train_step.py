"""Forward and backward passes: every one a pure function of the weights and of (seed, step)."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sde_gen.data import Augmentation, Dataset
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning
from sde_gen.denoiser import NetworkDenoiser, NoisyClassifier
from sde_gen.distributed.strategy import Strategy
from sde_gen.noise import IID
from sde_gen.objective import Loss, Objective
from sde_gen.training import seeding
from sde_gen.training.batch_loader import BatchLoader
from sde_gen.training.config import TrainingConfig
from sde_gen.training.precision import Precision
from sde_gen.training.seeding import derive
from sde_gen.utils.timing import Stopwatch


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What a training computes on a batch.

    Arguments:
        objective: the loss.
        train: the training split, on the device.
        held_out: the split whose loss is measured.
        loader: the samples of a step.
        codec: from data to model space.
        augmentation: random change of the data.
        conditioning: what of the labels the network is told.
        precision: number format of the network.
        settings: numbers.
        strategy: the processes that share a batch.
        channels_last: memory format of images.
    """

    objective: Objective
    train: Dataset
    held_out: Dataset
    loader: BatchLoader
    codec: Codec
    augmentation: Augmentation
    conditioning: Conditioning
    precision: Precision
    settings: TrainingConfig
    strategy: Strategy
    channels_last: bool = True

    def compute_gradients(
        self, denoiser: NetworkDenoiser | NoisyClassifier, step: int, clock: Stopwatch
    ) -> list[tuple[Tensor, Loss]]:
        """Add up the gradient of a step; return its micro-batches in model space and their losses.

        Every process makes the whole batch, with all that is random in it, and goes on with its share, one micro-batch
        after the other: so samples and noise depend neither on how many processes share them nor on how many
        micro-batches there are. Of samples on the disk it reads its share alone: the others' draws depend on how many
        they are, not on what they hold. Masks of dropout are those of a process and of a micro-batch.
        """
        settings, strategy, seen = self.settings, self.strategy, []
        device = self.train.values.device
        generator = torch.Generator(device).manual_seed(derive(settings.seed, step, 0, 0))
        parts = self.loader(step)
        indices, values = (torch.cat(column) for column in zip(*parts, strict=True))
        whole, told = self._batch(self.train, indices, values, generator)
        draw = self.objective.draw(denoiser.sde, whole, IID(generator))
        for micro, mine in enumerate(self.loader.shares(parts)):
            x0, cond = whole[mine], {name: values[mine] for name, values in told.items()}
            dropout_seed = derive(settings.seed, step, strategy.rank, 1 + micro)
            last = micro == len(parts) - 1
            with clock.running(), nullcontext() if last else strategy.no_sync(denoiser.net):
                with seeding.seeded(device, dropout_seed), self.precision.context(device):
                    loss = self.objective.loss(denoiser, x0, draw.select(mine), **cond)
                torch.autograd.backward(loss.per_sample.mean() / settings.accumulation)
            seen.append((x0, Loss(*(part.detach() for part in loss))))
        return seen

    def rehearsal(self, denoiser: NetworkDenoiser | NoisyClassifier, count: int) -> Callable[[bool], None]:
        """Prepare passes on a few samples of the first step, to be timed.

        Returns:
            What adds a gradient to the denoiser's weights, in the memory format that it is told.
        """
        indices, values = self.loader(0)[0]
        mine = self.loader.local_slice(len(indices))
        indices, values = indices[mine][:count], values[mine][:count]
        device = self.train.values.device

        def run(channels_last: bool) -> None:
            told, generator = (
                replace(self, channels_last=channels_last),
                torch.Generator(device).manual_seed(0),
            )
            x0, cond = told._batch(self.train, indices, values, generator)
            draw = self.objective.draw(denoiser.sde, x0, IID(generator))
            with seeding.deterministic(), seeding.seeded(device, 0), self.precision.context(device):
                loss = self.objective.loss(denoiser, x0, draw, **cond)
            torch.autograd.backward(loss.per_sample.mean())

        return run

    @torch.no_grad()
    def validation_loss(self, denoiser: NetworkDenoiser | NoisyClassifier) -> float | None:
        """Loss on the held-out images, with the same noise every time; the processes share them."""
        device, strategy = self.held_out.values.device, self.strategy
        count = min(self.settings.validate, len(self.held_out))
        if count == 0:
            return None
        generator = torch.Generator(device).manual_seed(derive(self.settings.seed, 2**32, 0, 0))
        losses = []
        size = self.settings.batch_size // self.settings.accumulation
        share = size // strategy.size
        for first in range(0, count, self.settings.batch_size):
            indices = torch.arange(first, min(first + self.settings.batch_size, count), device=device)
            x0, cond = self._batch(self.held_out, indices, self.held_out.values[indices], generator)
            draw = self.objective.draw(denoiser.sde, x0, IID(generator))
            for start in range(0, len(indices), size):
                rows = min(size, len(indices) - start)
                begin = start + strategy.rank * share
                spare = (
                    begin >= start + rows
                )  # nothing is left for this process: it keeps step on the first row
                mine = slice(start, start + 1) if spare else slice(begin, min(begin + share, start + rows))
                told = {name: values[mine] for name, values in cond.items()}
                with (
                    seeding.deterministic(),
                    self.precision.context(device),
                    strategy.reshard_after(denoiser.net),
                ):
                    loss = self.objective.loss(denoiser, x0[mine], draw.select(mine), **told).per_sample
                padded = torch.cat([loss, loss.new_zeros(share - len(loss))])
                losses.append(strategy.all_gather(padded)[:rows])
        return float(torch.cat(losses).double().mean())

    def _batch(
        self, data: Dataset, indices: Tensor, values: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x0 = self.codec.encode(self.augmentation(values, generator), IID(generator))
        if self.channels_last and x0.ndim == 4:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        labels = None if data.labels is None else data.labels[indices]
        return x0, self.conditioning(labels, IID(generator))
