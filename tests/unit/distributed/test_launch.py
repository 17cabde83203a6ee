"""Who else was begun with this process, as torchrun or submitit tell it."""

import pickle
import sys
from types import SimpleNamespace

import pytest

from sde_gen.cli import evaluate, sample, train
from sde_gen.distributed.launch import TOLD, launched


@pytest.fixture
def alone(monkeypatch):
    for name in (*TOLD, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


def submitit(monkeypatch, tasks):
    """As much of submitit as tells a task of the others."""

    def export(*, set_cuda_visible_devices):
        assert not set_cuda_visible_devices  # teams choose by the local rank
        for name in TOLD:
            monkeypatch.setenv(name, "1")

    helpers = SimpleNamespace(TorchDistributedEnvironment=lambda: SimpleNamespace(export=export))
    fake = SimpleNamespace(JobEnvironment=lambda: SimpleNamespace(num_tasks=tasks), helpers=helpers)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")


@pytest.mark.usefixtures("alone")
def test_a_process_is_alone_unless_told(monkeypatch):
    assert not launched()
    for name in TOLD:
        assert not launched()
        monkeypatch.setenv(name, "1")
    assert launched()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("tasks", [1, 2])
def test_the_tasks_of_a_job_are_told(monkeypatch, tasks):
    submitit(monkeypatch, tasks)
    assert launched() == (tasks > 1)
    assert launched() == (tasks > 1)  # once is enough


@pytest.mark.usefixtures("alone")
def test_torchrun_within_a_job_is_what_counts(monkeypatch):
    for name in TOLD:
        monkeypatch.setenv(name, "1")
    submitit(monkeypatch, 2)
    monkeypatch.setitem(sys.modules, "submitit", None)  # not asked
    assert launched()


@pytest.mark.parametrize("door", [train, sample, evaluate])
def test_what_a_door_does_can_be_sent_to_another_machine(door):
    """By its name: what it refers to, such as PyTorch's classes, cannot be."""
    task = vars(door.main)["task"]
    assert pickle.loads(pickle.dumps(task)) is task
