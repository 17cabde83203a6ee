"""Conditions as a user finds them: trained, typed, guided, evaluated and opened again; every mistake in a line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import sde_gen as sg
from sde_gen.cli.run_data import open_data
from sde_gen.cli.sample_conditions import examples
from sde_gen.denoiser import NetworkDenoiser
from tests.system.test_commands import enter, mistake

SHORT = [
    *("engine.images=64", "engine.batch_size=8", "engine.log_every=64", "engine.checkpoint_every=64"),
    *("engine.validate=8", "engine.preview_every=64", "preview.n=2", "preview.sampler.steps=1"),
    *("lr_schedule.warmup=8", "optimizer.lr=0.01", "device=cpu", "threads=1"),
]
ENCODER = ["model.inputs.encoder.depth=1", "model.inputs.encoder.heads=2"]
CROSS = ["model=unet_cross", "model.width=8", "model.head_channels=8", *ENCODER]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with texts, one with classes, vectors and texts of its data, and one with images."""
    folder = tmp_path_factory.mktemp("conditions")
    enter("train", *SHORT, "data=digit_grids", "data.count=64", "data.test_count=16", *CROSS,
          "conditioning=text", f"run={folder / 'text'}")  # fmt: skip
    rng = np.random.default_rng(0)
    np.savez(
        folder / "points.npz",
        values=rng.standard_normal((40, 2)),
        label=np.arange(40) % 3,
        vector=3 + rng.standard_normal((40, 2)),
        text=np.array(["left", "right up"])[np.arange(40) % 2],
    )
    enter("train", *SHORT, "data=arrays", f"data.path={folder / 'points.npz'}", "codec=affine", "model=mlp",
          "model.width=8", *ENCODER, "conditioning=several", "+conditioning@conditioning.parts.vector=vector",
          f"run={folder / 'several'}")  # fmt: skip
    gray = rng.integers(0, 4, (40, 1, 4, 4))
    np.savez(folder / "pairs.npz", values=gray, image=3 - gray)
    enter("train", *SHORT, "data=arrays", f"data.path={folder / 'pairs.npz'}", "data.levels=4", "model=ncsnpp",
          "model.width=8", "model.blocks=1", "conditioning=image", f"run={folder / 'image'}")  # fmt: skip
    Image.fromarray(np.full((4, 4), 85, np.uint8)).save(folder / "gray.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / "white.png")
    return folder


def drawn(runs: Path, run: str, out: Path, *words: str, n: int = 2) -> np.ndarray:
    enter("sample", f"run={runs / run}", f"out={out}", "steps=2", f"n={n}", "device=cpu", "threads=1", *words)
    return np.load(out / "samples.npz")["model_space"]


CAPTION = '"three top left, seven bottom right"'


@pytest.mark.long
@pytest.mark.parametrize(
    ("run", "words", "other"),
    [
        ("text", [f"text={CAPTION}"], ["text=one bottom left"]),
        ("several", ["label=1", "text=right up", "vector=[3.1,2]"], ["label=1", "text=right up", "vector=[3,2.5]"]),
        ("several", ["label=1"], ["label=2"]),
        ("image", ["image=gray.png"], ["image=white.png"]),
    ],
)  # fmt: skip
def test_what_is_typed_reaches_the_network(runs, tmp_path, run, words, other) -> None:
    words, other = ([word.replace("image=", f"image={runs}/") for word in some] for some in (words, other))
    first, second = (
        drawn(runs, run, tmp_path / str(number), *some) for number, some in enumerate((words, other))
    )
    assert np.abs(first - second).max() > 0


@pytest.mark.slow
def test_a_list_is_taken_in_turn_whatever_the_batch(runs, tmp_path, capfd) -> None:
    both = drawn(runs, "text", tmp_path / "both", "text=[one top left,two top left]", n=3)
    assert "one top left; two top left" in " ".join(capfd.readouterr().out.split())
    split = drawn(runs, "text", tmp_path / "split", "text=[one top left,two top left]", "batch_size=1", n=3)
    np.testing.assert_allclose(split, both, atol=1e-5)
    alone = drawn(runs, "text", tmp_path / "alone", "text=two top left", n=3)
    np.testing.assert_allclose(alone[1], both[1], atol=1e-5)
    assert np.abs(alone[0] - both[0]).max() > 0


def test_guidance_by_a_text_and_away_from_another(runs, tmp_path) -> None:
    typed = ["text=one top left", "guidance=cfg"]
    plain = drawn(runs, "text", tmp_path / "plain", typed[0])
    one, away, empty, guided = (
        drawn(runs, "text", tmp_path / str(number), *typed, *more)
        for number, more in enumerate(
            (
                ["guidance.scale=1"],
                ["guidance.scale=3", "not_text=two top left"],
                ["guidance.scale=3", "not_text="],
                ["guidance.scale=3"],
            )
        )
    )
    np.testing.assert_array_equal(one, plain)
    np.testing.assert_array_equal(empty, guided)
    assert np.abs(away - guided).max() > 0


def test_every_condition_has_its_own_scale(runs, tmp_path) -> None:
    typed = ["label=1", "text=right up", "guidance=composed_cfg"]
    plain = drawn(runs, "several", tmp_path / "plain", *typed[:2])
    one = drawn(runs, "several", tmp_path / "one", *typed, "guidance.scales={label: 1.0, tokens: 1.0}")
    np.testing.assert_array_equal(one, plain)
    label = drawn(runs, "several", tmp_path / "label", *typed, "guidance.scales={label: 1.0, tokens: 0.0}")
    np.testing.assert_array_equal(label, drawn(runs, "several", tmp_path / "alone", "label=1"))


def test_a_run_opened_in_python_takes_the_same_words(runs, tmp_path) -> None:
    expected = drawn(runs, "several", tmp_path / "out", "label=1", "text=right up", "vector=[3,2]")
    run = sg.load(runs / "several", device="cpu")
    typed = {"label": 1, "text": "right up", "vector": [3, 2]}
    found = run.sample(2, sampler=sg.Sampler(steps=2), **typed)
    assert torch.equal(found, torch.from_numpy(expected))
    x = run.data.test.values.float()
    one, other = (run.log_prob(x, **{**typed, "text": text}).nats for text in ("right up", "left"))
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="trained without images"):
        run.sample(2, image="a.png")


