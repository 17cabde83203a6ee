"""Networks of diffusers with conditions are the same functions here: outputs and input gradients.

The oracle are networks that their code evaluated: small ones in tests/data, each with many settings, and where a folder
``shared/golden`` lies beside the checkout, or SDE_GEN_GOLDEN names one, those of every published family.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.data.conditioning import GivenTensors, Label, Several
from sde_gen.denoiser.parametrization import Eps, LearnedVariance
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.diffusers import reader as diffusers
from tests.helpers.stored_run import read_back

ROOT = Path(__file__).parents[3]
GOLDEN = Path(os.environ.get("SDE_GEN_GOLDEN", ROOT.parent / "shared" / "golden")) / "diffusers_families"
CHAIN = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
}
SMALL = ("sd", "sdxl", "if")


def small(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Configuration, weights, and inputs with outputs of a network in tests/data."""
    with np.load(ROOT / "tests" / "data" / f"unet_condition_{name}.npz") as file:
        config = json.loads(str(file["config_json"]))
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config_json"}
    weights = {key.removeprefix("w/"): value.float() for key, value in arrays.items() if key.startswith("w/")}
    return config, weights, {key: value for key, value in arrays.items() if not key.startswith("w/")}


def scheduler_of(config: dict[str, Any]) -> dict[str, Any]:
    learned = config["out_channels"] == 2 * config["in_channels"]
    return {**CHAIN, "variance_type": "learned_range"} if learned else CHAIN


def network(found: ConvertedModel) -> nn.Module:
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    net: nn.Module = build.model(read_back(found.config), spec).net
    net.load_state_dict(found.state)
    return net.eval()


