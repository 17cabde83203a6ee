"""ControlNets of diffusers are the same functions here: residuals, outputs and input gradients."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sde_gen as sg
from sde_gen.cli import instantiate
from sde_gen.interop.diffusers import controlnet
from sde_gen.interop.diffusers import reader as diffusers
from tests.helpers import random_pipeline
from tests.helpers.commands import enter, mistake
from tests.helpers.stored_run import read_back
from tests.unit.interop.test_diffusers_condition import CHAIN, GOLDEN, KINDS, ROOT, network

TOKENIZER = ROOT / "tests" / "data" / "tokenizer_clip"


def controlled(base: nn.Module, config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    found = controlnet.read(weights, config)
    node = read_back(found.config).model
    net: nn.Module = instantiate.make(node, base=base, run="somewhere", _convert_="all")
    net.load_state_dict(found.state)
    return net.eval()


def planes(hints: list[Tensor], scales: list[float]) -> Tensor:
    """Hints as a keyword of the network."""
    like = torch.ones_like(hints[0][:, :1])
    return torch.cat([*hints, *(scale * like for scale in scales)], 1)


def close(found: Tensor, exact: Tensor, tolerance: float) -> None:
    assert (found.detach().double() - exact.double()).abs().max() <= tolerance * exact.abs().max()


def small() -> tuple[list[dict[str, Any]], list[dict[str, Tensor]], dict[str, Tensor]]:
    """Configurations and weights of a U-Net like that of SDXL and of two ControlNets, and inputs with outputs."""
    with np.load(ROOT / "tests" / "data" / "controlnet.npz") as file:
        configs = json.loads(str(file["config_json"]))
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config_json"}
    weights = [
        {
            key.removeprefix(f"w/{n}/"): each.float()
            for key, each in arrays.items()
            if key.startswith(f"w/{n}/")
        }
        for n in range(3)
    ]
    return configs, weights, {key: value for key, value in arrays.items() if not key.startswith("w/")}


def test_two_controls_of_a_network_match_diffusers() -> None:
    """One of them is given BGR, the other is averaged over all pixels and has more layers than the network."""
    configs, weights, io = small()
    base = network(diffusers.read(weights[0], configs[0], CHAIN))
    net = controlled(base, configs[1], weights[1])
    net.extend(controlled(base, configs[2], weights[2]))
    net.double()
    x = io["x"].requires_grad_()
    given = {"tokens": io["tokens"], "vector": io["vector"]}
    given["control"] = planes([io["hint0"], io["hint1"]], io["scales"].tolist())
    out = net(x, io["t"].double(), **given)
    (slope,) = torch.autograd.grad((out * io["cotangent"]).sum(), x)
    close(out, io["out"], 1e-9)
    close(slope, io["slope"], 1e-9)
    guessed = net(x, io["t"].double(), **given, control_ramp=torch.full((2,), 0.1).double())
    close(guessed, io["guessed"], 1e-7)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        (
            {"controlnet_conditioning_channel_order": "gbr"},
            "channel_order='gbr' is not supported; expected rgb or",
        ),
        ({"conditioning_embedding_out_channels": []}, r"conditioning_embedding_out_channels=\[\] is not"),
        ({"mid_block_type": None}, "mid_block_type=None is not supported"),
        ({"conditioning_channels": 0}, "conditioning_channels=0 is not supported"),
        ({"addition_embed_type": "text_image"}, "addition_embed_type='text_image' is not supported"),
        ({"thickness": 2}, "ControlNetModel has no setting thickness"),
        ({"conditioning_channels": 2}, r"hint.0.weight needs \(3, 2, 3, 3\)"),
    ],
)
def test_settings_that_are_not_supported_are_named(changes: dict[str, Any], answer: str) -> None:
    configs, weights, _ = small()
    with pytest.raises(ValueError, match=answer) as caught:
        controlnet.read(weights[1], {**configs[1], **changes})
    assert "\n" not in str(caught.value)


def test_a_control_of_another_network_is_refused() -> None:
    configs, weights, io = small()
    base = network(diffusers.read(weights[0], configs[0], CHAIN))
    wide = {**configs[1], "block_out_channels": [8, 16]}
    node = read_back({"model": controlnet.ControlNetLayout(wide).spec().config()}).model
    with pytest.raises(InstantiationException, match="was made for another network"):
        instantiate.make(node, base=base, run="somewhere", _convert_="all")
    net = controlled(base, configs[1], weights[1])
    given = {"tokens": io["tokens"].float(), "vector": io["vector"].float()}
    for hint, answer in (
        (torch.zeros(2, 4, 4, 4), r"the hint has shape \(3, 4, 4\); expected \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"the hints have shape .*; expected \(B, 4, H, W\)"),
    ):
        with pytest.raises(ValueError, match=answer):
            net(io["x"].float(), io["t"].float(), control=hint, **given)


@KINDS
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")
def test_golden(dtype: torch.dtype, kind: str) -> None:
    folder = GOLDEN / "controlnet_sd15"
    parts = {}
    for name in ("unet", "controlnet"):
        config = json.loads((folder / name / "config.json").read_text())
        parts[name] = config, load_file(folder / name / "diffusion_pytorch_model.safetensors")
    base = network(diffusers.read(parts["unet"][1], parts["unet"][0], CHAIN))
    net = controlled(base, *parts["controlnet"]).to(dtype)
    with np.load(folder / "io.npz") as file:
        io = {key: torch.from_numpy(file[key]) for key in file.files}
    tolerance = 1e-9 if kind == "exact" else 1e-5
    x = io["in/sample"].to(dtype).requires_grad_()
    t = io["in/timestep"].to(dtype).expand(len(x))
    hint, tokens = io["in/image"].to(dtype), io["in/encoder_hidden_states"].to(dtype)
    residuals = net.branches[0](x, t, hint, tokens=tokens)
    for index, skip in enumerate(residuals.skips):
        close(skip, io[f"out_{kind}/down_{index}"], tolerance)
    close(residuals.middle, io[f"out_{kind}/mid"], tolerance)
    out = net(x, t, control=planes([hint], [1.0]), tokens=tokens)
    close(out, io[f"out_{kind}/sample"], tolerance)
    (slope,) = torch.autograd.grad((out * io["cotangent"].to(dtype)).sum(), x)
    close(slope, io[f"grad_sample_{kind}"], 1e-9 if kind == "exact" else 3e-5)
    with torch.no_grad():
        close(
            net(x, t, control=planes([hint], [0.5]), tokens=tokens), io[f"out_{kind}/half_sample"], tolerance
        )
        close(net(x, t, tokens=tokens), io[f"out_{kind}/uncontrolled"], tolerance)
        ramp = torch.full((len(x),), 0.1, dtype=torch.float64)
        guessed = net(x, t, control=planes([hint], [1.0]), control_ramp=ramp, tokens=tokens)
        theirs = [scale.to(dtype) for scale in torch.logspace(-1, 0, len(residuals.skips) + 1)]  # in float32
        encoded = net.base.encode(x, t, tokens=tokens).plus(residuals.scaled(theirs))
        close(net.base.decode(encoded), io[f"out_{kind}/guess_sample"], tolerance)
    close(guessed, io[f"out_{kind}/guess_sample"], max(tolerance, 2e-8))


def written_xl(folder: Path, configs: list[dict[str, Any]], weights: list[dict[str, Tensor]]) -> Path:
    """A pipeline of SDXL with the stored networks, and with random encoders of texts and autoencoder."""
    text = {**random_pipeline.TEXT, "intermediate_size": 8}
    texts = {"": {**text, "hidden_size": 4}, "_2": {**text, "hidden_size": 2, "projection_dim": 5}}
    random_pipeline.write(
        folder, TOKENIZER, unet={**random_pipeline.UNET, "sample_size": 4}, text=texts[""], kind="x"
    )
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLControlNetPipeline"
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
    index["controlnet"] = ["diffusers", "ControlNetModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(TOKENIZER, folder / "tokenizer_2")
    for name, config, state, file in (
        ("text_encoder_2", texts["_2"], random_pipeline.text_tensors(texts["_2"]), "model.safetensors"),
        ("unet", configs[0], weights[0], "diffusion_pytorch_model.safetensors"),
        ("controlnet", configs[1], weights[1], "diffusion_pytorch_model.safetensors"),
    ):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(state, folder / name / file, {"format": "pt"})
    return folder


@pytest.mark.long
def test_a_folder_of_sdxl_with_a_control(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The networks of the folder are those of the files, with the numbers of SDXL beside a text."""
    configs, weights, io = small()
    folder = written_xl(tmp_path / "folder", configs, weights)
    enter("convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    run = sg.load(tmp_path / "run", device="cpu")
    net: Any = run.denoiser.net
    given = run.run.prompt(2, text="a cat", image=255 * io["hint0"].float())
    assert given["vector"].shape == (2, 11)
    assert given["vector"][:, 5:].tolist() == [[8.0, 8.0, 0.0, 0.0, 8.0, 8.0]] * 2
    assert given["tokens"].shape[2] == 6
    with torch.no_grad():
        assert not torch.equal(net(io["x"].float(), io["t"].float(), **given), io["out"].float())
    net.extend(controlled(net.base, configs[2], weights[2]))  # the stored outputs are those of two controls
    net.double()
    given = {"tokens": io["tokens"], "vector": io["vector"]}
    given["control"] = planes([io["hint0"], io["hint1"]], io["scales"].tolist())
    close(net(io["x"], io["t"].double(), **given), io["out"], 1e-9)
    wide = {**configs[1], "cross_attention_dim": 8}
    (folder / "controlnet" / "config.json").write_text(json.dumps(wide))
    assert "needs (" in mistake(
        capfd, "convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'no'}"
    )
    assert not (tmp_path / "no").exists()
