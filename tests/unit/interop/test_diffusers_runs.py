"""Whole pipelines of diffusers as runs: their samples step for step, with the noise that diffusers drew."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sde_gen as sg
from sde_gen.cli.loaded_run import LoadedRun
from sde_gen.denoiser import Denoiser
from sde_gen.guidance import CFG, ControlStrength
from sde_gen.inverse.task import Vary
from sde_gen.sampler import Sampler
from tests.helpers.commands import enter
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
