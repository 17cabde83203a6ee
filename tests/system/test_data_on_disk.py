"""Runs on data on the disk, through all commands."""

import json

import pytest
import torch

from sde_gen.checkpoint import store as checkpoint
from tests.helpers.commands import TINY, enter, mistake
from tests.helpers.tar_images import shards


@pytest.mark.slow
def test_a_run_from_shards_is_evaluated_and_restores_held_out_images(tmp_path):
    shards(tmp_path, images=12)
    words = [
        "data=shards",
        f"data.train='{tmp_path}/train-{{000..002}}.tar'",
        "data.size=8",
        "data.test_fraction=0.3",
    ]
    for name, more in (("read", ()), ("cached", (f"data.cache={tmp_path / 'cache'}",))):
        enter("train", *TINY, *words, *more, "conditioning=class", f"run={tmp_path / name}")
        enter(
            "evaluate",
            f"run={tmp_path / name}",
            "n=3",
            "metrics=[bpd]",
            "integrator.steps=4",
            f"out={tmp_path / name / 'e'}",
        )
    read, cached = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("read", "cached"))
    assert all(torch.equal(read.ema[key][()], cached.ema[key][()]) for key in read.ema)
    values = [json.loads((tmp_path / name / "e" / "bpd.json").read_text()) for name in ("read", "cached")]
    assert values[0]["per_image"] == values[1]["per_image"]
    assert (
        values[0]["settings"]["data"] != values[1]["settings"]["data"]
    )  # identified by path, whatever the content
    enter(
        "sample",
        f"run={tmp_path / 'read'}",
        "task=vary",
        "image=0",
        "n=2",
        "steps=2",
        f"out={tmp_path / 's'}",
    )


def test_damaged_shards_give_a_one_line_error(tmp_path, capfd):
    answer = mistake(capfd, "train", "data=shards", f"data.train={tmp_path}/*.tar", f"run={tmp_path / 'run'}")
    assert "no shard matches" in answer
    assert not (tmp_path / "run").exists()
