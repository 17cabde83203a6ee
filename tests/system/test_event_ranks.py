"""Series, tables and degraded images as a user finds them: trained, sampled, evaluated; every mistake in a line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

import sde_gen as sg
from sde_gen.noise import PerSample, spawn_seeds
from tests.system.test_commands import enter
from tests.system.test_conditions import SHORT

SMALL = ["model.width=8", "model.blocks=1"]


def sampled(run, out, *words, n=3):
    enter("sample", f"run={run}", f"out={out}", "steps=2", f"n={n}", "device=cpu", "threads=1", *words)
    return np.load(out / "samples.npz")


def test_a_series_with_a_network_of_images(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{50 + 10 * rng.standard_normal():.4f},{rng.standard_normal():.4f}" for _ in range(400)]
    (tmp_path / "a.csv").write_text("up,down\n" + "\n".join(lines))
    run = tmp_path / "run"
    enter("train", *SHORT, "data=series", f"data.path={tmp_path / 'a.csv'}", "data.length=8", "codec=standardized",
          "model=ncsnpp", *SMALL, f"run={run}")  # fmt: skip
    found = sampled(run, tmp_path / "out")
    assert found["data"].shape == (3, 2, 8)
    opened = sg.load(run, device="cpu")
    values = opened.data.train.values
    np.testing.assert_allclose(opened.codec.mean, values.double().mean((0, 2)), rtol=1e-9)
    np.testing.assert_allclose(
        found["data"],
        found["model_space"] * np.reshape(opened.codec.std, (2, 1)) + np.reshape(opened.codec.mean, (2, 1)),
        rtol=1e-5,
        atol=1e-5,
    )
    assert (tmp_path / "out" / "samples.png").stat().st_size > 0
    enter(
        "evaluate",
        f"run={run}",
        f"out={tmp_path / 'bpd'}",
        "n=2",
        "integrator.steps=2",
        "device=cpu",
        "threads=1",
    )
    assert json.loads((tmp_path / "bpd" / "bpd.json").read_text())["mean"] != 0
    assert sorted(path.suffix for path in (run / "previews").iterdir()) == [".png"]


def test_a_table_returns_as_a_table(tmp_path):
    rows = [
        (f"{i % 7}", f"{0.5 * i}", ("red", "green", "blue")[i % 3], ("yes", "no")[i % 2]) for i in range(60)
    ]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("size", "weight", "color", "good"), *rows])
    run, table = tmp_path / "run", f"data.path={tmp_path / 'a.csv'}"
    enter("train", *SHORT, "data=table", table, "data.label=good", "conditioning=label", "codec=columns", "model=mlp",
          "model.width=8", f"run={run}")  # fmt: skip
    sampled(run, tmp_path / "out", "label=[yes,no]")
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["size", "weight", "color", "good"]
    assert [row[3] for row in found] == ["yes", "no", "yes"]
    assert all(row[2] in ("red", "green", "blue") and int(row[0]) == float(row[0]) for row in found)
    arrays = np.load(tmp_path / "out" / "samples.npz")
    assert [float(row[1]) for row in found] == pytest.approx(arrays["data"][:, 1].tolist(), rel=1e-5)


@pytest.fixture(scope="module")
def superres(tmp_path_factory):
    folder = tmp_path_factory.mktemp("superres")
    enter("train", *SHORT, "recipe=digits_superres", *SMALL, "conditioning.noise=0.5", f"run={folder / 'run'}",
          "preview.sampler.steps=1")  # fmt: skip
    for level in (40, 200):
        Image.new("L", (4, 4), level).save(folder / f"{level}.png")
    return folder


@pytest.mark.long
def test_low_resolutions_of_the_data_as_conditions(superres, tmp_path):
    run = superres / "run"
    first, other, noisy, again = (
        sampled(run, tmp_path / name, f"image={superres / image}", *words)["model_space"]
        for name, image, words in (
            ("a", "40.png", []),
            ("b", "200.png", []),
            ("c", "40.png", ["image_noise=0.3"]),
            ("d", "40.png", ["image_noise=0.3", "batch_size=2"]),
        )
    )
    assert first.shape == (3, 1, 8, 8)
    assert np.abs(first - other).max() > 0
    assert np.abs(first - noisy).max() > 0
    np.testing.assert_allclose(again, noisy, atol=1e-5)
    enter(
        "evaluate",
        f"run={run}",
        f"out={tmp_path / 'e'}",
        "n=2",
        "integrator.steps=2",
        "device=cpu",
        "threads=1",
    )
    loaded = sg.load(run, device="cpu")
    assert loaded.run.conditioning.sizes == {"image": 3}
    assert torch.equal(
        loaded.sample(3, sampler=sg.Sampler(steps=2), image=str(superres / "40.png")), torch.from_numpy(first)
    )


@pytest.mark.long
def test_mistakes_are_answered(superres, tmp_path, capfd):
    def answer(command, *words):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            enter(command, *words)
        return " ".join(capfd.readouterr().err.split())

    run = f"run={superres / 'run'}"
    assert "trained with noise of 0 to 0.5" in answer(
        "sample", run, f"image={superres / '40.png'}", "image_noise=0.7"
    )
    assert "image not found" in answer("sample", run, "image=none.png")
    new = f"run={tmp_path / 'new'}"
    (tmp_path / "a.csv").write_text("".join(f"{i}\n" for i in range(40)))
    series = ("data=series", f"data.path={tmp_path / 'a.csv'}", "data.length=8")
    assert "codec=standardized" in answer("train", *SHORT, new, *series)
    assert "images (C, H, W) alone; use model=unet_cross or another" in answer(
        "train", *SHORT, new, *series, "codec=affine", "model=kunet"
    )
    assert "no table with columns" in answer("train", *SHORT, new, *series, "codec=columns")
    assert "17 levels: use codec=uniform" in answer("train", *SHORT, new, "codec=standardized")
    assert "have no colors" in answer("train", *SHORT, new, "conditioning=colorize")
    assert "no blocks of 3x3" in answer(
        "train", *SHORT, new, "conditioning=superres", "conditioning.factor=3"
    )


@pytest.mark.long
def test_images_of_several_aspect_ratios(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for number, size in enumerate([(12, 20), (20, 12), (16, 16), (16, 16)] * 10):
        place = tmp_path / "images" / "ab"[number // 20]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(place / f"{number}.png")
    words = ["data=image_buckets", f"data.root={tmp_path / 'images'}", "data.size=8", "data.multiple=2"]
    words += [
        "data.test_fraction=0.3",
        "quality.metrics=[energy_distance]",
        "features@quality.features=pixels",
        "quality.n=8",
    ]
    run = tmp_path / "run"
    net = ["model=ncsnpp", *SMALL, "conditioning=label", "sde=vp", "parametrization=eps"]
    enter("train", *SHORT, *words, *net, f"run={run}")
    opened = sg.load(run, device="cpu")
    assert opened.data.train.values.shape[1:] == (3, 8, 8)
    whole = sampled(run, tmp_path / "out")
    assert whole["data"].shape == (3, 3, 8, 8)
    other = sampled(run, tmp_path / "other", "size=[6,10]")
    assert other["data"].shape == (3, 3, 6, 10)
    sampler = sg.Sampler(solver=sg.solver.StraightAdams(), grid=sg.grid.Angle(), steps=2)
    model = opened.denoiser.bind(label=torch.tensor([0, 1, 0]))
    x = sampler(model, (3, 3, 6, 10), noise=PerSample(spawn_seeds(0, 3)))
    np.testing.assert_allclose(other["model_space"], x.numpy(), rtol=1e-5, atol=1e-5)
    capfd.readouterr()
    for size, message in (("[7,9]", "NCSNpp takes no images of this size"), ("[1,2,3]", "height and width")):
        with pytest.raises(SystemExit):
            sampled(run, tmp_path / "wrong", f"size={size}")
        assert message in capfd.readouterr().err
    capfd.readouterr()
    plain = [word for word in SHORT if not word.startswith("preview.sampler")]
    for others, message in (
        (["model=dit", "model.depth=1"], "DiT takes no images of "),
        (["model=kl_autoencoder", "objective=autoencoding"], "images of several sizes train denoisers alone"),
    ):
        with pytest.raises(SystemExit):
            enter("train", *plain, *words[:-3], *others, f"run={tmp_path / 'other'}")
        assert message in " ".join(capfd.readouterr().err.split())
