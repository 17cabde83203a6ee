"""Training loop with checkpoints, logs and previews."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from sde_gen.checkpoint.resume import plain
from sde_gen.checkpoint.state_dict import to_tensors
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.data import Augmentation, Dataset
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning, Unconditional
from sde_gen.denoiser import TrainedModel
from sde_gen.distributed.strategy import SingleProcess, Strategy
from sde_gen.objective import Loss, Objective
from sde_gen.training import nonfinite, optimizer, seeding
from sde_gen.training.autotune import Chooser, FixedExecution
from sde_gen.training.batch_loader import BatchLoader
from sde_gen.training.callbacks import Callback, MetricValue
from sde_gen.training.checkpoint_manager import CheckpointManager
from sde_gen.training.compile import Compiler, Eager
from sde_gen.training.config import TrainingConfig
from sde_gen.training.ema import EMA, EMAUpdater
from sde_gen.training.frozen import trainable_names
from sde_gen.training.lr_schedule import LRSchedule
from sde_gen.training.metrics import Metrics
from sde_gen.training.nonfinite import NonFiniteGuard
from sde_gen.training.optimizer import Optimizer
from sde_gen.training.precision import Precision
from sde_gen.training.train_step import TrainStep
from sde_gen.utils import atomic
from sde_gen.utils.arguments import Checked
from sde_gen.utils.timing import Stopwatch


@dataclass(kw_only=True)
class Trainer(Checked):
    """Train a network; every step is a pure function of the weights and of (seed, step).

    A training that is killed and restarted ends in bit-identical weights; on CUDA this requires deterministic kernels,
    which are requested from cuDNN.

    Arguments:
        denoiser: the denoiser to train, or a classifier of noisy samples; on the device already. Parameters with
            ``requires_grad=False`` are frozen.
        objective: the loss.
        train: the training split.
        held_out: the split for the validation loss.
        codec: map from data to model space; levels are dequantized anew in every step.
        augmentation: random transformation of the data.
        optimizer: settings of the optimizer.
        lr_schedule: schedule of the learning rate.
        ema: schedule of the EMA decay rate.
        precision: precision of convolutions and matrix products.
        settings: batch size, length of the training, intervals.
        folder: the run folder.
        about: metadata stored in every checkpoint as JSON: configuration, data specification, versions.
        conditioning: maps conditions of the data to the network's conditioning inputs, fitted to the training split.
        quality: metrics of samples of the averaged model, given it and the number of images; called in rank 0.
        callbacks: called in rank 0 on steps, logs, previews and checkpoints.
        stop: called after every step; if true, the training saves and ends.
        strategy: the processes that share a batch; rank 0 writes files and reports.
        compiler: compilation of the trained network; the EMA network runs eagerly.
        chooser: strategy that chooses threads and memory format; every checkpoint stores the choice.
        upgrade: renames settings of an earlier version in the metadata of a checkpoint.

    Raises:
        ValueError: a batch cannot be shared evenly, all parameters are frozen, or ``about`` is not JSON-serializable.
    """

    denoiser: TrainedModel
    objective: Objective
    train: Dataset
    held_out: Dataset
    codec: Codec
    augmentation: Augmentation
    optimizer: Optimizer
    lr_schedule: LRSchedule
    ema: EMA
    precision: Precision
    settings: TrainingConfig
    folder: Path
    about: dict[str, Any]
    conditioning: Conditioning = Unconditional()  # noqa: RUF009, frozen and without fields
    quality: Callable[[Any, int], Mapping[str, MetricValue]] | None = None
    callbacks: Sequence[Callback] = ()
    stop: Callable[[], bool] = lambda: False
    strategy: Strategy = SingleProcess()  # noqa: RUF009, without state
    compiler: Compiler = Eager()  # noqa: RUF009, frozen and without fields
    chooser: Chooser = FixedExecution()  # noqa: RUF009, frozen
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def __post_init__(self) -> None:
        """Move the data to the device and build the stateful objects."""
        settings = self.settings
        if settings.batch_size % (settings.accumulation * self.strategy.size):
            raise ValueError(
                f"batch_size={settings.batch_size} is not a multiple of accumulation={settings.accumulation} "
                f"times {self.strategy.size} processes; give an engine.batch_size that is"
            )
        if self.strategy.rank == 0:
            self.lr_schedule.check(settings.images)
        if (names := trainable_names(self.denoiser.net)) == []:
            raise ValueError("all parameters are frozen: leave some to be trained")
        self.device = next(self.denoiser.parameters()).device
        self.train, self.held_out = (
            self.conditioning.prepare(part).to(self.device) for part in (self.train, self.held_out)
        )
        self.batches = self.train.batches(batch_size=settings.batch_size, seed=settings.seed)
        train_step = self._train_step()
        self.execution = train_step.choose_execution(self.denoiser, self.chooser)
        self.train_step = replace(train_step, channels_last=self.execution.channels_last)
        if self.execution.channels_last:
            self.denoiser.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema_model = copy.deepcopy(self.denoiser).eval().requires_grad_(False)
        self.ddp_model = copy.copy(self.denoiser)
        self.ddp_model._modules = {**self.denoiser._modules, "net": self.strategy.wrap(self.denoiser.net)}
        self.strategy.shard(self.ema_model.net)
        self.ema_updater = EMAUpdater(self.ema_model.net, self.denoiser.net)
        self.weights = [weight for weight in self.denoiser.net.parameters() if weight.requires_grad]
        self.adam = self.optimizer.build(self.weights)
        self.metrics = Metrics(self.denoiser.sde, self.device, self.strategy)
        self.nonfinite_guard = NonFiniteGuard(self.device)
        self.checkpoints = CheckpointManager(
            self.folder / "checkpoints", keep=settings.keep, strategy=self.strategy
        )
        self.images = 0
        self._first_loss: torch.Tensor | None = None
        self.about = plain(
            {
                **self.about,
                **({"trained": names} if names else {}),
                "precision": str(self.precision.dtype(self.device)),
                "execution": self.execution.record(self.device),
            }
        )

    def _train_step(self) -> TrainStep:
        settings = self.settings
        return TrainStep(
            objective=self.objective,
            train=self.train,
            held_out=self.held_out,
            loader=BatchLoader(
                data=self.train,
                batches=self.batches,
                accumulation=settings.accumulation,
                rank=self.strategy.rank,
                size=self.strategy.size,
                steps=-(-settings.images // settings.batch_size),
                whole=self.augmentation.batch_coupled or self.objective.batch_coupled,
            ),
            codec=self.codec,
            augmentation=self.augmentation,
            conditioning=self.conditioning,
            precision=self.precision,
            settings=settings,
            strategy=self.strategy,
        )

    def run(self) -> bool:
        """Train from the last checkpoint on.

        Returns:
            Whether the budget was reached; false if stopped before.

        Raises:
            FloatingPointError: the loss, the gradient or the EMA weights are not finite.
            OSError: a checkpoint could not be written.
            ValueError: another training is running in the folder, or its checkpoint is of another network.
        """
        with (
            self.execution.applied(),
            atomic.exclusive(self.folder) if self.strategy.rank == 0 else nullcontext(),
        ):
            images = self.checkpoints.resume(
                net=self.denoiser.net,
                ema_model=self.ema_model.net,
                adam=self.adam,
                about=self.about,
                batch_size=self.settings.batch_size,
                upgrade=self.upgrade,
                load_objective=self.objective.load_state,
            )
            if images is not None:
                self.images = images
            self._notify(lambda callback: callback.on_train_start(self.images, self.settings.images))
            self.denoiser.train()
            self.compiler.compile(self.denoiser.net, self.warmup_step)
            self.metrics.reset()
            before = self.images
            while self.images < self.settings.images:
                self.step(self.images // self.settings.batch_size)
                stopping = self.strategy.any_rank(self.stop())
                self._after_step(stopping)
                if stopping:
                    break
            if self.images > before:
                self._notify(lambda callback: callback.on_train_end(self.images))
            return self.images >= self.settings.images

    def step(self, step: int) -> None:
        """Take an optimizer step, a function of the weights, of ``settings.seed`` and of the step number."""
        losses, total, norm = self._gradient(step, self.metrics.forward_backward_timer)
        self._first_loss = total if self._first_loss is None else self._first_loss
        self.images += self.settings.batch_size
        optimizer.step(
            self.adam,
            lr=self.optimizer.lr * self.lr_schedule(self.images, self.settings.images),
            skip=self.nonfinite_guard.update(step, total, norm),
        )
        self.adam.zero_grad(set_to_none=True)
        self.objective.observe(self.denoiser.sde, losses, self.strategy.all_gather)
        decay = self.ema.decay(step + 1, self.images, self.settings.batch_size)
        self.ema_updater.update(decay)
        self.metrics.step(losses, norm)

    def _gradient(self, step: int, clock: Stopwatch) -> tuple[list[Loss], torch.Tensor, torch.Tensor]:
        """Compute the clipped gradient of a step; return the local losses, their global sum and the norm."""
        with seeding.deterministic():
            losses = [loss for _, loss in self.train_step.compute_gradients(self.ddp_model, step, clock)]
            norm = self.strategy.full_tensor(
                torch.nn.utils.clip_grad_norm_(self.weights, self.settings.grad_clip)
            )
        total = self.strategy.all_reduce_sum(torch.stack([loss.per_sample.sum() for loss in losses]).sum())
        return losses, total, norm

    def warmup_step(self) -> None:
        """Run the forward and backward passes of a step and discard the gradients."""
        with seeding.deterministic():
            self.train_step.compute_gradients(self.denoiser, 0, self.metrics.forward_backward_timer)
        self.adam.zero_grad(set_to_none=True)

    def _after_step(self, stopping: bool) -> None:
        settings = self.settings
        log, preview, save = (
            settings.due(every, self.images)
            for every in (settings.log_every, settings.preview_every, settings.checkpoint_every)
        )
        measure = self.quality is not None and settings.due(settings.metrics_every, self.images)
        save = save or measure
        if self.device.type == "cpu" or log or preview or save or stopping:  # else a GPU would wait
            self._check()
        self._notify(lambda callback: callback.on_step_end(self.images))
        if log:
            record = {"images": self.images, "lr": self.adam.param_groups[0]["lr"], **self.metrics.record()}
            record["seconds_left"] = max(0, settings.images - self.images) / record["images_per_second"]
            self._notify(lambda callback: callback.on_log(record))
            self.metrics.reset()
        if save or preview or stopping:
            with self.metrics.paused():
                scores = self._measure() if measure else {}
                if save or stopping:  # before the preview, so that its errors cannot lose the weights
                    self._save(scores)
                if preview:
                    average = self.full_ema_model()
                    self._notify(lambda callback: callback.on_preview(average, self.images))

    def _check(self) -> None:
        """Raise an error if a step was not finite, after repeating it with the weights before it.

        Otherwise the last checkpoint is confirmed, and older ones are pruned.
        """
        if (step := self.nonfinite_guard.first()) is not None:
            self._raise_nonfinite(step, taken=False)
        self.checkpoints.confirm()

    def _check_weights(self) -> None:
        """Raise an error if the last step made the weights invalid: its batch must have a finite loss and gradient."""
        step = self.images // self.settings.batch_size - 1
        buffers = list(self.denoiser.net.buffers())
        before = [buffer.clone() for buffer in buffers]
        _, total, norm = self._gradient(step, Stopwatch(self.device))
        self.adam.zero_grad(set_to_none=True)
        if buffers:
            torch._foreach_copy_(buffers, before)
        assert self._first_loss is not None
        usual = max(float(self._first_loss), self.settings.batch_size)
        if not (math.isfinite(norm) and float(total) < nonfinite.EXPLODED * usual):
            self._raise_nonfinite(step, taken=True)

    def _raise_nonfinite(self, step: int, *, taken: bool) -> NoReturn:
        self.adam.zero_grad(set_to_none=True)
        with seeding.deterministic():
            micro_batches = self.train_step.compute_gradients(self.ddp_model, step, Stopwatch(self.device))
        gather = self.strategy.all_gather
        nonfinite.raise_nonfinite(
            self.folder if self.strategy.rank == 0 else None,
            self.denoiser.sde,
            step=step,
            seed=self.settings.seed,
            batches=[(gather(x0), Loss(*map(gather, loss))) for x0, loss in micro_batches],
            net={name: self.strategy.full_tensor(x) for name, x in self.denoiser.net.state_dict().items()},
            about=self.about,
            taken=taken,
            go_on=self.checkpoints.advice(None if taken else step * self.settings.batch_size),
        )

    def _notify(self, event: Callable[[Callback], None]) -> None:
        for callback in self.callbacks if self.strategy.rank == 0 else ():
            event(callback)

    def validation_loss(self) -> float | None:
        """Return the loss of the EMA weights on held-out images, with fixed noise; a collective operation."""
        return self.train_step.validation_loss(self.ema_model)

    def full_ema_model(self) -> TrainedModel:
        """Return the model with EMA weights, gathered in this process; a collective operation."""
        full_model = copy.copy(self.ema_model)
        full_model._modules = {
            **self.ema_model._modules,
            "net": self.strategy.gather_model(self.ema_model.net),
        }
        return full_model

    def _measure(self) -> Mapping[str, MetricValue]:
        """Compute metrics of samples in the first process, for all; a collective operation."""
        average = self.full_ema_model()
        assert self.quality is not None
        mine = dict(self.quality(average, self.images)) if self.strategy.rank == 0 else {}
        scores: Mapping[str, MetricValue] = self.strategy.all_gather_object(mine)[0]
        if scores:
            self._notify(lambda callback: callback.on_metrics(scores, self.images))
        return scores

    def _save(self, scores: Mapping[str, MetricValue]) -> None:
        self._check_weights()
        path = self.checkpoints.save(
            Checkpoint(
                images=self.images,
                net=self.denoiser.net.state_dict(),
                ema=self.ema_model.net.state_dict(),
                optimizer=to_tensors(self.adam),
                objective=self.objective.state(),
                about={
                    **self.about,
                    "validation": self.validation_loss(),
                    "metrics": {name: score.plain() for name, score in scores.items()},
                },
            )
        )
        if self.images >= self.settings.images:
            self.checkpoints.confirm()
        self._notify(lambda callback: callback.on_checkpoint(path, self.images))
