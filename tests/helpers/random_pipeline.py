"""Folders of Stable Diffusion with random weights of any size, in the layout of diffusers."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sde_gen.interop.diffusers import autoencoder_kl
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.transformers import clip
from sde_gen.interop.weight_mapper import WeightMapper

CHAIN = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
UNET = {
    "sample_size": 8,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "sample_size": 16,
}
TEXT = {
    "model_type": "clip_text_model",
    "vocab_size": 634,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 16,
    "hidden_act": "quick_gelu",
    "eos_token_id": 2,
}
"""Settings of small networks, with the groups of normalization of the published ones."""


class Asked(WeightMapper):
    """A mapper that makes every tensor that it is asked to copy."""

    made: dict[str, Tensor]
    draw: Callable[[tuple[int, ...]], Tensor]

    def copy(self, target: str, source: str, transform: Any = None) -> None:
        if source not in self.made:
            shape = self.needed[target]
            value = self.draw(shape)
            if transform is not None and tuple(transform(value).shape) != shape:
                value = value.flatten(1)
            self.made[source] = value
            self.tensors = self.made
        super().copy(target, source, transform)


def tensors_of(net: nn.Module, copy: Callable[[Any], None], seed: int) -> dict[str, Tensor]:
    """Random tensors by the names that a mapping asks for."""
    generator = torch.Generator().manual_seed(seed)
    mapper = Asked({}, net)
    mapper.made = {}

    def draw(shape: tuple[int, ...]) -> Tensor:
        value = torch.randn(shape, generator=generator)
        return value / max(1, value[0].numel()) ** 0.5 if len(shape) > 1 else 0.1 * value

    mapper.draw = draw
    copy(mapper)
    return mapper.made


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def unet_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    layout = UNet2DConditionLayout(config, variance=False)
    found = tensors_of(on_meta(layout.spec().make), layout.map_weights, seed)
    if config.get("use_linear_projection"):
        dense = (".proj_in.weight", ".proj_out.weight")
        return {name: value.flatten(1) if name.endswith(dense) else value for name, value in found.items()}
    return found


def vae_tensors(config: Mapping[str, Any], seed: int = 1) -> dict[str, Tensor]:
    return made_by(autoencoder_kl, lambda: autoencoder_kl.read({}, config), seed)


def text_tensors(config: Mapping[str, Any], seed: int = 2, prefix: str = "text_model.") -> dict[str, Tensor]:
    projection = {"text_projection.weight": torch.zeros(1)} if "projection_dim" in config else {}
    found = made_by(clip, lambda: clip.read(projection, config), seed)
    return {
        name if name.startswith("text_projection") else f"{prefix}{name}": value
        for name, value in found.items()
    }


def made_by(module: Any, read: Callable[[], Any], seed: int) -> dict[str, Tensor]:
    """Tensors that the reader of a module asks for."""
    found: dict[str, Tensor] = {}
    before, plausible = module.WeightMapper, module.plausible

    def mapper(tensors: Mapping[str, Tensor], net: nn.Module) -> Any:
        asked = Asked({}, net)
        asked.made = found
        generator = torch.Generator().manual_seed(seed)
        asked.draw = lambda shape: torch.randn(shape, generator=generator) / max(1.0, float(shape[-1])) ** 0.5
        return asked

    module.WeightMapper, module.plausible = mapper, lambda *_: None
    try:
        read()
    finally:
        module.WeightMapper, module.plausible = before, plausible
    return found


def write(
    folder: Path,
    tokenizer: Path,
    *,
    unet: Mapping[str, Any] = UNET,
    vae: Mapping[str, Any] = VAE,
    text: Mapping[str, Any] = TEXT,
    scheduler: Mapping[str, Any] = CHAIN,
    kind: str = "StableDiffusionPipeline",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a pipeline of one encoder of texts."""
    index: dict[str, Any] = {
        "_class_name": kind,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "safety_checker": [None, None],
    }
    for name, config, tensors, file in (
        ("unet", unet, unet_tensors, "diffusion_pytorch_model.safetensors"),
        ("vae", vae, vae_tensors, "diffusion_pytorch_model.safetensors"),
        ("text_encoder", text, text_tensors, "model.safetensors"),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        state = {key: value.to(dtype) for key, value in tensors(config).items()}
        safetensors.torch.save_file(state, folder / name / file, {"format": "pt"})
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    shutil.copytree(tokenizer, folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
