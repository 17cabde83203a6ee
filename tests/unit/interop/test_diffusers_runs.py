"""Whole pipelines of diffusers as runs: their samples step for step, with the noise that diffusers drew."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

import sde_gen as sg
from sde_gen.cli.loaded_run import LoadedRun
from sde_gen.denoiser import Denoiser
from sde_gen.guidance import CFG, ControlStrength, DynamicThreshold
from sde_gen.inverse.task import Vary
from sde_gen.sampler import Sampler
from tests.helpers.commands import enter, mistake
from tests.unit.interop.test_diffusers_condition import GOLDEN

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")


class Drawn:
    """Noise that was stored, in the order in which it is drawn."""

    def __init__(self, *draws: Tensor) -> None:
        self.draws: Iterator[Tensor] = iter(draws)

    def normal(self, like: Tensor) -> Tensor:
        return next(self.draws).to(like)

    def __call__(self, like: Tensor, start: float, end: float) -> Tensor:
        return self.normal(like)


def arrays(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with np.load(path) as file:
        numbers = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        return numbers, json.loads(str(file["asked_json"]))


def converted(pipeline: Path, scheduler: dict[str, Any], tmp_path: Path) -> LoadedRun:
    """Convert a copy of a pipeline with another scheduler."""
    folder = tmp_path / "pipeline"
    shutil.copytree(pipeline, folder)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"][1] = scheduler["_class_name"]
    (folder / "model_index.json").write_text(json.dumps(index))
    enter("convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    shutil.rmtree(folder)  # the run stands alone
    return sg.load(tmp_path / "run", device="cpu")


def in_float64(run: LoadedRun) -> LoadedRun:
    run.denoiser.double()
    if run.codec.of_latents:
        run.codec.autoencoder.net.double()
    given = run.run.conditioning
    waiting = [getattr(getattr(given, "parts", {}).get("text", given), "encoder", None)]
    while waiting:
        encoder = waiting.pop()
        waiting += getattr(encoder, "parts", {}).values()
        if hasattr(encoder, "open"):
            encoder.open().network.double()
    return run


def sampler_of(run: LoadedRun, asked: dict[str, Any]) -> Sampler:
    """The run's own sampler with other steps, and solver settings that diffusers has as arguments of a call."""
    own = run.sampler
    steps = asked["num_inference_steps"] - own.denoise_final
    solver = sg.solver.DDIM(eta=asked["eta"]) if "eta" in asked else own.solver
    return Sampler(solver=solver, grid=own.grid, steps=steps, denoise_final=own.denoise_final)


def first_sigma(run: LoadedRun, sampler: Sampler) -> float:
    """Standard deviation with which samples begin."""
    return float(run.denoiser.sde.sigma(sampler.grid(run.denoiser.sde, sampler.steps)[0]))


