"""Processes of a launcher: detect them, and report an error of several processes once."""

import hashlib
import importlib
import os
import time
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

ENV_VARS = frozenset({"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
"""Environment variables by which ``torchrun`` describes the group of processes."""

REPORT_TIMEOUT = 1.0
"""Seconds that other processes wait for the main process to report the same message."""


def is_distributed() -> bool:
    """Return whether a launcher such as ``torchrun`` started this process together with others.

    For a task of a SLURM job of Hydra's submitit launcher the environment variables are first set from submitit's.
    """
    if "SUBMITIT_EXECUTOR" in os.environ and not ENV_VARS & os.environ.keys():
        submitit = importlib.import_module("submitit")
        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return os.environ.keys() >= ENV_VARS


def should_report(message: str, *, consequence: bool = False) -> bool:
    """Return whether this process should print a message that other processes may have as well.

    The main process prints it at once, another process only if the main process does not report the same message.
    Processes share this state in the store of ``torchrun``, which outlives them; without one every process reports.

    Arguments:
        message: the message.
        consequence: whether the message only follows from the failure of another process; it is then reported only
            if that process was killed and could not report the cause.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=5),
        )
        attempt = f"sde_gen reported {os.environ.get('TORCHELASTIC_RESTART_COUNT', '')}"
        key = f"{attempt} {hashlib.sha256(message.encode()).hexdigest()}"
        if consequence:
            time.sleep(2 * REPORT_TIMEOUT)
            return int(store.add(attempt, 1)) == 1
        if os.environ.get("RANK") != "0":
            deadline = time.monotonic() + REPORT_TIMEOUT
            while time.monotonic() < deadline and not store.check([key]):
                time.sleep(0.02)
        store.add(attempt, 1)
        return int(store.add(key, 1)) == 1
    except (RuntimeError, ValueError, KeyError):  # the store no longer exists
        return True
