"""Ranks and world size from the environment of torchrun or submitit."""

import pickle
import sys
from types import SimpleNamespace

import pytest

from sde_gen.cli import evaluate, sample, train
from sde_gen.distributed.launch import ENV_VARS, is_distributed


@pytest.fixture
def alone(monkeypatch):
    for name in (*ENV_VARS, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


def submitit(monkeypatch, tasks):
    """The part of submitit through which a task finds the others."""

    def export(*, set_cuda_visible_devices):
        assert not set_cuda_visible_devices  # teams choose by the local rank
        for name in ENV_VARS:
            monkeypatch.setenv(name, "1")

    helpers = SimpleNamespace(TorchDistributedEnvironment=lambda: SimpleNamespace(export=export))
    fake = SimpleNamespace(JobEnvironment=lambda: SimpleNamespace(num_tasks=tasks), helpers=helpers)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")


@pytest.mark.usefixtures("alone")
def test_process_is_single_without_a_launcher(monkeypatch):
    assert not is_distributed()
    for name in ENV_VARS:
        assert not is_distributed()
        monkeypatch.setenv(name, "1")
    assert is_distributed()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("tasks", [1, 2])
def test_tasks_of_a_job_are_distributed(monkeypatch, tasks):
    submitit(monkeypatch, tasks)
    assert is_distributed() == (tasks > 1)
    assert is_distributed() == (tasks > 1)  # once is enough


@pytest.mark.usefixtures("alone")
def test_torchrun_within_a_job_is_what_counts(monkeypatch):
    for name in ENV_VARS:
        monkeypatch.setenv(name, "1")
    submitit(monkeypatch, 2)
    monkeypatch.setitem(sys.modules, "submitit", None)  # not asked
    assert is_distributed()


@pytest.mark.parametrize("command", [train, sample, evaluate])
def test_a_command_can_be_sent_to_another_machine(command):
    """By its name: what it refers to, such as PyTorch's classes, cannot be."""
    task = command.main
    assert pickle.loads(pickle.dumps(task)).function is task.function
