"""The door convert: from a foreign file to samples and bits per dimension, and mistakes in a line."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

from sde_gen import convert
from sde_gen.engine import checkpoint
from sde_gen.interop import to_diffusers
from tests.system import test_doors
from tests.unet2d_reference import random_tensors
from tests.unit.test_interop_diffusers import CHAIN, PLAIN, folder_of
from tests.unit.test_interop_k_diffusion import KINDS, file_of
from tests.unit.test_interop_score_sde import golden


def enter(*arguments: str) -> None:
    """Call the door as its command line would."""
    GlobalHydra.instance().clear()
    before = sys.argv
    sys.argv = ["sde_gen.convert", *arguments]
    try:
        convert.main()
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training's checkpoint as theirs looks, and its configuration."""
    folder = tmp_path_factory.mktemp("theirs")
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
    enter("format=score_sde", f"file={path}", f"settings={settings}", f"out={out}")
    found = checkpoint.latest(out / "checkpoints")
    assert found is not None
    assert found.about["origin"]["file"] == "checkpoint_8.pth"
    assert len(found.about["origin"]["sha256"]) == 64
    assert any(value.any() for value in found.ema.values()), (
        "the averages are taken, not the zeros beside them"
    )
    test_doors.enter("sample", f"run={out}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()


def test_a_folder_of_diffusers_samples(tmp_path: Path) -> None:
    """Without settings: the folder says all."""
    (folder_of(tmp_path / "theirs", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    enter("format=diffusers", f"file={tmp_path / 'theirs'}", f"out={tmp_path / 'run'}")
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found.about["origin"]["file"] == "diffusion_pytorch_model.safetensors"
    test_doors.enter("sample", f"run={tmp_path / 'run'}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()


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
    path, pictures = tmp_path / "theirs.safetensors", tmp_path / "pictures"
    safetensors.torch.save_file(file_of(config), path, metadata={"config": json.dumps(config)})
    pictures.mkdir()
    for number in range(20):
        Image.new("RGB", (8, 8), (12 * number, 40, 200)).save(pictures / f"{number}.png")
    out, scores = tmp_path / "run", tmp_path / "scores"
    data = ["data=image_folder", f"data.root={pictures}", "data.size=8", "data.test_fraction=0.5"]
    enter("format=k_diffusion", f"file={path}", *data, f"out={out}")
    found = checkpoint.latest(out / "checkpoints")
    assert found is not None
    assert found.about["origin"]["format"] == "k_diffusion"
    test_doors.enter("sample", f"run={out}", "n=2", "steps=2", f"out={tmp_path / 'samples'}")
    assert (tmp_path / "samples" / "samples.png").is_file()
    test_doors.enter("evaluate", f"run={out}", "n=2", "integrator.steps=4", f"out={scores}")
    report = json.loads((scores / "bpd.json").read_text())
    assert report["images"] == 2
    assert math.isfinite(report["mean"])


def test_a_run_is_given_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Taken in, given out, taken in again: the same weights; and what is asked of both ways at once is refused."""
    (folder_of(tmp_path / "theirs", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    enter("format=diffusers", f"file={tmp_path / 'theirs'}", f"out={tmp_path / 'run'}")
    enter(f"run={tmp_path / 'run'}", "to=diffusers", f"out={tmp_path / 'given'}")
    enter("format=diffusers", f"file={tmp_path / 'given'}", f"out={tmp_path / 'again'}")
    first, again = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("run", "again"))
    assert first is not None
    assert again is not None
    assert all(torch.equal(again.ema[name], value) for name, value in first.ema.items())
    for arguments, words in (
        ([f"run={tmp_path / 'run'}"], "to=... must say"),
        ([f"run={tmp_path / 'run'}", "to=diffusers", "format=edm"], "format=edm would have no effect"),
        ([f"file={tmp_path / 'theirs'}"], "format=... must say"),
        ([], "give file=... and format=..."),
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
    (folder_of(tmp_path / "theirs", PLAIN) / "scheduler_config.json").write_text(json.dumps(CHAIN))
    (tmp_path / "runs").mkdir()
    enter(f"out={tmp_path / 'run'}", f"file={tmp_path / 'theirs'}", "format=diffusers")

    def interrupted(*given: object) -> None:
        writes(*given)
        raise KeyboardInterrupt

    for module, name, arguments in (
        (checkpoint, "_write", [f"file={tmp_path / 'theirs'}", "format=diffusers"]),
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
        enter(f"out={tmp_path / 'runs' / 'link'}", f"file={tmp_path / 'theirs'}", "format=diffusers")
    assert "link is there already" in capfd.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_is_not_as_it_was_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Half precision in several files, behind links as a cache has them; and a grid that is not taken over."""
    folder, store = tmp_path / "theirs", tmp_path / "store"
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
    enter("format=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    said = " ".join(capfd.readouterr().out.split())
    found = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert found is not None
    origin = found.about["origin"]
    assert [note.split()[0] for note in origin["notes"]] == ["shift=3.0", "weights"]
    assert "weights of float16" in said
    assert set(origin["parts"]) == {"a.safetensors", "b.safetensors"}
    assert origin["bytes"] == sum((store / part).stat().st_size for part in origin["parts"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "it has aliases"),
        ("[" * 1000, "more than 32 deep"),
        ("a: " + "x" * convert.LARGEST_SETTINGS, "no settings have"),
        ("!!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
        ("- 1\n- 2", "holds no settings by name"),
    ],
)
def test_settings_that_are_bombs_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        convert._settings(str(path))


def test_mistakes_are_answered_in_a_line(
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

    theirs = ["format=score_sde", f"file={path}", f"settings={settings}"]
    assert "settings=" in mistake(*theirs[:2])
    assert "there is no file" in mistake(theirs[0], f"file={path}x", theirs[2])
    shutil.copy(path, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:5000])
    assert "cut.pth" in mistake(theirs[0], f"file={tmp_path / 'cut.pth'}", theirs[2])
    wider = OmegaConf.load(settings)
    wider.model.nf = 64
    OmegaConf.save(wider, tmp_path / "wider.yaml")
    assert "do not fit the network" in mistake(*theirs[:2], f"settings={tmp_path / 'wider.yaml'}")
