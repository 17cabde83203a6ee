"""The scripts that time run from end to end, on the smallest settings; their figures mean nothing here."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import (
    attention,
    import_weights,
    likelihood_cost,
    sample_overhead,
    scaling,
    threads,
    train_step,
)
from sde_gen.interop.guided_diffusion import reader as guided_diffusion
from sde_gen.model import DDPMpp


def run(script, monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--device", "cpu", "--out", str(tmp_path), *arguments])
    script.main()
    (path,) = tmp_path.glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_overhead_of_sampling(monkeypatch, tmp_path, capsys):
    found = run(sample_overhead, monkeypatch, tmp_path, "--rounds", "2", "--steps", "3", "--batches", "2")
    calls = {(row["solver"], row["calls"]) for row in found["rows"]}
    assert calls == {("dpm_solver_pp", 4), ("heun", 7), ("euler_maruyama", 4), ("straight_adams", 4)}
    assert all(0 < share < 1 for row in found["rows"] for share in row["in_the_sampler"])
    assert torch.__version__.startswith(found["versions"]["torch"].partition("+")[0])
    assert "share of the time outside the network" in capsys.readouterr().out


@pytest.mark.slow
def test_the_cost_of_the_likelihood(monkeypatch, tmp_path):
    """Every contestant answers what ours does, or the script ends."""
    found = run(likelihood_cost, monkeypatch, tmp_path, "--rounds", "2", "--batch", "2", "--probes", "1", "2")
    assert [(row["probes"], row["way"].partition(",")[0]) for row in found["rows"]] == [
        (1, "ours"),
        (1, "a pass for each"),
        (2, "ours"),
        (2, "ours"),
        (2, "batch repeated"),
        (2, "a pass for each"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_threads(monkeypatch, tmp_path, capsys):
    """Training and evaluation with one thread and with the choice, alone; the commands themselves are started."""
    words = ["--rounds", "2", "--threads", "1", "--loads", "0", "--images", "256", "--n", "2", "--steps", "1"]
    monkeypatch.setattr(threads, "NETWORK", [*threads.NETWORK, "model.width=8", "model.blocks=1"])
    monkeypatch.setattr(sys, "argv", [threads.__name__, *words, "--out", str(tmp_path)])
    threads.main()
    rows = json.loads((tmp_path / "threads_cpu.json").read_text())["rows"]
    assert [(row["task"], row["threads"]) for row in rows] == [
        (task, count) for task in ("evaluate", "train") for count in (1, None)
    ]
    assert all(1 <= used <= torch.get_num_threads() for row in rows for used in row["used"])
    assert all(row["cpu_seconds"][0] > 0 for row in rows)
    assert "images/s" in capsys.readouterr().out


def test_threads_that_change_a_likelihood_end_the_script(monkeypatch, tmp_path):
    """The commands stand aside; what they report is made up, and the load is real."""
    values = iter([1.0, 1.0, 1.0, 1.001])

    def command(name, *words):
        (path,) = (Path(word.removeprefix("run=")) for word in words if word.startswith("run="))
        (path if name == "train" else tmp_path).mkdir(exist_ok=True)
        if name == "train":
            (path / "log.jsonl").write_text('{"images_per_second": 50}\n{"images_per_second": 100}\n')
        else:
            (out,) = (Path(word.removeprefix("out=")) for word in words if word.startswith("out="))
            out.mkdir(exist_ok=True)
            (out / "bpd.json").write_text(json.dumps({"seconds": 2.0, "per_image": [next(values)]}))
        return "| threads | 2 (threads=2) |", 3.0

    monkeypatch.setattr(threads, "command", command)
    words = ["--rounds", "2", "--threads", "2", "--loads", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [threads.__name__, *words])
    with pytest.raises(SystemExit, match=r"1\.001 bits/dim .* 1\.0 with another"):
        threads.main()
    values = iter([1.0] * 4)
    threads.main()
    rows = json.loads((tmp_path / "out" / "threads_cpu.json").read_text())["rows"]
    assert [(row["task"], row["load"], row["used"]) for row in rows] == [
        ("evaluate", 1, [2, 2]),
        ("evaluate", 1, [2, 2]),
        ("train", 1, [2, 2]),
        ("train", 1, [2, 2]),
    ]
    assert rows[2]["images_per_second"] == [100, 100, 100], "the first record holds the start"


def test_attention(monkeypatch, tmp_path):
    """Both ways answer the same, or the script ends."""
    monkeypatch.setattr(attention, "SIZES", [(2, 8, 2, 4)])
    found = run(attention, monkeypatch, tmp_path, "--rounds", "2", "--calls", "1")
    assert [row["dtype"] for row in found["rows"]] == ["torch.float32", "torch.bfloat16"]
    monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda query, key, value: value)
    with pytest.raises(AssertionError):
        run(attention, monkeypatch, tmp_path, "--rounds", "2")


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        (train_step, ["--rounds", "1"], "--rounds must be at least 2"),
        (train_step, ["--device", "abacus"], "device=abacus is not available"),
        (sample_overhead, ["--rounds", "1"], "argument --rounds: 1 is not a whole number of at least 2"),
        (sample_overhead, ["--solvers", "magic"], "invalid choice: 'magic'"),
        (likelihood_cost, ["--probes", "0"], "argument --probes: 0 is not a whole number of at least 1"),
        (likelihood_cost, ["--device", "abacus"], "device=abacus is not available"),
        (scaling, ["--rounds", "0"], "must be at least 1"),
        (scaling, ["--teams", "none"], "--teams none: there are ddp, fsdp"),
    ],
)
def test_mistakes_are_answered_before_anything_is_timed(script, arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_step_that_does_not_fit_is_left_out(capsys):
    """The others' rounds go on; the gradient it had left is gone."""
    net = torch.nn.Linear(2, 2)
    asked = []

    def large(step):
        asked.append(step)
        if step == 3:
            net(torch.ones(1, 2)).sum().backward()
            raise torch.OutOfMemoryError("CUDA out of memory")

    built = [("small", net, lambda step: None), ("large", net, large)]
    speeds = train_step.timed(built, train_step.SMALL, torch.device("cpu"), rounds=3, steps=2)
    assert {name: len(found) for name, found in speeds.items()} == {"small": 3}
    assert asked == [0, 1, 2, 3]
    assert net.weight.grad is None
    assert "left out: large: out of memory" in capsys.readouterr().out