def guided(run: LoadedRun, row: int, asked: dict[str, Any], without: LoadedRun | None = None) -> Denoiser:
    """The denoiser of one sample, as every one has its own negative prompt, embedded by this or another run."""
    given = run.run.prompt(1, text=asked["prompt"][row])
    null = (without or run).run.prompt(1, text=asked["negative_prompt"][row])
    rescale = asked.get("guidance_rescale", 0.0)
    output = run.denoiser.parametrization if rescale else None
    model = CFG(
        denoiser=run.denoiser,
        scale=asked["guidance_scale"],
        rescale=rescale,
        output=output,
        drop=("tokens", "mask"),
        null=null,
    )
    return model.bind(**given)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def image_of(run: LoadedRun, x: Tensor) -> Tensor:
    """Images on [0, 1] with channels last, as pipelines return them."""
    return ((run.codec.decode_continuous(x) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)


TEXT = ("ddim", "ddim_no_guidance", "ddim_rescale", "ddim_eta", "dpm_2m", "dpm_2m_karras", "euler", "pndm")


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("name", TEXT)
def test_stable_diffusion(name: str, tmp_path: Path) -> None:
    io, asked = arrays(GOLDEN / "pipe_sd15" / f"{name}.npz")
    run = in_float64(converted(GOLDEN / "pipe_sd15", asked["scheduler"], tmp_path))
    sampler, found = sampler_of(run, asked), []
    # there samples begin with the noise of the process in EulerDiscrete, and else with noise of variance 1
    first = 1.0 if name == "euler" else first_sigma(run, sampler)
    draws = [io[f"draw/{k}"] for k in range(5) if f"draw/{k}" in io]
    for row in range(2):
        one = slice(row, row + 1)
        noise = Drawn(io["in/latents"][one].double() / first, *(draw[one] for draw in draws))
        model = guided(run, row, asked)
        if name == "ddim_no_guidance":
            model = run.run.bind(run.run.prompt(1, text=asked["prompt"][row]))
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    latents = torch.cat(found)
    close(latents, io["out_exact/latents"], 1e-6)
    close(image_of(run, latents), io["out_exact/image"], 5e-6)


@torch.no_grad()
def test_stable_diffusion_without_the_last_layers_of_the_encoder(tmp_path: Path) -> None:
    """``clip_skip``: another layer of the encoder, normalized as the last; there not for the negative prompt."""
    io, asked = arrays(GOLDEN / "pipe_sd15" / "ddim_clip_skip.npz")
    run = converted(GOLDEN / "pipe_sd15", asked["scheduler"], tmp_path)
    in_float64(run)
    skipped = in_float64(sg.load(tmp_path / "run", device="cpu", clip_skip=asked["clip_skip"]))
    sampler, found = sampler_of(run, asked), []
    for row in range(2):
        noise = Drawn(io["in/latents"][row : row + 1].double() / first_sigma(run, sampler))
        found.append(
            sampler(guided(skipped, row, asked, run), (1, *run.run.event), noise=noise, dtype=torch.float64)
        )
    close(torch.cat(found), io["out_exact/latents"], 1e-6)


@torch.no_grad()
def test_variations_of_images(tmp_path: Path) -> None:
    io, asked = arrays(GOLDEN / "pipe_sd15" / "img2img.npz")
    run = in_float64(converted(GOLDEN / "pipe_sd15", asked["scheduler"], tmp_path))
    sampler, found = sampler_of(run, asked), []
    posterior = run.codec.autoencoder.net.encode(2 * io["in/image"].double() - 1)
    drawn = posterior.sample(io["draw/0"].double())
    start = drawn * 0.18215
    for row in range(2):
        one = slice(row, row + 1)
        task = Vary(image=start[one], event=run.run.event, strength=asked["strength"])
        noise = Drawn(io["draw/1"][one].double())
        found.append(task(sampler)(guided(run, row, asked), (1, *run.run.event), noise=noise))
    close(torch.cat(found), io["out_exact/latents"], 1e-6)


CONTROLS: dict[str, dict[str, Any]] = {
    "control": {},
    "control_half": {"scale": [0.5]},
    "control_guess": {"ramp": 0.1},
    "control_early": {"t_min": [0.5]},
}
"""Settings of the hint by pipeline; the last acts in the first half of the steps, at the larger times."""


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("name", CONTROLS)
def test_controlnet(name: str, tmp_path: Path) -> None:
    """In the mode that guesses, text and hint are dropped together, else the text alone."""
    io, asked = arrays(GOLDEN / "pipe_controlnet" / f"{name}.npz")
    run = in_float64(converted(GOLDEN / "pipe_controlnet", asked["scheduler"], tmp_path))
    sampler, found = sampler_of(run, asked), []
    drop = ("tokens", "mask", "control") if asked.get("guess_mode") else ("tokens", "mask")
    for row in range(2):
        one = slice(row, row + 1)
        hint = io["in/control_image"].double()
        hint = hint[one] if len(hint) > 1 else hint
        given = run.run.prompt(1, text=asked["prompt"][row])
        given["control"] = torch.cat([hint, torch.ones_like(hint[:, :1])], 1)
        null = run.run.prompt(1, text=asked["negative_prompt"][row])
        strength = ControlStrength(denoiser=run.denoiser, **CONTROLS[name])
        model = CFG(denoiser=strength, scale=asked["guidance_scale"], drop=drop, null=null).bind(**given)
        noise = Drawn(io["in/latents"][one].double() / first_sigma(run, sampler))
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    latents = torch.cat(found)
    close(latents, io["out_exact/latents"], 1e-6)
    close(image_of(run, latents), io["out_exact/image"], 5e-6)


@torch.no_grad()
def test_dit(tmp_path: Path) -> None:
    io, asked = arrays(GOLDEN / "pipe_dit" / "ddim.npz")
    run = in_float64(converted(GOLDEN / "pipe_dit", asked["scheduler"], tmp_path))
    sampler = sampler_of(run, asked)
    model = CFG(denoiser=run.denoiser, scale=asked["guidance_scale"])
    bound = model.bind(**run.run.prompt(2, label=asked["class_labels"]))
    noise = Drawn(io["draw/0"].double() / first_sigma(run, sampler))
    latents = sampler(bound, (2, *run.run.event), noise=noise, dtype=torch.float64)
    close(image_of(run, latents), io["out_exact/image"], 3e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["flow_euler", "flow_heun"])
def test_stable_diffusion_3(name: str, tmp_path: Path) -> None:
    """Without encoders its texts are files of embedded ones."""
    io, asked = arrays(GOLDEN / "pipe_sd3" / f"{name}.npz")
    run = in_float64(converted(GOLDEN / "pipe_sd3", asked["scheduler"], tmp_path))
    sampler, found = sampler_of(run, asked), []
    for row in range(2):
        one, given = slice(row, row + 1), []
        for kind in ("", "negative_"):
            arrays_of = {
                "tokens": io[f"in/{kind}prompt_embeds"][one].numpy(),
                "vector": io[f"in/{kind}pooled_prompt_embeds"][one].numpy(),
            }
            np.savez(tmp_path / "text.npz", **arrays_of)
            given.append(run.run.prompt(1, text=str(tmp_path / "text.npz")))
        model = CFG(denoiser=run.denoiser, scale=asked["guidance_scale"], null=given[1]).bind(**given[0])
        noise = Drawn(io["in/latents"][one].double())
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    latents = torch.cat(found)
    close(latents, io["out_exact/latents"], 3e-5)
    close(image_of(run, latents), io["out_exact/image"], 3e-5)


@torch.no_grad()
def test_inpainting(tmp_path: Path) -> None:
    """The network sees the mask, 1 where the image is unknown, and the latents of the gray rest."""
    io, asked = arrays(GOLDEN / "pipe_inpaint9" / "inpaint.npz")
    run = in_float64(converted(GOLDEN / "pipe_inpaint9", asked["scheduler"], tmp_path))
    given = run.run.conditioning.parts
    pixels, known = 2 * io["in/image"].double() - 1, io["in/mask"] < 0.5
    image = given["image"].masked(pixels, known, Drawn(io["draw/1"].double()))
    sampler, found = sampler_of(run, asked), []
    for row in range(2):
        one = slice(row, row + 1)
        texts = [given["text"].prompt({"text": asked[key][row]}, 1) for key in ("prompt", "negative_prompt")]
        model = CFG(
            denoiser=run.denoiser, scale=asked["guidance_scale"], drop=("tokens", "mask"), null=texts[1]
        ).bind(**texts[0], image=image[one])
        noise = Drawn(io["draw/0"][one].double() / first_sigma(run, sampler))
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    latents = torch.cat(found)
    close(latents, io["out_exact/latents"], 1e-6)
    close(image_of(run, latents), io["out_exact/image"], 5e-6)


@torch.no_grad()
def test_deepfloyd_if(tmp_path: Path) -> None:
    """The first stage has no autoencoder; its variance is learned, and its predictions are thresholded."""
    io, asked = arrays(GOLDEN / "pipe_if" / "stage1.npz")
    run = in_float64(converted(GOLDEN / "pipe_if", asked["scheduler"], tmp_path))
    sampler, found = sampler_of(run, asked), []
    for row in range(2):
        one, given = slice(row, row + 1), []
        for kind in ("", "negative_"):
            np.savez(tmp_path / "text.npz", tokens=io[f"in/{kind}prompt_embeds"][one].numpy())
            given.append(run.run.prompt(1, text=str(tmp_path / "text.npz")))
        guided = CFG(denoiser=run.denoiser, scale=asked["guidance_scale"], null=given[1])
        model = DynamicThreshold(denoiser=guided, quantile=0.95, most=1.5).bind(**given[0])
        first, *rest = (io[f"draw/{k}"][one].double() for k in range(4))
        noise = Drawn(first / first_sigma(run, sampler), *rest)
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    close(torch.cat(found), io["out_exact/image"], 5e-4)


def test_texts_of_deepfloyd_if(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """T5 masks padding, the network does not; texts are in lower case."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "if"
    shutil.copytree(GOLDEN / "pipe_if", folder)
    shutil.copytree(GOLDEN / "t5_v11", folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    words = tokenizers.models.WordLevel({"<pad>": 0, **{f"w{k}": k for k in range(1, 100)}}, unk_token="w2")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    settings = {"model_max_length": 12, "pad_token": "<pad>"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    index = json.loads((folder / "model_index.json").read_text())
    parts = {
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
    }
    (folder / "model_index.json").write_text(json.dumps({**index, **parts}))
    convert = ("from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    assert "the network takes 20: they are parts of different models" in mistake(capfd, "convert", *convert)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = safetensors.torch.load_file(weights)
    for name, tensor in state.items():
        if name.startswith(("encoder_hid", "add_embedding")):
            more = [pad for side in reversed(tensor.shape) for pad in (0, 4 if side == 20 else 0)]
            state[name] = F.pad(tensor, more)
    safetensors.torch.save_file(state, weights, {"format": "pt"})
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "encoder_hid_dim": 24}))
    enter("convert", *convert)
    shutil.rmtree(folder)
    run = in_float64(sg.load(tmp_path / "run", device="cpu"))
    io = np.load(GOLDEN / "t5_v11" / "io.npz")
    given = run.run.prompt(1, text="W33 w9 W47 w68 w82 ")
    assert set(given) == {"tokens"}
    close(given["tokens"], torch.from_numpy(io["out_exact/last_hidden_state"][1:2]), 1e-11)
