"""Folders of pipelines: export to the bit, texts of any length, and parts that do not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import sde_gen as sg
from sde_gen.interop.diffusers import export
from sde_gen.ode import RK4
from sde_gen.training.precision import contexts
from tests.helpers import random_pipeline
from tests.helpers.commands import enter, mistake

TOKENIZER = Path(__file__).parents[2] / "data" / "tokenizer_clip"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_pipeline.write(tmp_path_factory.mktemp("random") / "folder", TOKENIZER, dtype=torch.float16)


@pytest.fixture(scope="module")
def run(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was moved after the conversion."""
    folder = tmp_path_factory.mktemp("converted")
    enter("convert", "from=diffusers", f"file={pipeline}", f"out={folder / 'run'}")
    shutil.move(folder / "run", folder / "moved")
    return folder / "moved"


def test_the_export_of_a_bundle_is_the_original_to_the_byte(
    pipeline: Path, run: Path, tmp_path: Path
) -> None:
    enter("bundle", f"run={run}", f"out={tmp_path / 'bundle'}")
    enter("convert", f"run={tmp_path / 'bundle'}", "to=diffusers", f"out={tmp_path / 'out'}")
    for path in pipeline.rglob("*"):
        if path.is_file() and path.name != "expected.json":
            assert path.read_bytes() == (tmp_path / "out" / path.relative_to(pipeline)).read_bytes(), path


def test_weights_that_were_trained_further_are_exported(run: Path, tmp_path: Path) -> None:
    loaded = sg.load(run, device="cpu")
    state = dict(loaded.denoiser.net.state_dict())
    state["stem.weight"] = state["stem.weight"] + 1
    vae = loaded.codec.autoencoder.net.state_dict()
    export.write(run, {"network": state, "vae": vae}, tmp_path / "out")
    file = tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors"
    assert torch.equal(safetensors.torch.load_file(file)["conv_in.weight"], state["stem.weight"].half())


