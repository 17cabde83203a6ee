"""Train step: forward and backward passes as pure functions of the weights and of (seed, step)."""

import copy
import functools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sde_gen.data import Augmentation, Dataset
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning
from sde_gen.denoiser import TrainedModel
from sde_gen.distributed.strategy import Strategy
from sde_gen.noise import IID
from sde_gen.objective import Loss, Objective
from sde_gen.training import seeding
from sde_gen.training.autotune import (
    Chooser,
    Execution,
    TimeCheck,
    set_memory_format,
    stoppable,
    trial_samples,
)
from sde_gen.training.batch_loader import BatchLoader
from sde_gen.training.config import TrainingConfig
from sde_gen.training.precision import Precision
from sde_gen.training.seeding import derive
from sde_gen.utils.timing import Stopwatch


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """Loss and gradient of a batch, and the validation loss.

    Arguments:
        objective: the loss.
        train: the training split, on the device.
        held_out: the split for the validation loss.
        loader: loader of the micro-batches.
        codec: map from data to model space.
        augmentation: random transformation of the data.
        conditioning: maps conditions of the data to the network's conditioning inputs.
        precision: precision of the network.
        settings: settings of the training.
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
        self, denoiser: TrainedModel, step: int, clock: Stopwatch
    ) -> list[tuple[Tensor, Loss]]:
        """Accumulate the gradient of a step; return its micro-batches in model space and their losses.

        Every process draws the noise of the whole batch and computes its slice of each micro-batch, so samples and
        noise do not depend on the numbers of processes and micro-batches. Samples on disk are read for the local slice
        only, because the noise does not depend on their values. Dropout masks are seeded per process and micro-batch.
        """
        settings, strategy, results = self.settings, self.strategy, []
        device = self.train.values.device
        generator = torch.Generator(device).manual_seed(derive(settings.seed, step, 0, 0))
        parts = self.loader(step)
        indices, values = (torch.cat(column) for column in zip(*parts, strict=True))
        batch, batch_cond = self._batch(self.train, indices, values, generator)
        draw = self.objective.draw(denoiser.sde, batch, IID(generator))
        for micro, local in enumerate(self.loader.shares(parts)):
            x0 = batch[local]
            cond = {name: values[local] for name, values in batch_cond.items()}
            dropout_seed = derive(settings.seed, step, strategy.rank, 1 + micro)
            last = micro == len(parts) - 1
            with clock.running(), nullcontext() if last else strategy.no_sync(denoiser.net):
                with seeding.seeded(device, dropout_seed), self.precision.context(device):
                    loss = self.objective.loss(denoiser, x0, draw.select(local), **cond)
                torch.autograd.backward(loss.per_sample.mean() / settings.accumulation)
            results.append((x0, Loss(*(part.detach() for part in loss))))
        return results

    def rehearsal(self, denoiser: TrainedModel, count: int) -> Callable[[bool], None]:
        """Prepare passes on a few samples of the first step, for timing.

        Returns:
            A function of ``channels_last`` that adds a gradient to the denoiser's weights.
        """
        indices, values = self.loader(0)[0]
        local = self.loader.local_slice(len(indices))
        indices, values = indices[local][:count], values[local][:count]
        device = self.train.values.device

        def run(channels_last: bool) -> None:
            variant = replace(self, channels_last=channels_last)
            generator = torch.Generator(device).manual_seed(0)
            x0, cond = variant._batch(self.train, indices, values, generator)
            draw = self.objective.draw(denoiser.sde, x0, IID(generator))
            with seeding.deterministic(), seeding.seeded(device, 0), self.precision.context(device):
                loss = self.objective.loss(denoiser, x0, draw, **cond)
            torch.autograd.backward(loss.per_sample.mean())

        return run

    def choose_execution(self, denoiser: TrainedModel, chooser: Chooser) -> Execution:
        """Choose threads and memory format by trials on a copy of the network; a collective operation.

        Arguments:
            denoiser: the denoiser to train, which is left as it is.
            chooser: the strategy; the choice of the first process counts for all.
        """
        settings, event = self.settings, self.train.shape
        formats = (True, False) if settings.channels_last is None else (settings.channels_last,)
        if not self.objective.channels_last:
            if settings.channels_last:
                raise ValueError(
                    f"channels_last=true: {type(self.objective).__name__} takes a forward derivative of the network, "
                    "which PyTorch has with channels first alone; leave it out"
                )
            formats = (False,)
        count = trial_samples(event, settings.batch_size // (settings.accumulation * self.strategy.size))

        @functools.cache
        def rehearsal() -> tuple[nn.Module, Callable[[bool], None]]:
            twin = copy.deepcopy(denoiser).train()
            return twin, self.rehearsal(twin, count)

        def trial(execution: Execution, check: TimeCheck) -> None:
            twin, run = rehearsal()
            set_memory_format(twin, execution)
            with stoppable(twin, check):
                run(execution.channels_last)

        chosen = chooser(formats if len(event) == 3 else (False,), trial)
        return self.strategy.all_gather_object(chosen)[0]

    @torch.no_grad()
    def validation_loss(self, denoiser: TrainedModel) -> float | None:
        """Return the loss on the held-out images, split over the processes, with the same noise every time.

        Where there are fewer images than ``validate``, they are repeated with other noise.
        """
        device, strategy = self.held_out.values.device, self.strategy
        count, objective = self.settings.validate, self.objective.for_evaluation
        if count == 0:
            return None
        generator = torch.Generator(device).manual_seed(derive(self.settings.seed, 2**32, 0, 0))
        losses = []
        size = self.settings.batch_size // self.settings.accumulation
        share = size // strategy.size
        for chunk in self.held_out.chunks(count, self.settings.batch_size):
            indices = chunk.to(device)
            x0, cond = self._batch(self.held_out, indices, self.held_out.values[indices], generator)
            draw = objective.draw(denoiser.sde, x0, IID(generator))
            for start in range(0, len(indices), size):
                rows = min(size, len(indices) - start)
                begin = start + strategy.rank * share
                idle = (
                    begin >= start + rows
                )  # evaluates the first row: all ranks must run the same collectives
                local = slice(start, start + 1) if idle else slice(begin, min(begin + share, start + rows))
                local_cond = {name: values[local] for name, values in cond.items()}
                with (
                    seeding.deterministic(),
                    self.precision.context(device),
                    strategy.reshard_after(denoiser.net),
                ):
                    loss = objective.loss(denoiser, x0[local], draw.select(local), **local_cond).per_sample
                padded = torch.cat([loss, loss.new_zeros(share - len(loss))])
                losses.append(strategy.all_gather(padded)[:rows])
        return float(torch.cat(losses).double().mean())

    def _batch(
        self, data: Dataset, indices: Tensor, values: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        augmentation = self.augmentation if data is self.train else self.augmentation.for_evaluation
        values, transformation = augmentation.augment(values, generator)
        x0 = self.codec.encode(values, IID(generator))
        if self.channels_last and x0.ndim == 4:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        return x0, {**self.conditioning(data.given(indices), IID(generator)), **transformation}
