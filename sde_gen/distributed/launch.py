"""Whether this process was begun together with others."""

import importlib
import os

ENV_VARS = frozenset({"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
"""What ``torchrun`` tells of the others, by the environment."""


def is_distributed() -> bool:
    """Whether the environment tells of other processes, as it does under ``torchrun``.

    Of the tasks of a job that Hydra's launcher for submitit sent to SLURM, submitit knows; it is told on.
    """
    if "SUBMITIT_EXECUTOR" in os.environ and not ENV_VARS & os.environ.keys():
        submitit = importlib.import_module("submitit")
        if submitit.JobEnvironment().num_tasks > 1:
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return os.environ.keys() >= ENV_VARS
