"""ControlNets of diffusers are the same functions here: residuals, outputs and input gradients."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from safetensors.torch import load_file
from torch import Tensor, nn

from sde_gen.cli import build
from sde_gen.interop.diffusers import controlnet
from sde_gen.interop.diffusers import reader as diffusers
from tests.helpers.stored_run import read_back
from tests.unit.interop.test_diffusers_condition import CHAIN, GOLDEN, KINDS, ROOT, network


def controlled(base: nn.Module, config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    found = controlnet.read(weights, config)
    node = read_back(found.config).model
    net: nn.Module = build.make(node, base=base, run="somewhere", _convert_="all")
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
        build.make(node, base=base, run="somewhere", _convert_="all")
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