def test_texts_of_any_length_are_embedded_in_parts(run: Path) -> None:
    """A part is what the encoder gives for its words alone, and other texts of the call change nothing."""
    loaded = sg.load(run, device="cpu").run
    encoder = loaded.conditioning.encoder
    words = "a red apple on a table with two eyes black cat sun".split()
    network, tokenizer = encoder.open()
    ids = tokenizer.ids(" ".join(3 * words))[1:-1]
    assert len(ids) > 2 * 14
    together = loaded.prompt(2, text=[" ".join(3 * words), "sun"])
    count = -(-len(ids) // 14)
    assert together["tokens"].shape == (2, 16 * count, 64)
    for part in range(count):
        row = [632, *ids[14 * part : 14 * (part + 1)], 633]
        row += [633] * (16 - len(row))
        expected = network(torch.tensor([row])).last
        found = together["tokens"][:1, 16 * part : 16 * (part + 1)]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert bool(together["mask"][0].all())
    assert together["mask"][1].sum() == 16
    model = loaded.bind(together)
    x, t = (
        torch.randn(2, *loaded.event, generator=torch.Generator().manual_seed(0)),
        torch.tensor(0.5).double(),
    )
    both = model(x, t).x0[1:]
    alone = loaded.bind(loaded.prompt(1, text="sun"))(x[1:], t).x0
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_commands_on_a_converted_pipeline(run: Path, tmp_path: Path) -> None:
    """Its sampler is the default, guidance.scale chooses CFG, strength varies an image and mask fills one."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray(np.repeat(np.array([[255], [0]], "uint8"), 8, 0).repeat(16, 1)).save(
        tmp_path / "mask.png"
    )
    common = [f"run={run}", "device=cpu", "threads=1", "n=1", "steps=5", "text=a red apple"]
    image = f"image={tmp_path / 'image.png'}"
    for name, words, evaluations in (
        ("plain", ["not_text=sun", "guidance.scale=7.5"], 10),
        ("varied", [image, "strength=0.6"], 3),
        ("filled", [image, f"mask={tmp_path / 'mask.png'}"], 5),
    ):
        out = tmp_path / name
        enter("sample", *common, *words, f"out={out}")
        assert json.loads((out / "samples.json").read_text())["nfe"] == evaluations
        data = np.load(out / "samples.npz")["data"]
        assert data.shape == (1, 3, 16, 16)
    loaded = sg.load(run, device="cpu")
    assert isinstance(loaded.sampler.solver, sg.solver.DDIM)
    sampler = sg.Sampler(solver=sg.solver.DDIM(), grid=loaded.sampler.grid, steps=5, denoise_final=False)
    x = loaded.sample(1, text="sun", sampler=sampler)
    assert x.shape == (1, 4, 8, 8)
    nats = loaded.log_prob(x, text="sun", integrator=RK4(steps=2)).nats
    assert bool(nats.isfinite().all())


def settings(folder: Path, part: str, **changed: Any) -> None:
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def listed(folder: Path, **changed: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda f: listed(f, _class_name="KandinskyPipeline"), "KandinskyPipeline is not supported; pipelines that"),
        (lambda f: listed(f, adapter=["diffusers", "T2IAdapter"]), "with the part adapter ('T2IAdapter') is not"),
        (lambda f: listed(f, vae=["diffusers", "AsymmetricAutoencoderKL"]), "expected AutoencoderKL"),
        (lambda f: listed(f, unet=[None, None]), "lists no unet"),
        (lambda f: listed(f, **{"../x": ["a", "b"]}), "expected the name of a folder"),
        (lambda f: (f / "model_index.json").write_text("[]"), "is not a dictionary of settings"),
        (lambda f: shutil.rmtree(f / "vae"), "there is no folder"),
        (lambda f: [(f / "tokenizer" / n).unlink() for n in ("vocab.json", "tokenizer.json")], "no tokenizer.json"),
        (lambda f: (f / "text_encoder" / "model.safetensors").unlink(), "holds none of model.safetensors"),
        (lambda f: settings(f, "vae", latent_channels=8), "encoder.conv_out.weight gives shape"),
        (lambda f: settings(f, "scheduler", prediction_type="flow"), "prediction_type='flow' is not supported"),
        (lambda f: settings(f, "unet", cross_attention_dim=32), "give 64 features of a token, the network takes 32"),
        (lambda f: settings(f, "unet", in_channels=9), "more than noisy latents and text"),
    ],
)  # fmt: skip
def test_folders_that_do_not_fit_are_refused_in_a_line(
    pipeline: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    answer: str,
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(pipeline, folder)
    change(folder)
    assert answer in mistake(capfd, "convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda f: shutil.rmtree(f / "parts" / "vae"), "no run folder"),
        (lambda f: (f / "parts" / "tokenizer" / "vocab.json").write_text("{}"), "is not the tokenizer of the training"),
        (lambda f: (f / "parts" / "text_encoder" / "config.json").write_text("{}"), "its SHA-256 is another one"),
    ],
)  # fmt: skip
def test_changed_parts_of_a_run_are_refused_by_name(
    run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    answer: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    change(folder)
    assert answer in mistake(capfd, "sample", f"run={folder}", "text=sun", "n=1", "device=cpu", "threads=1")


def test_weights_in_bfloat16_leave_the_noise_label_exact(run: Path, tmp_path: Path) -> None:
    """A chain has more steps than 16 bits tell apart."""
    labels = []

    class Recorded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

        def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
            labels.append(c_noise)
            assert x.dtype == torch.bfloat16
            return self.scale * x

    label = sg.denoiser.parametrization.Time(scale=1000.0, offset=-1.0)
    parametrization = sg.denoiser.parametrization.Eps(label=label)
    context = contexts(torch.device("cpu"), torch.bfloat16)
    model = sg.NetworkDenoiser(
        net=Recorded(), sde=sg.sde.DDPM(), parametrization=parametrization, context=context
    )
    for t in (torch.tensor(0.802).double(), torch.tensor([0.802]).double()):
        model(torch.zeros(1, 2), t)
    assert [float(each) for each in labels] == pytest.approx([801, 801], abs=1e-3)
    common = [f"run={run}", "device=cpu", "threads=1", "n=1", "steps=3", "text=a red apple"]
    found = []
    for precision in ("float32", "bfloat16_weights"):
        enter("sample", *common, f"precision={precision}", f"out={tmp_path / precision}")
        found.append(torch.from_numpy(np.load(tmp_path / precision / "samples.npz")["model_space"]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.1
