"""What every door does before its task."""

import sys

import pytest
import torch

from sde_gen.door import door


def test_float32_is_float32(monkeypatch):
    """Convolutions on CUDA included, where PyTorch by itself takes 10 bits of their factors."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    seen = []
    door("sample")(lambda config: seen.append((config.run, torch.backends.cudnn.allow_tf32)))()
    assert seen == [("anywhere", False)]


def test_mistakes_of_the_task_are_a_line(monkeypatch, capsys):
    def task(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(sys, "argv", ["sample", "run=anywhere"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended:
        door("sample")(task)()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: the memory did not suffice; try a smaller batch_size")
