"""Which of the processes of a ``torchrun`` says what all of them have to say."""

import hashlib
import os
import time
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

PATIENCE = 1.0
"""Seconds in which the main process should have said the same."""


def announces(message: str, *, consequence: bool = False) -> bool:
    """Whether this process is the one to print a message that others may have, too.

    The main process does at once; another one where the main process does not say the same. Processes know of each
    other by the store of ``torchrun``, which outlives them; where there is none, each speaks for itself.

    Arguments:
        message: the message.
        consequence: whether it only follows from the failure of another process; then it is of interest only where
            that one was killed and could not say why.
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
        attempt = f"sde_gen said {os.environ.get('TORCHELASTIC_RESTART_COUNT', '')}"
        key = f"{attempt} {hashlib.sha256(message.encode()).hexdigest()}"
        if consequence:
            time.sleep(2 * PATIENCE)
            return int(store.add(attempt, 1)) == 1
        if os.environ.get("RANK") != "0":
            last = time.monotonic() + PATIENCE
            while time.monotonic() < last and not store.check([key]):
                time.sleep(0.02)
        store.add(attempt, 1)
        return int(store.add(key, 1)) == 1
    except (RuntimeError, ValueError, KeyError):  # the store is gone
        return True