def test_an_evaluation_gives_every_image_its_own_condition(runs, tmp_path) -> None:
    """Against the likelihood by hand, one image at a time."""
    enter("evaluate", f"run={runs / 'several'}", f"out={tmp_path}", "n=3", "integrator.steps=4", "device=cpu",
          "divergence=exact", "threads=1")  # fmt: skip
    rows = [line for line in (tmp_path / "bpd.jsonl").read_text().splitlines() if '"image"' in line]
    run = sg.load(runs / "several", device="cpu")
    for row in map(json.loads, rows):
        i = row["image"]
        given = run.run.conditioning.given(run.data.test.given([i]))
        model = run.run.bind(given)
        x = run.encode(run.data.test.values[i : i + 1])
        nats = sg.log_prob(
            model, x, integrator=sg.ode.Adams(steps=4), divergence=sg.likelihood.divergence.Exact()
        ).nats
        assert row["value"] == pytest.approx(float(-nats / 2 / np.log(2)), abs=1e-3)


def test_mistakes_are_answered(runs, tmp_path, capfd) -> None:
    def run(name: str) -> str:
        return f"run={runs / name}"

    for words, answer in (
        ([run("text"), "text=three blue left"], "words that are in no training caption: blue"),
        ([run("text"), "text=" + "one " * 30], "the longest that the network takes has"),
        ([run("text"), "label=1"], "trained without classes"),
        ([run("text"), "guidance=cfg"], "give text="),
        ([run("text"), "not_text=one"], "only guidance=cfg moves away"),
        ([run("text"), "text=one", "guidance=cfg", "guidance.drop=[label]"], "is given tokens"),
        ([run("several"), "vector=[1]"], "expected 2 finite numbers"),
        ([run("several"), "vector=[1,red]"], "expected a list of finite numbers"),
        ([run("several"), "text=left", "guidance=composed_cfg"], "guidance.scales"),
        ([run("image"), "image=none.png"], "image not found: none.png"),
        ([run("image"), "image=0"], "the condition is an image file"),
    ):
        assert answer in mistake(capfd, "sample", *words), words


