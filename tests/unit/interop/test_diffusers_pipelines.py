"""Latents of whole pipelines of diffusers: the network, its scheduler's process and guidance, with their times."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.guidance import CFG
from sde_gen.interop.diffusers import reader as diffusers
from sde_gen.solver import DDIM
from tests.helpers.stored_run import read_back
from tests.unit.interop.test_diffusers_condition import GOLDEN

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")


def denoiser_of(folder: Path) -> NetworkDenoiser:
    found = diffusers.load(folder / "diffusion_pytorch_model.safetensors")
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    denoiser: NetworkDenoiser = build.model(read_back(found.config), spec)
    denoiser.net.load_state_dict(found.state)
    return denoiser.double().eval()


def arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {
            key: torch.from_numpy(file[key]).double() for key in file.files if file[key].dtype.kind in "fi"
        }


@torch.no_grad()
def test_stable_diffusion() -> None:
    folder = GOLDEN / "pipe_sd15"
    io, text = arrays(folder / "ddim.npz"), arrays(folder / "prompt_embeds.npz")
    found = []
    for row in range(2):  # each sample has another negative prompt
        null = {"tokens": text["uncond"][row : row + 1]}
        model = CFG(denoiser=denoiser_of(folder / "unet"), scale=7.5, null=null)
        bound = model.bind(tokens=text["cond"][row : row + 1])
        # their last step leads to the first step of the chain
        times = torch.cat([(io["timesteps"] + 1) / 1000, torch.tensor([0.001], dtype=torch.float64)])
        found.append(DDIM().solve(bound, io["in/latents"][row : row + 1], times))
    exact = io["out_exact/latents"]
    assert (torch.cat(found) - exact).abs().max() <= 1e-6 * exact.abs().max()


@torch.no_grad()
def test_stable_diffusion_3() -> None:
    folder = GOLDEN / "pipe_sd3"
    io = arrays(folder / "flow_euler.npz")
    found = []
    for row in range(len(io["in/latents"])):
        one = slice(row, row + 1) if len(io["in/prompt_embeds"]) > 1 else slice(0, 1)
        null = {
            "tokens": io["in/negative_prompt_embeds"][one],
            "vector": io["in/negative_pooled_prompt_embeds"][one],
        }
        model = CFG(denoiser=denoiser_of(folder / "transformer"), scale=4.0, null=null)
        bound = model.bind(tokens=io["in/prompt_embeds"][one], vector=io["in/pooled_prompt_embeds"][one])
        times = io["sigmas"][:-1]
        x = DDIM().solve(bound, io["in/latents"][row : row + 1], times)
        found.append(bound(x, times[-1]).x0)  # on the linear path the step of Euler's method to sigma = 0
    exact = io["out_exact/latents"]
    assert (torch.cat(found) - exact).abs().max() <= 3e-5 * exact.abs().max()
