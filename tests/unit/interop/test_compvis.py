"""Stable Diffusion in a single file: the same network, autoencoder and encoder as in the layout of diffusers."""

import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sde_gen.interop import compvis, diffusers
from sde_gen.interop.compvis import text as compvis_text
from tests.helpers import random_pipeline

TOKENIZER = Path(__file__).parents[2] / "data" / "tokenizer_clip"
LEVELS = {
    "conv_in": "input_blocks.0.0",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
"""Places in a network of two levels with one block each: names in diffusers and in CompVis' code."""

RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
CODER = {
    "down_blocks.0.resnets.0": "down.0.block.0",
    "down_blocks.1.resnets.0": "down.1.block.0",
    "down_blocks.0.downsamplers.0.conv": "down.0.downsample.conv",
    "up_blocks.0.resnets.0": "up.1.block.0",
    "up_blocks.0.resnets.1": "up.1.block.1",
    "up_blocks.1.resnets.0": "up.0.block.0",
    "up_blocks.1.resnets.1": "up.0.block.1",
    "up_blocks.0.upsamplers.0.conv": "up.1.upsample.conv",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}


def network(name: str) -> str:
    found = next(key for key in sorted(LEVELS, key=len, reverse=True) if name.startswith(key))
    rest = name.removeprefix(found)
    for theirs, ours in RESIDUAL.items():
        rest = re.sub(rf"^\.{theirs}\.", f".{ours}.", rest) if "resnets" in found else rest
    return f"model.diffusion_model.{LEVELS[found]}{rest}"


def autoencoder(name: str, value: Tensor) -> tuple[str, Tensor]:
    for theirs, ours in CODER.items():
        name = name.replace(theirs, ours)
    dense = "attn_1" in name and value.ndim == 2
    return f"first_stage_model.{name}", value[..., None, None] if dense else value


def single(folder: Path, path: Path, encoder: dict[str, Tensor]) -> None:
    """Write the tensors of a pipeline folder as one file."""
    state: dict[str, Tensor] = {"betas": torch.zeros(3), "model_ema.decay": torch.zeros(1)}
    file = "diffusion_pytorch_model.safetensors"
    for name, value in safetensors.torch.load_file(folder / "unet" / file).items():
        state[network(name)] = value
    for name, value in safetensors.torch.load_file(folder / "vae" / file).items():
        state |= dict([autoencoder(name, value)])
    safetensors.torch.save_file({**state, **encoder}, path)


def same(found: Any, expected: Any) -> None:
    """Hold two converted pipelines together: weights, settings and files."""
    for one, other in ((found, expected), (found.runs["vae"], expected.runs["vae"])):
        assert one.state.keys() == other.state.keys()
        assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
        assert one.config["model"] == other.config["model"]
        assert one.config["parametrization"] == other.config["parametrization"]
    assert found.config["sde"] == expected.config["sde"]


def test_stable_diffusion_1(tmp_path: Path) -> None:
    folder = random_pipeline.write(tmp_path / "folder", TOKENIZER)
    text = safetensors.torch.load_file(folder / "text_encoder" / "model.safetensors")
    encoder = {f"cond_stage_model.transformer.{name}": value for name, value in text.items()}
    encoder["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(16)
    single(folder, tmp_path / "model.safetensors", encoder)
    expected = diffusers.load(folder)
    settings = {"image_size": 8}
    found = compvis.load(tmp_path / "model.safetensors", settings, tokenizer=str(TOKENIZER))
    same(found, expected)
    kept = safetensors.torch.load_file(found.files["parts/text_encoder/model.safetensors"])
    assert all(torch.equal(kept[name], text[name]) for name in text)
    assert {"betas*", "model_ema.*"} <= found.unused.keys()
    assert found.config["conditioning"]["encoder"]["padding"] == 633


def test_stable_diffusion_2_leaves_out_the_last_block_of_open_clip(tmp_path: Path) -> None:
    """OpenCLIP has one matrix for queries, keys and values, and its projection is transposed."""
    unet = {**random_pipeline.UNET, "use_linear_projection": True, "attention_head_dim": [1, 1]}
    deep = {**random_pipeline.TEXT, "num_hidden_layers": 3, "hidden_act": "gelu"}
    text = random_pipeline.text_tensors(deep)
    folder = random_pipeline.write(
        tmp_path / "folder",
        TOKENIZER,
        unet=unet,
        scheduler={**random_pipeline.CHAIN, "prediction_type": "v_prediction"},
    )
    single(folder, tmp_path / "model.safetensors", open_clip(text, 3))
    found = compvis.load(tmp_path / "model.safetensors", {"image_size": 8}, tokenizer=str(TOKENIZER))
    same(found, diffusers.load(folder))
    kept = safetensors.torch.load_file(found.files["parts/text_encoder/model.safetensors"])
    assert kept.keys() == {name for name in text if "layers.2." not in name}
    assert all(torch.equal(kept[name], text[name]) for name in kept)
    assert any("v_prediction" in note for note in found.notes)
    assert found.config["conditioning"]["encoder"]["padding"] == 0


def open_clip(text: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return tensors of transformers under the names of OpenCLIP."""
    begin, found = "cond_stage_model.model.", {}
    outer = {ours: theirs for theirs, ours in compvis_text.OUTER.items()}
    found |= {f"{begin}{outer[name]}": value for name, value in text.items() if name in outer}
    for number in range(depth):
        source, target = f"text_model.encoder.layers.{number}.", f"{begin}transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            parts = [text[f"{source}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            found[f"{target}attn.in_proj_{kind}"] = torch.cat(parts)
            for theirs, ours in (
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("attn.out_proj", "self_attn.out_proj"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                found[f"{target}{theirs}.{kind}"] = text[f"{source}{ours}.{kind}"]
    return {**found, f"{begin}text_projection": torch.eye(64), f"{begin}logit_scale": torch.ones(())}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda state: {"a": torch.zeros(2)}, r"no tensors model\.diffusion_model\.\.\.\.; it has a"),
        (lambda state: {k: v for k, v in state.items() if "first_stage" not in k}, "without its autoencoder"),
        (lambda state: {k: v for k, v in state.items() if "cond_stage" not in k}, "the encoder of texts"),
        (
            lambda state: {**state, "model.diffusion_model.extra.weight": torch.zeros(2)},
            "the unet has the tensor 'extra.weight', which is not known",
        ),
        (
            lambda state: {k: v for k, v in state.items() if "input_blocks.2." not in k},
            "numbers of input_blocks have gaps",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path, change, answer) -> None:
    folder = random_pipeline.write(tmp_path / "folder", TOKENIZER)
    text = safetensors.torch.load_file(folder / "text_encoder" / "model.safetensors")
    single(
        folder,
        tmp_path / "model.safetensors",
        {f"cond_stage_model.transformer.{name}": value for name, value in text.items()},
    )
    state = change(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=answer) as caught:
        compvis.load(tmp_path / "other.safetensors", tokenizer=str(TOKENIZER))
    assert "\n" not in str(caught.value)


def test_the_tokenizer_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"from\.tokenizer=FOLDER"):
        compvis.load(tmp_path / "model.safetensors")
