"""The convert command: from a foreign file to samples and bits per dimension, and mistakes in a line."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint import writer as draft
from sde_gen.cli import convert
from sde_gen.interop.diffusers import writer as to_diffusers
from tests.helpers import commands
from tests.helpers.tiny_run import read, same
from tests.reference import adm, score_sde
from tests.reference.unet2d import random_tensors
from tests.unit.interop.test_diffusers import CHAIN, PLAIN, folder_of
from tests.unit.interop.test_k_diffusion import KINDS, file_of
from tests.unit.interop.test_score_sde import golden


def enter(*arguments: str) -> None:
    commands.enter("convert", *arguments)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint in the original format, and its configuration."""
    folder = tmp_path_factory.mktemp("original")
    tensors, _, config = golden("ddpmpp_vp")
    spoiled = {f"module.{name}": torch.zeros_like(value) for name, value in tensors.items()}
    learned = [value for name, value in tensors.items() if name != "sigmas"]
    averages = {"shadow_params": learned, "decay": 0.999, "num_updates": 5}
    torch.save({"model": spoiled, "ema": averages, "optimizer": {}, "step": 7}, folder / "checkpoint_8.pth")
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "checkpoint_8.pth", folder / "config.json"


def test_a_converted_network_samples(given: tuple[Path, Path], tmp_path: Path) -> None:
    path, settings = given
    out = tmp_path / "run"
    enter("from=score_sde", f"file={path}", f"settings={settings}", f"out={out}")
    found = checkpoint.latest(out / "checkpoints")
    assert found is not None
    assert found.about["origin"]["file"] == "checkpoint_8.pth"
    assert len(found.about["origin"]["sha256"]) == 64
    assert any(value[()].any() for value in found.ema.values()), (
        "the averages are taken, not the zeros beside them"
    )
    commands.enter("sample", f"run={out}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()


def test_a_folder_of_diffusers_samples(tmp_path: Path) -> None:
    """Without settings: the folder says all."""
    (folder_of(tmp_path / "original", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    enter("from=diffusers", f"file={tmp_path / 'original'}", f"out={tmp_path / 'run'}")
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.about["origin"]["file"] == "diffusion_pytorch_model.safetensors"
    commands.enter("sample", f"run={tmp_path / 'run'}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()


@pytest.mark.parametrize("channels", [2, 4])
def test_latents_of_a_converted_network_are_kept_and_shown(tmp_path: Path, channels: int) -> None:
    """Channels that make no color."""
    config = {**PLAIN, "in_channels": channels, "out_channels": channels}
    (folder_of(tmp_path / "original", config) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    enter("from=diffusers", f"file={tmp_path / 'original'}", f"out={tmp_path / 'run'}")
    words = [
        f"run={tmp_path / 'run'}",
        "n=2",
        "steps=2",
        "trajectory_frames=2",
        "gif=true",
        f"out={tmp_path / 'samples'}",
    ]
    commands.enter("sample", *words)
    names = ["report.html", "samples.json", "samples.npz", "samples.png", "trajectory.gif", "trajectory.png"]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == names


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("image_v1", marks=pytest.mark.slow),
        pytest.param("image_transformer_v1", marks=pytest.mark.slow),
        "image_transformer_v2",
    ],
)
def test_a_file_of_k_diffusion_samples_and_is_evaluated(name: str, tmp_path: Path) -> None:
    """Without settings: the file's metadata say all."""
    config = {"model": {**KINDS[name], "input_channels": 3}}
    path, pictures = tmp_path / "original.safetensors", tmp_path / "pictures"
    safetensors.torch.save_file(file_of(config), path, metadata={"config": json.dumps(config)})
    pictures.mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (12 * number, 40, 200)).save(pictures / f"{number}.png")
    out, scores = tmp_path / "run", tmp_path / "scores"
    data = ["data=image_folder", f"data.root={pictures}", "data.size=8", "data.test_fraction=0.5"]
    enter("from=k_diffusion", f"file={path}", *data, f"out={out}")
    found = checkpoint.latest(out / "checkpoints")
    assert found is not None
    assert found.about["origin"]["format"] == "k_diffusion"
    commands.enter("sample", f"run={out}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()
    commands.enter("evaluate", f"run={out}", "n=2", "integrator.steps=4", f"out={scores}")
    report = json.loads((scores / "bpd.json").read_text())
    assert report["images"] == 2
    assert math.isfinite(report["mean"])


def test_run_is_exported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Taken in, given out, taken in again: the same weights; and what is asked of both ways at once is refused."""
    (folder_of(tmp_path / "original", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    enter("from=diffusers", f"file={tmp_path / 'original'}", f"out={tmp_path / 'run'}")
    enter(f"run={tmp_path / 'run'}", "to=diffusers", f"out={tmp_path / 'given'}")
    enter("from=diffusers", f"file={tmp_path / 'given'}", f"out={tmp_path / 'again'}")
    first, again = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("run", "again"))
    assert first is not None
    assert again is not None
    assert same(read(again.ema), read(first.ema))
    for arguments, words in (
        ([f"run={tmp_path / 'run'}"], "to=... must name"),
        ([f"run={tmp_path / 'run'}", "to=diffusers", "from=edm"], "from=edm has no effect"),
        ([f"file={tmp_path / 'original'}"], "from=... must name"),
        ([], "give file=... and from=..."),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            enter(f"out={tmp_path / 'no'}", *arguments)
        assert words in capfd.readouterr().err
        assert not (tmp_path / "no").exists()


def test_a_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither an interruption while the run is written nor a link to nowhere leaves or overwrites anything."""
    (folder_of(tmp_path / "original", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    (tmp_path / "runs").mkdir()
    enter(f"out={tmp_path / 'run'}", f"file={tmp_path / 'original'}", "from=diffusers")

    def interrupted(*given: object) -> None:
        writes(*given)
        raise KeyboardInterrupt

    for module, name, arguments in (
        (draft, "put_shards", [f"file={tmp_path / 'original'}", "from=diffusers"]),
        (to_diffusers.json, "dumps", [f"run={tmp_path / 'run'}", "to=diffusers"]),
    ):
        writes = getattr(module, name)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(SystemExit):
                enter(f"out={tmp_path / 'runs' / 'a'}", *arguments)
        assert not list((tmp_path / "runs").iterdir())
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SystemExit):
        enter(f"out={tmp_path / 'runs' / 'link'}", f"file={tmp_path / 'original'}", "from=diffusers")
    assert "link already exists" in capfd.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_a_conversion_changes_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Half precision in several files, behind links as a cache has them; and a grid that is not taken over."""
    folder, store = tmp_path / "original", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    tensors = {name: value.half() for name, value in random_tensors(PLAIN).items()}
    names = sorted(tensors)
    places = {}
    for part, some in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        safetensors.torch.save_file({name: tensors[name] for name in some}, store / part)
        (folder / part).symlink_to(store / part)
        places |= dict.fromkeys(some, part)
    index = folder / "diffusion_pytorch_model.safetensors.index.fp16.json"
    index.write_text(json.dumps({"weight_map": places}))
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (folder / "scheduler_config.json").write_text(json.dumps(flow))
    (folder / "config.json").write_text(json.dumps(PLAIN))
    enter("from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    said = " ".join(capfd.readouterr().out.split())
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    origin = found.about["origin"]
    assert [note.split()[0] for note in origin["notes"]] == ["shift=3.0", "float16"]
    assert "float16 weights" in said
    assert set(origin["parts"]) == {"a.safetensors", "b.safetensors"}
    assert origin["bytes"] == sum((store / part).stat().st_size for part in origin["parts"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "it has aliases"),
        ("[" * 1000, "more than 32 deep"),
        ("a: " + "x" * convert.LARGEST_SETTINGS, "no settings have"),
        ("!!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
        ("- 1\n- 2", "is not a dictionary of settings"),
    ],
)
def test_settings_that_are_bombs_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        convert._settings(str(path))


GUIDED: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "attention_resolutions": [2],
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "noise_schedule": "cosine",
}


def convert_guided(folder: Path, name: str, kind: str, *more: str, **settings: Any) -> None:
    """A random network of guided-diffusion's in a file, and its run folder."""
    config = {**GUIDED, **settings}
    tensors, weights = score_sde.drawn()
    x, t = torch.zeros(1, 3, 8, 8).double(), torch.ones(1).double()
    if kind == "guided_diffusion":
        adm.forward(config, weights, x, t, torch.zeros(1).long())
    else:
        adm.logits(config, weights, x, t)
    torch.save(tensors, folder / f"{name}.pt")
    (folder / f"{name}.json").write_text(json.dumps(config))
    files = (f"file={folder / name}.pt", f"settings={folder / name}.json", f"out={folder / name}")
    enter(f"from={kind}", *files, *more)


@pytest.mark.long
def test_a_classifier_of_guided_diffusion_guides(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An unconditional network of images, a class-conditional one, and invalid combinations."""
    convert_guided(tmp_path, "free", "guided_diffusion", out_channels=6)
    convert_guided(tmp_path, "conditional", "guided_diffusion", out_channels=3, num_classes=5)
    kind = "guided_diffusion_classifier"
    convert_guided(tmp_path, "classifier", kind, out_channels=5, pool="attention")
    convert_guided(tmp_path, "linear", kind, out_channels=5, noise_schedule="linear")
    capfd.readouterr()

    def drawn(run: str, *words: str) -> np.ndarray:
        out = tmp_path / f"samples{len(list(tmp_path.glob('samples*')))}"
        commands.enter("sample", f"run={tmp_path / run}", "n=2", "steps=2", f"out={out}", *words)
        found: np.ndarray = np.load(out / "samples.npz")["model_space"]
        return found

    by = ("guidance=classifier", f"guidance.classifier={tmp_path / 'classifier'}")
    plain, four = drawn("free"), drawn("free", *by, "guidance.scale=3", "label=4")
    np.testing.assert_array_equal(drawn("free", *by, "guidance.scale=0", "label=4"), plain)
    assert np.abs(four - plain).max() > 1e-3
    conditional = drawn("conditional", "label=4")
    np.testing.assert_array_equal(
        drawn("conditional", *by, "guidance.pass_label=true", "guidance.scale=0", "label=4"), conditional
    )
    both = drawn("conditional", *by, "guidance.pass_label=true", "guidance.scale=3", "label=4")
    assert np.abs(both - conditional).max() > 1e-3
    for run, words, answer in (
        ("free", (*by, "label=5"), "the classes are 0 to 4"),
        ("conditional", (*by, "label=4"), "guidance.pass_label=true"),
        ("free", (*by, "guidance.pass_label=true", "label=4"), "was trained without labels"),
        ("free", (by[0], f"guidance.classifier={tmp_path / 'linear'}", "label=4"), "trained with sde="),
        ("classifier", (), "holds a classifier, which cannot sample"),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit):
            drawn(run, *words)
        assert answer in capfd.readouterr().err


@pytest.mark.slow
def test_a_learned_variance_samples_and_bounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Steps with the network's own variance, and the bound of just that chain; without one, an answer in a line."""
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    data = ("data=image_folder", f"data.root={tmp_path / 'images'}", "data.size=8", "data.test_fraction=0.5")
    convert_guided(tmp_path, "learned", "guided_diffusion", *data, out_channels=6)
    convert_guided(tmp_path, "fixed", "guided_diffusion", out_channels=3)
    steps = ("n=2", "steps=20", "grid=ddpm_linspace", "solver=ancestral")
    found = []
    for name, nu in (("own", "null"), ("least", "0"), ("most", "1")):
        out = tmp_path / name
        commands.enter("sample", f"run={tmp_path / 'learned'}", *steps, f"solver.nu={nu}", f"out={out}")
        found.append(np.load(out / "samples.npz")["model_space"])
    assert np.isfinite(found[0]).all()
    assert min(np.abs(found[0] - other).max() for other in found[1:]) > 1e-3
    values = []
    for nu in ("null", "0"):
        out = tmp_path / f"vlb{nu}"
        commands.enter(
            "evaluate",
            f"run={tmp_path / 'learned'}",
            "metrics=[vlb]",
            "metric.vlb.steps=5",
            f"metric.vlb.nu={nu}",
            f"out={out}",
        )
        values.append(json.loads((out / "vlb.json").read_text())["mean"])
    assert np.isfinite(values[0])
    assert values[0] != values[1]
    capfd.readouterr()
    out = tmp_path / "none"
    with pytest.raises(SystemExit):
        commands.enter("sample", f"run={tmp_path / 'fixed'}", *steps, "solver.nu=null", f"out={out}")
    assert "predicts none" in capfd.readouterr().err


def test_mistakes_give_a_one_line_error(
    given: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, settings = given

    def mistake(*arguments: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            enter(f"out={tmp_path / 'run'}", *arguments)
        err = capfd.readouterr().err
        assert stop.value.code == 2
        assert "Traceback" not in err
        assert not (tmp_path / "run").exists()
        return err

    original = ["from=score_sde", f"file={path}", f"settings={settings}"]
    assert "settings=" in mistake(*original[:2])
    assert "file not found" in mistake(original[0], f"file={path}x", original[2])
    shutil.copy(path, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:5000])
    assert "cut.pth" in mistake(original[0], f"file={tmp_path / 'cut.pth'}", original[2])
    wider = OmegaConf.load(settings)
    wider.model.nf = 64
    OmegaConf.save(wider, tmp_path / "wider.yaml")
    assert "do not fit the network" in mistake(*original[:2], f"settings={tmp_path / 'wider.yaml'}")