def test_a_training_that_cannot_be_is_refused(runs, tmp_path, capfd) -> None:
    def answer(*words: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit):
            enter("train", *SHORT, f"run={tmp_path / 'run'}", *words)
        return " ".join(capfd.readouterr().err.split())

    np.savez(runs / "pairs_of_points.npz", values=np.zeros((9, 2)), image=np.zeros((9, 1, 2, 2)))
    points, pairs = f"data.path={runs / 'points.npz'}", f"data.path={runs / 'pairs.npz'}"
    assert "no captions to condition on" in answer("conditioning=text")
    vectors = f"data.path={runs / 'pairs_of_points.npz'}"
    assert "height and width must be the same" in answer(
        "data=arrays", vectors, "codec=affine", "model=mlp", "conditioning=image"
    )
    assert "use augmentation=none" in answer(
        "data=arrays", pairs, "data.levels=4", "conditioning=image", "augmentation=horizontal_flip"
    )
    assert "has 2 tokens" in answer(
        "data=arrays", points, "codec=affine", "model=mlp", "conditioning=text", "conditioning.length=1"
    )


def test_other_captions_of_the_same_images_are_reported(runs, tmp_path) -> None:
    shutil.copytree(runs / "several", tmp_path / "run")
    arrays = dict(np.load(runs / "points.npz"))
    arrays["text"] = arrays["text"][::-1]
    np.savez(tmp_path / "points.npz", **arrays)
    with pytest.warns(UserWarning, match="train split with other captions; test split with other captions"):
        enter("evaluate", f"run={tmp_path / 'run'}", f"data.path={tmp_path / 'points.npz'}", "n=1",
              "integrator.steps=1", "device=cpu", "threads=1")  # fmt: skip


@pytest.mark.slow
def test_training_with_texts_resumes(runs, tmp_path, recwarn) -> None:
    shutil.copytree(runs / "text", tmp_path / "run")
    enter("train", f"run={tmp_path / 'run'}", "engine.images=72", "device=cpu", "threads=1")
    assert (tmp_path / "run" / "checkpoints" / "000000000072").is_dir()
    changes = [str(each.message) for each in recwarn if "other settings" in str(each.message)]
    assert all("conditioning" not in change for change in changes)


def test_volumes_given_a_vector(tmp_path) -> None:
    """An event of any rank through training, sampling and likelihood."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "a.npz", values=rng.standard_normal((40, 1, 2, 2, 4)), vector=rng.standard_normal((40, 2))
    )
    enter("train", *SHORT, "data=arrays", f"data.path={tmp_path / 'a.npz'}", "codec=affine", "model=dit",
          "model.width=24", "model.depth=1", "conditioning=vector", f"run={tmp_path / 'run'}")  # fmt: skip
    first, other = (drawn(tmp_path, "run", tmp_path / word, f"vector=[{word},1]") for word in ("0", "3"))
    assert first.shape == (2, 1, 2, 2, 4)
    assert np.abs(first - other).max() > 0
    run = sg.load(tmp_path / "run", device="cpu")
    x, vector = run.data.test.values[:2], run.data.test.conditions["vector"][:2]
    options = {"divergence": sg.likelihood.divergence.Exact(), "integrator": sg.ode.Adams(steps=4)}
    both, alone, other = (
        run.log_prob(rows, vector=given, **options).nats
        for rows, given in ((x, vector), (x[:1], vector[:1]), (x[:1], [0.0, 0.0]))
    )
    torch.testing.assert_close(alone, both[:1], rtol=1e-4, atol=1e-3)
    assert not torch.equal(other, alone)


def test_what_a_network_is_tried_with(runs) -> None:
    """The conditions of held-out rows; nothing, with a warning, where data and condition may be missing."""
    several, text = (sg.load(runs / name, device="cpu").run for name in ("several", "text"))
    rows = open_data(several).test.conditions["label"]
    found, described = examples(several, 4)
    assert found["label"].tolist() == rows[torch.arange(4) % len(rows)].tolist()
    assert described == "labels and captions and vectors: of held-out rows"
    held_out = open_data(text).test
    expected = text.conditioning.given(held_out.given([0, 1, 2]))["tokens"]
    assert torch.equal(examples(text, 3)[0]["tokens"], expected)
    lost = replace(
        text, config=OmegaConf.create({**text.config, "data": {**text.config.data, "count": "none"}})
    )
    with pytest.warns(UserWarning, match="tried without conditions, as the data cannot be read"):
        assert examples(lost, 3) == ({}, "captions: none, the unconditional model")
    always = replace(lost, conditioning=replace(text.conditioning, dropout=0.0))
    with pytest.raises(ValueError, match="count"):
        examples(always, 3)


class Given:
    """Conditions that a network is given, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        self.rows: list[torch.Tensor] = []
        ask = NetworkDenoiser.forward

        def forward(denoiser: NetworkDenoiser, x_t: torch.Tensor, t: torch.Tensor, **cond: torch.Tensor):  # type: ignore[no-untyped-def]
            self.rows.append(cond[key])
            return ask(denoiser, x_t, t, **cond)

        monkeypatch.setattr(NetworkDenoiser, "forward", forward)

    def taken(self) -> set[tuple[float, ...]]:
        """Return the distinct ones, and forget them."""
        found = {tuple(row.flatten().tolist()) for row in torch.cat(self.rows)}
        self.rows.clear()
        return found


