"""DiT and Stable Diffusion 3 of diffusers are the same functions here: outputs and input gradients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.data.conditioning import GivenTensors, Label
from sde_gen.denoiser.parametrization import LearnedVariance, Velocity
from sde_gen.interop.diffusers import reader as diffusers
from tests.helpers.stored_run import read_back
from tests.unit.interop.test_diffusers_condition import CHAIN, GOLDEN, KINDS, network

DATA = Path(__file__).parents[2] / "data"
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
DIT: dict[str, Any] = {
    "_class_name": "DiTTransformer2DModel",
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "num_layers": 3,
    "in_channels": 4,
    "out_channels": 8,
    "num_embeds_ada_norm": 10,
    "patch_size": 2,
    "sample_size": 8,
}
SD3: dict[str, Any] = {
    "_class_name": "SD3Transformer2DModel",
    "attention_head_dim": 8,
    "caption_projection_dim": 24,
    "in_channels": 16,
    "joint_attention_dim": 20,
    "num_attention_heads": 3,
    "num_layers": 3,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 18,
    "pos_embed_max_size": 12,
    "sample_size": [8, 10],
}


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    with np.load(DATA / f"{name}.npz") as io:
        return load_file(DATA / f"{name}.safetensors"), {key: torch.from_numpy(io[key]) for key in io.files}


def close(found: Tensor, exact: Tensor, tolerance: float) -> None:
    assert (found.detach().double() - exact.double()).abs().max() <= tolerance * exact.abs().max()


def test_dit_equals_the_original() -> None:
    tensors, io = golden("dit")
    found = diffusers.read(tensors, DIT, CHAIN)
    net = network(found).double()
    x = io["in/sample"].double().requires_grad_()
    out = net(x, io["in/timestep"].double(), label=io["in/class_labels"])
    (slope,) = torch.autograd.grad((out * io["cotangent"].double()).sum(), x)
    close(out, io["out_exact/sample"], 1e-9)
    close(slope, io["grad_sample_exact"], 1e-9)
    assert set(found.unused.values()) == {"a copy of that of the first block"}
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    assert build.conditioning(read_back(found.config), spec) == Label(classes=10, dropout=0.1)
    assert isinstance(build.model(read_back(found.config), spec).parametrization, LearnedVariance)


def test_sd3_equals_the_original() -> None:
    tensors, io = golden("sd3")
    found = diffusers.read(tensors, SD3, FLOW)
    net = network(found).double()
    x = io["in/hidden_states"].double().requires_grad_()
    tokens, vector = io["in/encoder_hidden_states"].double(), io["in/pooled_projections"].double()
    out = net(x, io["in/timestep"].double(), tokens=tokens, vector=vector)
    (slope,) = torch.autograd.grad((out * io["cotangent"].double()).sum(), x)
    close(out, io["out_exact/sample"], 1e-9)
    close(slope, io["grad_hidden_states_exact"], 1e-9)
    assert all("dropped" in why for why in found.unused.values())
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    features = {"tokens": [-1, 20], "vector": [18]}
    assert build.conditioning(read_back(found.config), spec) == GivenTensors(name="text", features=features)
    assert isinstance(build.model(read_back(found.config), spec).parametrization, Velocity)


@KINDS
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")
@pytest.mark.parametrize(("name", "scheduler"), [("dit", CHAIN), ("sd3", FLOW)])
def test_golden(name: str, scheduler: dict[str, Any], dtype: torch.dtype, kind: str) -> None:
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    with np.load(folder / "io.npz") as file:
        io = {key: torch.from_numpy(file[key]) for key in file.files}
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in io.items()}
    x = given["in/sample" if name == "dit" else "in/hidden_states"]
    if name == "sd3":
        config["sample_size"] = list(x.shape[2:])
        cond = {"tokens": given["in/encoder_hidden_states"], "vector": given["in/pooled_projections"]}
    else:
        cond = {"label": given["in/class_labels"]}
    net = network(
        diffusers.read(load_file(folder / "diffusion_pytorch_model.safetensors"), config, scheduler)
    ).to(dtype)
    x = x.requires_grad_()
    out = net(x, given["in/timestep"].to(dtype), **cond)
    (slope,) = torch.autograd.grad((out * given["cotangent"]).sum(), x)
    grad = "grad_sample" if name == "dit" else "grad_hidden_states"
    close(out, io[f"out_{kind}/sample"], 1e-9 if kind == "exact" else 2e-5)
    close(slope, io[f"{grad}_{kind}"], 1e-9 if kind == "exact" else 3e-5)


def test_blocks_with_other_embeddings_are_refused() -> None:
    tensors, _ = golden("dit")
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    with pytest.raises(ValueError, match=f"{name} is not that of the first block"):
        diffusers.read({**tensors, name: tensors[name] + 1}, DIT, CHAIN)


@pytest.mark.parametrize(
    ("base", "changes", "answer"),
    [
        (DIT, {"norm_type": "ada_norm"}, "norm_type='ada_norm' is not supported"),
        (DIT, {"norm_elementwise_affine": True}, "norm_elementwise_affine=True is not supported"),
        (DIT, {"activation_fn": "geglu"}, "activation_fn='geglu' is not supported"),
        (DIT, {"caption_channels": 9}, "caption_channels=9 is not supported"),
        (DIT, {"sample_size": 9}, "sample_size=9 is not supported; expected a multiple of patch_size=2"),
        (DIT, {"out_channels": 5}, "out_channels=5: expected 4, or 8"),
        (DIT, {"depth": 5}, "DiTTransformer2DModel has no setting depth"),
        (SD3, {"qk_norm": "layer_norm"}, "qk_norm='layer_norm' is not supported; expected rms_norm"),
        (SD3, {"caption_projection_dim": 20}, "caption_projection_dim=20 is not supported; expected 24"),
        (SD3, {"dual_attention_layers": [3]}, r"dual_attention_layers=3 is not supported"),
        (SD3, {"sample_size": 40}, "sample_size=40 is not supported.* up to 24"),
        (SD3, {"guidance_embeds": True}, "SD3Transformer2DModel has no setting guidance_embeds"),
    ],
)
def test_settings_that_are_not_supported_are_named(
    base: dict[str, Any], changes: dict[str, Any], answer: str
) -> None:
    tensors, _ = golden("dit" if base is DIT else "sd3")
    with pytest.raises(ValueError, match=answer):
        diffusers.read(tensors, {**base, **changes}, CHAIN if base is DIT else FLOW)
