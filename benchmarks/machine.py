"""Machine, versions and timing of the benchmarks."""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from sde_gen.cli import build
from sde_gen.cli.versions import package_versions
from sde_gen.utils.timing import synchronize


def count(text: str) -> int:
    """A number of something on a command line, at least 1."""
    return _at_least(1, text)


def rounds(text: str) -> int:
    """A number of rounds on a command line, at least 2: one shows no spread."""
    return _at_least(2, text)


def device(text: str) -> torch.device:
    """A device on a command line."""
    try:
        return build.device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)


def about(device: torch.device) -> dict[str, Any]:
    """Machine, threads, commit and versions."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }


def name(facts: dict[str, Any]) -> str:
    """Return the name of the processor or of the accelerator."""
    return str(facts["processor"] if facts["device"] == "cpu" else facts["device"])


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of some work, from an idle device to an idle device."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
