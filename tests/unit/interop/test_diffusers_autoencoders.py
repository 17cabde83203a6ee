"""Autoencoders of diffusers are the same functions here; and every setting they may have.

The oracles: networks with random weights evaluated by diffusers 0.42.1 (tests/data/autoencoders.npz); with diffusers
installed, its own code in random configurations; where SDE_GEN_GOLDEN names the folder, networks stored there.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.interop.diffusers import autoencoder_kl, reader, vq
from sde_gen.model import Autoencoder

GOLDEN = os.environ.get("SDE_GEN_GOLDEN")
READERS = {"AutoencoderKL": autoencoder_kl.read, "VQModel": vq.read}
DATA = Path(__file__).parents[2] / "data"
KL: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 16,
}


def converted(tensors: dict[str, Tensor], config: dict[str, Any], dtype: torch.dtype) -> Autoencoder:
    """The network as the command line rebuilds it."""
    found = READERS[config["_class_name"]](tensors, config)
    assert not found.unused
    spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    net: Autoencoder = build.network(OmegaConf.create(found.config), spec)
    net.load_state_dict(found.state)
    return net.to(dtype).eval()


def outputs(net: Autoencoder, config: dict[str, Any], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs of diffusers by the names of the stored ones."""
    if config["_class_name"] == "VQModel":
        z = net.encode(given["image"]).mean
        return {
            "latents": z,
            "quantised": net.quantize(z),
            "index": net.nearest(z).flatten(),
            "decoded": net.decode(z),
            "decoded_not_quantised": net.decode_quantized(z),
        }
    posterior = net.encode(given["image"])
    return {
        "mean": posterior.mean,
        "logvar": 2 * torch.log(posterior.std),
        "kl_per_sample": posterior.kl(),
        "decoded": net.decode(given["latent"]),
        "round_trip_of_mode": net.decode(posterior.mean),
    }


def compare(found: dict[str, Tensor], stored: dict[str, Tensor], tolerance: float) -> None:
    for name, mine in found.items():
        original = stored[name].reshape(mine.shape)
        worst = float((mine.detach().double() - original.double()).abs().max())
        assert worst <= tolerance * max(1.0, float(original.double().abs().max())), name


def parts(path: Path, prefix: str) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {
            key.removeprefix(prefix): torch.from_numpy(file[key])
            for key in file.files
            if key.startswith(prefix)
        }


@pytest.mark.parametrize("name", ["kl", "kl_old_names", "vq"])
def test_is_the_network_that_diffusers_evaluated(name: str) -> None:
    path = DATA / f"autoencoder_{name}.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    tensors = safetensors.torch.load_file(path)
    io = path.with_suffix(".npz")
    net = converted(tensors, config, torch.float64)
    given = {key: value.double() for key, value in parts(io, "in/").items()}
    compare(outputs(net, config, given), parts(io, "out/"), 1e-11)


