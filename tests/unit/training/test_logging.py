"""Metrics gathered and logged in training."""

import json
import time

import pytest
import torch

from sde_gen.distributed.strategy import SingleProcess
from sde_gen.objective import Loss
from sde_gen.sde import VP
from sde_gen.training import JSONL
from sde_gen.training.metrics import EDGES, LABELS, Metrics, peak_memory_mb

CPU = torch.device("cpu")


def losses(log_snr, error, weight=1.0):
    t = VP().t_from_log_snr(torch.tensor(log_snr, dtype=torch.float64))
    error = torch.tensor(error)
    return Loss(weight * error, t, error)


def test_error_is_gathered_by_noise_level():
    meter = Metrics(VP(), CPU, SingleProcess())
    meter.step(
        [losses([-9.0, -2.0, 3.0], [1.0, 2.0, 3.0], 2.0), losses([-1.0], [4.0], 2.0)], torch.tensor(5.0)
    )
    meter.step([losses([3.5, 7.0], [5.0, 6.0], 2.0)], torch.tensor(7.0))
    record = meter.record()
    by_level = {label: value for label, value in record["error_by_log_snr"].items() if value is not None}
    assert by_level == {"-12 to -8": 1.0, "-4 to 0": 3.0, "0 to 4": 4.0, "4 to 8": 6.0}
    assert tuple(record["error_by_log_snr"]) == LABELS
    assert len(LABELS) == len(EDGES) + 1
    assert record["error"] == pytest.approx(3.5)
    assert record["loss"] == pytest.approx(7.0)
    assert record["grad_norm"] == pytest.approx(6.0)
    meter.reset()
    meter.step([losses([9.0], [0.5])], torch.tensor(1.0))
    assert meter.record()["loss"] == 0.5


def test_speed_and_share_of_time():
    meter = Metrics(VP(), CPU, SingleProcess())
    meter.step([losses([0.0] * 30, [1.0] * 30)], torch.tensor(1.0))
    with meter.forward_backward_timer.running():
        time.sleep(0.06)
    time.sleep(0.02)
    with meter.paused():
        time.sleep(0.5)
    record = meter.record()
    assert 75 < record["images_per_second"] <= 375  # 30 in 0.08 s; a busy machine is slower
    assert 0.05 < record["share_outside_forward_backward"] < 0.8


def test_peak_memory_is_of_this_process():
    before = peak_memory_mb(CPU)
    block = torch.ones(2**26)  # 256 MiB, touched
    after = peak_memory_mb(CPU)
    assert 50 < before <= after < 2**20
    assert after > 256
    del block


def test_jsonl_cuts_off_the_undone_future(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    log = JSONL(path)
    log.on_train_start(0, 100)
    for images in (10, 20, 30):
        log.on_log({"images": images, "loss": 0.5})
    path.write_text(path.read_text() + '{"images": 4')
    JSONL(path).on_train_start(20, 100)
    assert [json.loads(line)["images"] for line in path.read_text().splitlines()] == [10, 20]
    assert [file.name for file in path.parent.iterdir()] == ["log.jsonl"]
