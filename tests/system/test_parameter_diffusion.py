"""Diffusion of network parameters: from files of weights to files of weights, and the parts of its benchmark."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sde_gen as sg
from benchmarks import parameter_diffusion
from tests.system.test_commands import enter
from tests.system.test_conditions import SHORT


def classifier():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.long
def test_samples_are_networks_that_load(tmp_path):
    for seed in range(12):
        torch.manual_seed(seed)
        save_file(classifier().state_dict(), tmp_path / f"{seed}.safetensors")
    run, out = tmp_path / "run", tmp_path / "out"
    enter("train", *SHORT, "data=checkpoints", f"data.root={tmp_path}", "data.pattern=*.safetensors", "codec=principal",
          "codec.components=5", "model=mlp", "model.width=8", "model.depth=1", f"run={run}")  # fmt: skip
    enter("sample", f"run={run}", f"out={out}", "steps=2", "n=3", "device=cpu", "threads=1")
    files = sorted((out / "networks").iterdir())
    assert [path.name for path in files] == [f"{i:06d}.safetensors" for i in range(3)]
    net = classifier()
    net.load_state_dict(load_file(files[0]))
    opened = sg.load(run, device="cpu")
    assert opened.run.event == (5,)
    distance = (net(torch.ones(1, 64)) - classifier()(torch.ones(1, 64))).detach().abs().max()
    assert 0 < float(distance) < 100
    assert (out / "samples.png").stat().st_size > 0


def test_networks_of_the_benchmark_are_those_of_pytorch():
    w = parameter_diffusion.initial(2, torch.Generator().manual_seed(0))
    x, net = torch.rand(5, 64), classifier()
    parts = w[1].split([column.size for column in parameter_diffusion.LAYOUT])
    net.load_state_dict(
        {c.name: p.reshape(c.shape) for c, p in zip(parameter_diffusion.LAYOUT, parts, strict=True)}
    )
    torch.testing.assert_close(parameter_diffusion.logits(w, x[None])[1], net(x))


def test_permuted_copies_are_aligned_and_keep_their_function():
    w = parameter_diffusion.initial(1, torch.Generator().manual_seed(0))
    b0, w0, b2, w2 = w[0].split([column.size for column in parameter_diffusion.LAYOUT])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    other = torch.cat(
        [b0[order], w0.reshape(16, 64)[order].flatten(), b2, w2.reshape(10, 16)[:, order].flatten()]
    )
    both = torch.stack([w[0], other])
    x = torch.rand(1, 5, 64)
    first, second = parameter_diffusion.logits(both, x)
    torch.testing.assert_close(first, second)
    assert not torch.equal(both[0], both[1])
    aligned = parameter_diffusion.align(both)
    assert torch.equal(aligned[0], aligned[1])


def test_overlap_of_errors_by_hand():
    a = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]).bool()
    assert parameter_diffusion.overlap(a, a[:1]) == pytest.approx((1 + 1 / 4) / 2)
    assert parameter_diffusion.overlap(a, a, same=True) == pytest.approx(1 / 4)


@pytest.mark.long
def test_the_benchmark_compares_all_settings(tmp_path):
    out, picture = tmp_path / "rows.json", tmp_path / "plot.png"
    arguments = [
        "--networks",
        "6",
        "--steps",
        "2",
        "--components",
        "3",
        "--out",
        str(out),
        "--picture",
        str(picture),
    ]
    parameter_diffusion.main(arguments)
    rows = json.loads(out.read_text())["rows"]
    assert [(row["setting"], row["networks"]) for row in rows] == [
        ("one run", 6),
        ("basins", 24),
        ("independent", 6),
        ("aligned", 6),
    ]
    independent, aligned = rows[2]["originals"], rows[3]["originals"]
    assert independent["mean"] == pytest.approx(aligned["mean"], abs=0.05)  # a permutation keeps the function
    assert independent["mean"] > 90
    assert picture.stat().st_size > 0