@pytest.mark.skipif(GOLDEN is None, reason="SDE_GEN_GOLDEN names no folder")
@pytest.mark.parametrize(
    ("dtype", "kind", "tolerance"),
    [(torch.float64, "out_exact/", 1e-11), (torch.float32, "out_f32/", 5e-6)],
    ids=str,
)
@pytest.mark.parametrize("name", ["vae_sd15", "vae_sd15_published", "vae_sd3", "vq_ldm"])
def test_golden(name: str, dtype: torch.dtype, kind: str, tolerance: float) -> None:
    folder = Path(str(GOLDEN)) / "diffusers_families" / name
    config = json.loads((folder / "config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "diffusion_pytorch_model.safetensors")
    given = {key: value.to(dtype) for key, value in parts(folder / "io.npz", "in/").items()}
    net = converted(tensors, config, dtype)
    compare(outputs(net, config, given), parts(folder / "io.npz", kind), tolerance)


def test_shift_and_scale_are_kept_with_the_network() -> None:
    """z in model space is (z - shift_factor) scaling_factor."""
    tensors = tensors_of(KL)
    net = converted(tensors, KL, torch.float64)  # like the published ones of Stable Diffusion 1.x
    assert net.latent_shift == [0.0] * 4
    assert net.latent_scale == pytest.approx([1 / 0.18215] * 4)
    net = converted(tensors, {**KL, "scaling_factor": 1.5, "shift_factor": 0.06}, torch.float64)
    assert (net.latent_shift, net.latent_scale) == ([0.06] * 4, [1 / 1.5] * 4)
    each = {"latents_mean": [1, 2, 3, 4], "latents_std": [2, 2, 2, 4], "scaling_factor": 0.5}
    net = converted(tensors, {**KL, **each}, torch.float64)
    assert (net.latent_shift, net.latent_scale) == ([1, 2, 3, 4], [4, 4, 4, 8])


def tensors_of(config: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of the names and shapes of the network that is stored, whose settings differ from these in no shape."""
    found = safetensors.torch.load_file(DATA / "autoencoder_kl.safetensors")
    del config
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_channels": 3, "use_tiling": True}, "AutoencoderKL has no setting use_tiling"),
        ({"out_channels": 6}, "out_channels=6"),
        ({"act_fn": "geglu"}, "act_fn='geglu'"),
        ({"down_block_types": ["DownEncoderBlock2D"]}, "1 types of block for 2"),
        ({"down_block_types": ["DownBlock2D"] * 2}, "down_block_types='DownBlock2D'"),
        ({"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}, "attention at levels"),
        ({"norm_num_groups": 3}, "norm_num_groups=3 does not divide"),
        ({"scaling_factor": 0}, "scaling_factor=0.0"),
        ({"latents_mean": [0, 0, 0, 0]}, "expected both, or null"),
        ({"block_out_channels": []}, "expected a number for every level"),
        ({"latent_channels": 8}, "the weights do not fit"),
        ({"use_quant_conv": False}, "quant_conv.weight is not known"),
    ],
)
def test_settings_that_are_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        autoencoder_kl.read(tensors_of(KL), {**KL, **change})


def test_tensors_without_a_place_are_named() -> None:
    tensors = tensors_of(KL)
    with pytest.raises(ValueError, match=r"encoder.more.weight is not known"):
        autoencoder_kl.read({**tensors, "encoder.more.weight": torch.zeros(1)}, KL)
    tensors.pop("decoder.conv_in.bias")
    with pytest.raises(ValueError, match=r"decoder.conv_in.bias is missing"):
        autoencoder_kl.read(tensors, KL)


def test_the_class_of_the_folder_decides(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(KL))
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    safetensors.torch.save_file(tensors_of(KL), path)
    found = reader.load(path)  # needs no scheduler
    assert found.config["model"]["_target_"] == "sde_gen.model.KLAutoencoder"
    (tmp_path / "config.json").write_text(json.dumps({**KL, "_class_name": "AutoencoderTiny"}))
    with pytest.raises(ValueError, match="AutoencoderTiny"):
        reader.load(path)


def random_config(kind: str, seed: int) -> dict[str, Any]:
    """A small configuration of a class."""
    draw = random.Random(seed)
    levels, groups = draw.randint(1, 4), draw.choice([1, 2, 4])
    attend = [draw.random() < 0.3 for _ in range(levels)]
    config = {
        "_class_name": kind,
        "in_channels": (channels := draw.choice([1, 3, 4])),
        "out_channels": channels,
        "block_out_channels": [groups * draw.randint(1, 5) for _ in range(levels)],
        "down_block_types": [f"{'Attn' * each}DownEncoderBlock2D" for each in attend],
        "up_block_types": [f"{'Attn' * each}UpDecoderBlock2D" for each in reversed(attend)],
        "layers_per_block": draw.randint(1, 3),
        "norm_num_groups": groups,
        "latent_channels": draw.choice([1, 3, 4, 16]),
        "mid_block_add_attention": draw.random() < 0.5,
        "act_fn": draw.choice(["silu", "swish", "mish", "gelu", "relu"]),
        "sample_size": 16,
    }
    if kind == "AutoencoderKL":
        return {
            **config,
            "use_quant_conv": draw.random() < 0.5,
            "use_post_quant_conv": draw.random() < 0.5,
        }
    return {**config, "num_vq_embeddings": draw.randint(2, 40), "vq_embed_dim": draw.choice([None, 2, 5])}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", READERS)
def test_random_configurations_against_their_code(kind: str, seed: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    config = random_config(kind, seed)
    torch.manual_seed(seed)
    original = getattr(diffusers, kind)(**{key: value for key, value in config.items() if key[0] != "_"})
    for parameter in original.parameters():
        parameter.data = torch.randn_like(parameter) / max(parameter[0].numel(), 1) ** 0.5
    net = converted(original.state_dict(), config, torch.float64)
    original = original.double().eval()
    x = torch.randn(2, config["in_channels"], 16, 24, dtype=torch.float64)
    with torch.no_grad():
        if kind == "VQModel":
            z = original.encode(x).latents
            stored = {
                "latents": z,
                "quantised": original.quantize(z)[0],
                "index": original.quantize(z)[2][2],
                "decoded": original.decode(z).sample,
                "decoded_not_quantised": original.decode(z, force_not_quantize=True).sample,
            }
            compare(outputs(net, config, {"image": x}), stored, 1e-11)
            return
        posterior = original.encode(x).latent_dist
        latent = torch.randn_like(posterior.mean)
        stored = {
            "mean": posterior.mean,
            "logvar": posterior.logvar,
            "kl_per_sample": posterior.kl(),
            "decoded": original.decode(latent).sample,
            "round_trip_of_mode": original.decode(posterior.mean).sample,
        }
    compare(outputs(net, config, {"image": x, "latent": latent}), stored, 1e-11)