def test_who_answers_something_else_is_not_timed():
    with pytest.raises(SystemExit, match="wrong answers something else"):
        likelihood_cost.check("wrong", (torch.ones(3),), (torch.ones(3) * 1.1,))


@pytest.mark.slow
def test_the_throughput_of_a_gpu(monkeypatch):
    """On a CPU, without generated code: CUDA graphs are not available, which the row shows."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **options: compile_(self, backend="aot_eager", **options)
    )
    net = DDPMpp(shape=(3, 8, 8), width=8, multipliers=(1, 2), blocks=1).eval()
    arguments = argparse.Namespace(device=torch.device("cpu"), large=2, seconds=0.0)
    subject = sample_overhead.Subject(name="small", net=net, shape=(3, 8, 8))
    rows = list(sample_overhead.throughput(subject, arguments))
    assert len(rows) == 12
    assert {sample_overhead._compiler(row) for row in rows} == {"eager", "blocks", "graphs (failed: eager)"}
    for row in rows:
        assert row["seconds_of_50000_images"] == pytest.approx(50_000 / row["images_per_second"])


@pytest.mark.long
def test_a_network_to_import_is_made(monkeypatch):
    """Of the names and shapes that its reader asks for, of which there are none before."""
    small = {
        "model_channels": 32,
        "num_head_channels": 32,
        "channel_mult": [1],
        "attention_resolutions": [1],
        "num_res_blocks": 1,
    }
    config = {**import_weights.CONFIG, **small}
    monkeypatch.setattr(import_weights, "CONFIG", config)
    tensors = import_weights.guided_diffusion_tensors()
    assert tensors["input_blocks.0.0.weight"].shape == (32, 3, 3, 3)
    assert guided_diffusion.read(tensors, config).shape == (3, 64, 64)