@pytest.mark.long
@pytest.mark.parametrize(("name", "key"), [("text", "tokens"), ("image", "image")])
def test_metrics_of_samples_are_of_samples_with_the_conditions_of_the_reference(
    runs, tmp_path, monkeypatch, capfd, name, key
) -> None:
    """Captions and images of random rows: of the training split, or held-out ones with reference=test."""
    run = sg.load(runs / name, device="cpu").run
    splits, given = open_data(run), Given(monkeypatch, key)
    for reference in ("train", "test"):
        enter("evaluate", f"run={runs / name}", f"out={tmp_path / reference}", "metrics=[sliced_wasserstein]", "n=6",
              "draws=2", "steps=1", "baselines=false", f"reference={reference}", "device=cpu", "threads=1")  # fmt: skip
        split = splits.train if reference == "train" else splits.test
        rows = run.conditioning.given(split.conditions)[key]
        taken = given.taken()
        assert taken <= {tuple(row.flatten().tolist()) for row in rows}
        assert len(taken) > 1
        words = f"{'captions' if name == 'text' else 'images'}: of random rows of the {reference} split"
        assert words[:20] in capfd.readouterr().out
        (report,) = (tmp_path / reference).glob("*.json")
        assert json.loads(report.read_text())["conditions"] == words


def test_a_label_for_samples_with_other_conditions_is_refused(runs, tmp_path, capfd) -> None:
    assert "leave label out" in mistake(
        capfd,
        "evaluate",
        f"run={runs / 'text'}",
        f"out={tmp_path}",
        "metrics=[sliced_wasserstein]",
        "label=1",
    )


def test_solvers_are_compared_on_the_captions_of_held_out_rows(runs, tmp_path, monkeypatch, capfd) -> None:
    run, given = sg.load(runs / "text", device="cpu").run, Given(monkeypatch, "tokens")
    enter("benchmark", f"run={runs / 'text'}", f"out={tmp_path}", "solvers=[ddim]", "steps=[2]", "n=2",
          "reference.steps=4", "device=cpu", "threads=1")  # fmt: skip
    expected = run.conditioning.given(open_data(run).test.given([0, 1]))["tokens"]
    assert given.taken() == {tuple(row.tolist()) for row in expected}
    assert "captions: of held-out rows" in " ".join(capfd.readouterr().out.split())
    assert json.loads((tmp_path / "benchmark.json").read_text())["conditions"] == "captions: of held-out rows"


def test_samples_without_a_text_are_reported_as_unconditional(runs, tmp_path, capfd) -> None:
    drawn(runs, "text", tmp_path)
    assert "none, the unconditional model" in capfd.readouterr().out
