"""The plot of quality, coverage and speed: its measures at both ends, and rows that are kept."""

import json

import pytest
import torch

from benchmarks import trilemma
from sde_gen.evaluation.features import Classifier, extract


@pytest.mark.long
def test_copies_have_both_and_one_repeated_image_has_no_coverage():
    images = torch.randint(256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    reference = extract(Classifier(weights="digits"), images)
    entry = trilemma.Entry(model="copies", sampler="none", nfe=1, draw=lambda n: images[:n])
    row = trilemma.measure(entry, 60, reference)
    assert (row["precision"], row["recall"], row["nfe"]) == (1.0, 1.0, 1)
    one = trilemma.Entry(model="one", sampler="none", nfe=1, draw=lambda n: images[:1].repeat(n, 1, 1, 1))
    row = trilemma.measure(one, 60, reference)
    assert row["precision"] == 1.0
    assert row["recall"] < 0.05


@pytest.mark.long
def test_measured_rows_are_kept(tmp_path, monkeypatch, capsys):
    out, first = (
        tmp_path / "rows.json",
        {"recall": 0.5, "recall_se": 0.1, "precision_se": 0.1, "fd": 1.0, "fd_se": 0.1},
    )
    row = {"model": "given", "sampler": "ddim", "nfe": 3, "n": 7, "precision": 0.25, **first}
    out.write_text(json.dumps({"reference": 1000, "rows": [row]}))

    def draw(n):
        raise AssertionError("drawn again")

    entry = trilemma.Entry(model="given", sampler="ddim", nfe=3, draw=draw)
    monkeypatch.setattr(trilemma, "entries", lambda runs, most, splits: iter([entry]))
    trilemma.main(["--samples", "7", "--out", str(out), "--picture", str(tmp_path / "plot.png")])
    assert json.loads(out.read_text())["rows"] == [row]
    assert (tmp_path / "plot.png").stat().st_size > 0
