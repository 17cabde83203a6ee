"""Generation of samples: batch by batch, by any number of processes."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from sde_gen.cli import console
from sde_gen.distributed.auto_batch import AutoBatchSize
from sde_gen.distributed.work_queue import WorkQueue
from sde_gen.solver.callbacks import Hook, NFECounter, Progress, StopOnNaN, Trajectory
from sde_gen.utils import atomic

Draw = Callable[[range, list[Hook]], Tensor]
"""Function from consecutive indices of samples and hooks to these samples with shape (B, *event)."""


def coupling(what: str, n: int, batch_size: int) -> str | None:
    """Describe that results depend on the batch size; None for a single batch.

    Arguments:
        what: what couples the samples of a batch, such as the name of a solver.
        n: number of samples.
        batch_size: samples of a batch.
    """
    if n <= batch_size:
        return None
    return (
        f"{what} takes steps or noise levels that the samples of a batch share: with another batch_size than "
        f"{batch_size}, or another n than {n}, the same seed gives slightly other results"
    )


@dataclass(frozen=True, kw_only=True)
class GeneratedSamples:
    """Samples and the cost of their generation.

    Arguments:
        x: samples in model space with shape (n, *event), on the CPU.
        nfe: network evaluations per sample.
        trajectory: states of the first batch, empty unless recorded.
        seconds: time from the start of the first batch to the end of the last.
    """

    x: Tensor
    nfe: float
    trajectory: Trajectory
    seconds: float


@dataclass(kw_only=True)
class SampleGeneration:
    """Generate n samples by all processes of a work queue.

    A batch is the same samples whichever process generates it. It is saved in a file, and the main process merges the
    files: processes on several machines need one file system, as they do for the run folder.

    Arguments:
        draw: generates the samples of a batch.
        nets: the networks whose evaluations are counted.
        n: number of samples.
        batch_size: samples of a batch.
        folder: folder of the batches until they are merged.
        queue: the processes.
        record_trajectory: whether to keep the states of the first batch.
        splittable: whether a batch may be generated in parts when the device runs out of memory.
        on_resize: called with the number of samples of a part before the first one, and again when it has changed.
    """

    draw: Draw
    nets: Sequence[nn.Module]
    n: int
    batch_size: int
    folder: Path
    queue: WorkQueue
    record_trajectory: bool = False
    splittable: bool = True
    on_resize: Callable[[int], object] = lambda size: None

    def __post_init__(self) -> None:
        size = min(self.batch_size, self.n)
        self.auto_batch = AutoBatchSize(size=size, splittable=self.splittable, on_resize=self.on_resize)

    def samples(self) -> GeneratedSamples | None:
        """Generate the share of this process, and wait for the others; None but in the main process.

        Raises:
            FloatingPointError: a sample is not finite.
            OSError: the disk is full.
            OutOfMemoryError: the device has no memory for a batch, or not for a single sample of one in parts.
        """
        whole = range(self.n)
        batches = [whole[first : first + self.batch_size] for first in range(0, self.n, self.batch_size)]
        with ExitStack() as stack:  # the main process makes the folder, and deletes it after the merge
            merged = self.folder / "samples.npz"
            place = atomic.scratch(merged)
            parts = Path(self.queue.broadcast_object("parts", lambda: str(stack.enter_context(place))))
            self.auto_batch.warm_up()  # before the timer starts: compiling takes minutes
            begin = time.perf_counter()
            with console.progress(shown=self.queue.is_main) as bar:
                row = bar.add_task("samples", total=self.n, note="")
                update = partial(bar.update, row)
                for index in self.queue.take("batches", range(len(batches))):
                    part = self._batch(batches[index], update)
                    with atomic.naming(parts, merged):
                        atomic.put(parts / f"{index}.safetensors", safetensors.torch.save(part))
                    self.queue.store.add("drawn", len(part["x"]))
                if not self.queue.is_main:
                    return None
                for _ in self.queue.wait_all("batches"):
                    update(completed=self._num_finished(), note="waiting for other processes")
                update(completed=self.n, note="")
            seconds = time.perf_counter() - begin
            files = [parts / f"{index}.safetensors" for index in range(len(batches))]
            return self._merge([safetensors.torch.load(file.read_bytes()) for file in files], seconds)

    def _num_finished(self) -> int:
        """Return the number of samples in finished batches of all processes."""
        return int(self.queue.store.add("drawn", 0))

    def _batch(self, rows: range, update: Callable[..., None]) -> dict[str, Tensor]:
        """Generate a batch, in parts once the device ran out of memory for the whole."""
        trajectory = Trajectory()

        def part(some: range) -> tuple[Tensor, int]:
            hooks: list[Hook] = [StopOnNaN(), Progress(partial(self._step, update, len(some)))]
            if self.record_trajectory and some.start == 0:
                hooks.append(trajectory)
            with ExitStack() as stack:
                counters = [stack.enter_context(NFECounter(net)) for net in self.nets]
                return self.draw(some, hooks).cpu(), sum(counter.samples for counter in counters)

        samples, evaluations = zip(*self.auto_batch.map(rows, part), strict=True)
        record_trajectory = {
            "times": torch.tensor(trajectory.times, dtype=torch.float64),
            "states": torch.stack(trajectory.states) if trajectory.states else torch.empty(0),
        }
        return {"x": torch.cat(samples), "evaluations": torch.tensor(sum(evaluations)), **record_trajectory}

    def _step(self, update: Callable[..., None], count: int, done: int, steps: int) -> None:
        update(
            completed=self._num_finished() + count * done // steps, note=f"step {done} of {steps} for {count}"
        )

    def _merge(self, parts: list[dict[str, Tensor]], seconds: float) -> GeneratedSamples:
        trajectory = Trajectory()
        trajectory.times, trajectory.states = parts[0]["times"].tolist(), list(parts[0]["states"])
        return GeneratedSamples(
            x=torch.cat([part["x"] for part in parts]),
            nfe=sum(int(part["evaluations"]) for part in parts) / self.n,
            trajectory=trajectory,
            seconds=seconds,
        )
