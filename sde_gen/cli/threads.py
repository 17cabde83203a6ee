"""Choice of threads and memory format on the CPU, shared by the commands."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli.app import require_int
from sde_gen.cli.run import Run
from sde_gen.training.autotune import (
    DEFAULT_THREADS,
    Autotune,
    Chooser,
    Execution,
    FixedExecution,
    TimeCheck,
    stoppable,
    thread_counts,
    trial_samples,
)

THREAD_VARS = "OMP_NUM_THREADS", "MKL_NUM_THREADS"
"""Environment variables that set the number of threads."""


@dataclass(frozen=True, kw_only=True)
class ThreadChoice:
    """A chooser of threads and the reason of the choice.

    Arguments:
        chooser: the chooser.
        why: origin of the number of threads.
    """

    chooser: Chooser
    why: str

    def summary(self, execution: Execution) -> str:
        """Return the number of threads and its reason, for a table."""
        return f"{execution.threads} ({self.why})"


def choice(threads: int | None, device: torch.device, stored: dict[str, Any] | None = None) -> ThreadChoice:
    """Choose threads by the setting, the environment, the resumed training, or a measurement, in this order.

    A resumed training keeps its memory format.

    Arguments:
        threads: the setting; None for none.
        device: device of the network; nothing is measured except on the CPU.
        stored: execution settings in the checkpoint of a resumed training.
    """
    stored = stored or {}
    before: Any = stored.get("channels_last")
    known = before if isinstance(before, bool) else None
    if threads is not None:
        measured = known is None and device.type == "cpu"
        given = (
            Autotune(threads=[threads]) if measured else FixedExecution(threads=threads, channels_last=known)
        )
        return ThreadChoice(chooser=given, why=f"threads={threads}")
    if device.type != "cpu":
        return ThreadChoice(chooser=FixedExecution(channels_last=known), why="PyTorch's default")
    variables = [name for name in THREAD_VARS if os.environ.get(name)]
    if variables:  # of two that differ, PyTorch follows one
        decisive = next(
            (name for name in variables if os.environ[name] == str(DEFAULT_THREADS)), variables[0]
        )
        return ThreadChoice(
            chooser=FixedExecution(channels_last=known), why=f"{decisive}={os.environ[decisive]}"
        )
    if isinstance(stored.get("threads"), int):
        excess = f", more than the {DEFAULT_THREADS} cores here: threads={DEFAULT_THREADS} is faster, but other bits"
        why = "as the training began" + (excess if stored["threads"] > DEFAULT_THREADS else "")
        return ThreadChoice(chooser=FixedExecution(threads=stored["threads"], channels_last=known), why=why)
    return ThreadChoice(
        chooser=Autotune(threads=thread_counts()),
        why=f"of {DEFAULT_THREADS} the fastest number, measured at the start",
    )


def of_training(config: DictConfig, device: torch.device) -> ThreadChoice:
    """Choose threads for a training; a resumed one keeps its choice.

    Raises:
        ValueError: threads is no positive whole number.
    """
    _check(config)
    stored: dict[str, Any] = {}
    for path in reversed(checkpoint.paths(Path(config.run) / "checkpoints")):
        about = checkpoint.about(path)
        if about:
            engine = (about.get("config") or {}).get("engine") or {}
            execution = about.get("execution") or {"channels_last": engine.get("channels_last")}
            stored = execution if isinstance(execution, dict) else {}
            break
    return choice(config.threads, device, stored)


@contextmanager
def in_use(config: DictConfig, run: Run) -> Iterator[str]:
    """Return a context that runs the network with its fastest number of threads; yield a summary of the choice.

    Its memory format stays.

    Raises:
        ValueError: threads is no positive whole number.
    """
    _check(config)
    count = trial_samples(run.event, config.get("batch_size", config.n))
    denoiser = run.bind(run.conditioning.null(count))
    x = torch.zeros(count, *run.event, device=run.device)
    t = torch.tensor(run.denoiser.sde.t_min, dtype=torch.float64)

    @torch.no_grad()
    def trial(execution: Execution, check: TimeCheck) -> None:
        del execution
        with stoppable(run.denoiser.net, check):
            denoiser(x, t)

    chosen = choice(config.threads, run.device)
    execution = chosen.chooser((False,), trial)
    with execution.applied():
        yield chosen.summary(execution)


def _check(config: DictConfig) -> None:
    if config.threads is not None:
        require_int(config, "threads")
