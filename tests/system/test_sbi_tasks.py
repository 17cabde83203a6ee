"""The comparison of posteriors: rows that are kept, exact draws that are reproducible, and the table."""

import json
import sys

import pytest
import torch

from benchmarks import sbi_tasks

TINY = [
    "model.width=8",
    "model.depth=1",
    "engine.images=512",
    "engine.batch_size=128",
    "lr_schedule.warmup=128",
]


@pytest.mark.slow
def test_rows_are_made_once_and_the_table_holds_their_means(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sbi_tasks, "OBSERVATIONS", 2)
    monkeypatch.setattr(sbi_tasks, "DRAWS", 100)
    monkeypatch.setattr(sbi_tasks, "TRAINING", 300)
    monkeypatch.setattr(sbi_tasks, "VALIDATION", 50)
    out = tmp_path / "table.json"
    words = ["--folder", str(tmp_path / "rows"), "--tasks", "two_moons", "--out", str(out), "--set", *TINY]
    monkeypatch.setattr(sys, "argv", ["sbi_tasks", *words, "engine.validate=50"])
    sbi_tasks.main()
    found = json.loads(out.read_text())
    mean = {method: row["two_moons"]["mean"] for method, row in found["summary"].items()}
    assert mean["prior"] > 0.85 > 0.65 > mean["reference"]
    assert 0 < found["rows"][0]["training_cpu_s"] < 120
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").glob("*.json")}
    assert len(before) == 3
    sbi_tasks.main()
    assert json.loads(out.read_text()) == found
    assert before == {path: path.stat().st_mtime_ns for path in before}
    one, other = (sbi_tasks.reference("two_moons", 0, seed) for seed in (1, 1))
    assert torch.equal(one, other)
    assert not torch.equal(*one)
    assert "| `two_moons` |" in capsys.readouterr().out