def keywords(io: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the inputs by the names of sde_gen: vectors concatenated, in one floating-point type."""
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in io.items()}
    found = {}
    if "in/class_labels" in given:
        labels = given["in/class_labels"]
        found["label" if labels.ndim == 1 else "vector"] = labels
    if "in/encoder_attention_mask" in given:
        found["mask"] = given["in/encoder_attention_mask"]
    if "in/added_text_embeds" in given:
        found["vector"] = torch.cat([given["in/added_text_embeds"], given["in/added_time_ids"]], 1)
    return found


def check(found: ConvertedModel, io: dict[str, Tensor], dtype: torch.dtype, kind: str) -> None:
    net = network(found).to(dtype)
    sample = io["in/sample"].to(dtype).requires_grad_()
    channels = found.shape[0]
    cond = keywords(io, dtype)
    if sample.shape[1] > channels:
        cond["image"] = sample[:, channels:]
    cond["tokens"] = io["in/encoder_hidden_states"].to(dtype)
    out = net(sample[:, :channels], io["in/timestep"].to(dtype), **cond)
    (slope,) = torch.autograd.grad((out * io["cotangent"].to(dtype)).sum(), sample)
    tolerances = (1e-9, 1e-9) if kind == "exact" else (1e-5, 3e-5)
    for mine, key, tolerance in zip(
        (out, slope), (f"out_{kind}/sample", f"grad_sample_{kind}"), tolerances, strict=True
    ):
        exact = io[key].double()
        assert (mine.detach().double() - exact).abs().max() <= tolerance * exact.abs().max(), key


KINDS = pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.float64, "exact"), (torch.float32, "f32")], ids=str
)


@KINDS
@pytest.mark.parametrize("name", SMALL)
def test_network_equals_the_original(name: str, dtype: torch.dtype, kind: str) -> None:
    config, weights, io = small(name)
    found = diffusers.read(weights, config, scheduler_of(config))
    assert not found.unused
    check(found, io, dtype, kind)


@pytest.mark.long
@KINDS
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")
@pytest.mark.parametrize(
    "name", ["unet_sd15", "unet_sdxl", "unet_class_table", "unet_inpaint_masked_text", "unet_if_stage1"]
)
def test_golden(name: str, dtype: torch.dtype, kind: str) -> None:
    folder = GOLDEN / name
    config = json.loads((folder / "config.json").read_text())
    with np.load(folder / "io.npz") as file:
        io = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "biuf"}
    weights = safetensors.torch.load_file(folder / "diffusion_pytorch_model.safetensors")
    found = diffusers.read(weights, config, scheduler_of(config))
    assert not found.unused
    check(found, io, dtype, kind)


def test_the_conditions_of_a_run() -> None:
    """Its conditioning reads the files that its network needs."""
    config, weights, _ = small("sdxl")
    found = diffusers.read(weights, config, CHAIN)
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    given = build.conditioning(read_back(found.config), spec)
    assert given == GivenTensors(name="text", features={"tokens": [-1, 12], "vector": [-16]})
    assert found.levels is None
    config, weights, _ = small("sd")
    found = diffusers.read(weights, config, CHAIN)
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    given = build.conditioning(read_back(found.config), spec)
    assert isinstance(given, Several)
    assert given.parts["label"] == Label(classes=5, dropout=0.0)
    assert given.names == ("label", "text", "image")
    assert given.parts["image"].features == {"image": [5, 8, 8]}
    config, weights, _ = small("if")
    found = diffusers.read(weights, config, scheduler_of(config))
    denoiser = build.model(read_back(found.config), spec)
    assert isinstance(denoiser.parametrization, LearnedVariance)
    assert isinstance(denoiser.parametrization.mean, Eps)
    assert found.levels == 256


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"dual_cross_attention": True}, "dual_cross_attention=True is not supported; expected False"),
        ({"attention_type": "gated"}, "attention_type='gated' is not supported.*GLIGEN"),
        ({"time_cond_proj_dim": 8}, "time_cond_proj_dim=8 is not supported"),
        ({"addition_embed_type": "image"}, "addition_embed_type='image' is not supported; expected text or"),
        ({"encoder_hid_dim": 9, "encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type='image_proj'"),
        ({"class_embed_type": "color"}, "class_embed_type='color' is not supported; expected timestep or"),
        ({"down_block_types": ["KDownBlock2D", "DownBlock2D"]}, "down_block_types='KDownBlock2D' is not"),
        ({"mid_block_type": "MidBlock"}, "mid_block_type='MidBlock' is not supported"),
        ({"attention_head_dim": [2]}, r"attention_head_dim=\[2\] is not supported.* each of 2 levels"),
        ({"cross_attention_norm": "layer_norm"}, "cross_attention_norm='layer_norm' is not supported"),
        ({"act_fn": "tanh"}, "act_fn='tanh' is not supported"),
        ({"norm_num_groups": 3}, "norm_num_groups=3 is not supported; expected a divisor"),
        ({"sample_size": None}, "does not contain sample_size"),
        ({"conv_in_kernel": 2}, "conv_in_kernel=2 is not supported; expected an odd"),
        ({"thickness": 2}, "UNet2DConditionModel has no setting thickness"),
        ({"_class_name": "FluxTransformer2DModel"}, "_class_name='FluxTransformer2DModel' is not supported"),
    ],
)
def test_settings_that_are_not_supported_are_named(changes: dict[str, Any], answer: str) -> None:
    config, weights, _ = small("if")
    with pytest.raises(ValueError, match=answer) as caught:
        diffusers.read(weights, {**config, **changes}, scheduler_of(config))
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_or_left_over_are_named() -> None:
    config, weights, _ = small("sd")
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    with pytest.raises(ValueError, match=f"{name} is missing"):
        diffusers.read({key: value for key, value in weights.items() if key != name}, config, CHAIN)
    with pytest.raises(ValueError, match=r"ema\.decay is not known"):
        diffusers.read({**weights, "ema.decay": torch.zeros(1)}, config, CHAIN)


def test_conditions_that_are_missing_or_unknown_are_named() -> None:
    config, weights, io = small("sdxl")
    net = network(diffusers.read(weights, config, CHAIN))
    x, t = io["in/sample"], io["in/timestep"].float()
    tokens, vector = io["in/encoder_hidden_states"], keywords(io, torch.float32)["vector"]
    for cond, answer in (
        ({"vector": vector}, "needs the tokens of a text"),
        ({"tokens": tokens}, "needs a vector"),
        ({"tokens": tokens, "vector": vector, "label": torch.zeros(2).long()}, "without classes"),
        ({"tokens": tokens, "vector": vector, "image": x}, "the condition image has 4 channels"),
        ({"tokens": tokens, "vector": vector[:, 1:]}, "the vector has .* numbers"),
        ({"tokens": tokens[..., 0], "vector": vector}, "tokens have shape"),
    ):
        with pytest.raises(ValueError, match=answer):
            net(x, t, **cond)


@torch.no_grad()
def test_masked_tokens_change_nothing() -> None:
    config, weights, io = small("sdxl")
    net = network(diffusers.read(weights, config, CHAIN)).double()
    x, t = io["in/sample"].double(), io["in/timestep"].double()
    tokens, vector = io["in/encoder_hidden_states"].double(), keywords(io, torch.float64)["vector"]
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])
    short = net(x, t, tokens=tokens[:, :3], vector=vector)
    torch.testing.assert_close(net(x, t, tokens=tokens, mask=mask, vector=vector), short)
    other = tokens + 9 * (1 - mask)[..., None]
    torch.testing.assert_close(net(x, t, tokens=other, mask=mask, vector=vector), short)
    assert (net(x, t, tokens=tokens, vector=vector) - short).abs().max() > 1e-3
