"""The samples of one call, batch by batch, by any number of processes."""

import time
from collections.abc import Callable
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
"""From the numbers of some samples, in sequence, and hooks to these samples with shape (B, *event)."""


def coupling(what: str, n: int, batch_size: int) -> str | None:
    """Say that results depend on the size of batches; None where there is one batch only.

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
    """What came of it.

    Arguments:
        x: samples in model space with shape (n, *event), on the CPU.
        nfe: network evaluations per sample.
        trajectory: the way of the first batch, empty unless it was watched.
        seconds: time from the first batch's beginning to the last one's end.
    """

    x: Tensor
    nfe: float
    trajectory: Trajectory
    seconds: float


@dataclass(kw_only=True)
class SampleGeneration:
    """Draw n samples with the help of all processes of a crew.

    A batch is the same samples whoever draws it. It is left in a file, and the leader puts the files together: so
    processes on several machines need one file system, as they do for the run folder.

    Arguments:
        draw: makes the samples of a batch.
        net: the network, whose evaluations are counted.
        n: number of samples.
        batch_size: samples of a batch.
        folder: where batches lie until they are put together.
        crew: the processes.
        record_trajectory: whether to keep the way of the first batch.
        splittable: whether a batch may be drawn in parts where the memory of the device does not suffice.
        on_resize: told the number of samples of a part before the first one, and again when it has changed.
    """

    draw: Draw
    net: nn.Module
    n: int
    batch_size: int
    folder: Path
    crew: WorkQueue
    record_trajectory: bool = False
    splittable: bool = True
    on_resize: Callable[[int], object] = lambda size: None

    def __post_init__(self) -> None:
        """Begin with whole batches."""
        size = min(self.batch_size, self.n)
        self.room = AutoBatchSize(size=size, splittable=self.splittable, on_resize=self.on_resize)

    def samples(self) -> GeneratedSamples | None:
        """Do this process' share, and wait for the others; None but for the leader.

        Raises:
            FloatingPointError: a sample is not finite.
            OSError: the disk is full.
            OutOfMemoryError: the device has no memory for a batch, or not for a single sample of one in parts.
        """
        whole = range(self.n)
        batches = [whole[first : first + self.batch_size] for first in range(0, self.n, self.batch_size)]
        with ExitStack() as stack:  # the leader makes the folder, and deletes it when all is put together
            place = atomic.scratch(self.folder / "parts")
            parts = Path(self.crew.broadcast_object("parts", lambda: str(stack.enter_context(place))))
            self.room.warm_up()  # before the clock starts: to compile takes minutes
            begin = time.perf_counter()
            with console.progress(shown=self.crew.is_main) as bar:
                row = bar.add_task("samples", total=self.n, note="")
                tell = partial(bar.update, row)
                for index in self.crew.take("batches", range(len(batches))):
                    part = self._batch(batches[index], tell)
                    atomic.put(parts / f"{index}.safetensors", safetensors.torch.save(part))
                    self.crew.store.add("drawn", len(part["x"]))
                if not self.crew.is_main:
                    return None
                for _ in self.crew.wait_all("batches"):
                    tell(completed=self._drawn(), note="waiting for other processes")
                tell(completed=self.n, note="")
            seconds = time.perf_counter() - begin
            files = [parts / f"{index}.safetensors" for index in range(len(batches))]
            return self._together([safetensors.torch.load(file.read_bytes()) for file in files], seconds)

    def _drawn(self) -> int:
        """Samples in finished batches of all processes."""
        return int(self.crew.store.add("drawn", 0))

    def _batch(self, rows: range, tell: Callable[..., None]) -> dict[str, Tensor]:
        """Draw a batch, in parts once the memory did not suffice for the whole."""
        trajectory = Trajectory()

        def part(some: range) -> tuple[Tensor, int]:
            hooks: list[Hook] = [StopOnNaN(), Progress(partial(self._step, tell, len(some)))]
            if self.record_trajectory and some.start == 0:
                hooks.append(trajectory)
            with NFECounter(self.net) as counter:
                return self.draw(some, hooks).cpu(), counter.samples

        samples, evaluations = zip(*self.room.map(rows, part), strict=True)
        record_trajectory = {
            "times": torch.tensor(trajectory.times, dtype=torch.float64),
            "states": torch.stack(trajectory.states) if trajectory.states else torch.empty(0),
        }
        return {"x": torch.cat(samples), "evaluations": torch.tensor(sum(evaluations)), **record_trajectory}

    def _step(self, tell: Callable[..., None], count: int, done: int, steps: int) -> None:
        tell(completed=self._drawn() + count * done // steps, note=f"step {done} of {steps} for {count}")

    def _together(self, parts: list[dict[str, Tensor]], seconds: float) -> GeneratedSamples:
        trajectory = Trajectory()
        trajectory.times, trajectory.states = parts[0]["times"].tolist(), list(parts[0]["states"])
        return GeneratedSamples(
            x=torch.cat([part["x"] for part in parts]),
            nfe=sum(int(part["evaluations"]) for part in parts) / self.n,
            trajectory=trajectory,
            seconds=seconds,
        )
