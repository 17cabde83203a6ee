"""The prior of unCLIP of diffusers is the same function here: outputs, input gradients, and units of embeddings."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.data.codec import Standardized
from sde_gen.denoiser.parametrization import X0
from sde_gen.interop.diffusers import reader as diffusers
from tests.helpers.stored_run import read_back
from tests.unit.interop.test_diffusers_condition import GOLDEN, KINDS, ROOT, network
from tests.unit.interop.test_diffusers_control import close

SCHEDULER = {
    "_class_name": "UnCLIPScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "clip_sample_range": 5.0,
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
}


def small() -> tuple[list[dict[str, Any]], list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Configurations, weights and inputs with outputs of two priors."""
    with np.load(ROOT / "tests" / "data" / "prior_transformer.npz") as file:
        configs = json.loads(str(file["config_json"]))
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config_json"}

    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): each for key, each in arrays.items() if key.startswith(prefix)}

    numbers = range(len(configs))
    weights = [{key: each.float() for key, each in part(f"w/{n}/").items()} for n in numbers]
    return configs, weights, [part(f"io/{n}/") for n in numbers]


def check(
    config: dict[str, Any], weights: dict[str, Tensor], io: dict[str, Tensor], dtype: torch.dtype, kind: str
) -> None:
    found = diffusers.read(weights, config, SCHEDULER)
    net = network(found).to(dtype)
    given = {key: each.to(dtype) if each.is_floating_point() else each for key, each in io.items()}
    x = given["in/hidden_states"].requires_grad_()
    cond = {"vector": given["in/proj_embedding"]}
    if "in/encoder_hidden_states" in given:
        cond["tokens"] = given["in/encoder_hidden_states"]
    if "in/attention_mask" in given:
        cond["mask"] = given["in/attention_mask"]
    out = net(x, given["in/timestep"].to(dtype), **cond)
    (slope,) = torch.autograd.grad((out * given["cotangent"]).sum(), x)
    close(out, io[f"out_{kind}/sample"], 1e-9 if kind == "exact" else 1e-5)
    close(slope, io[f"grad_hidden_states_{kind}"], 1e-9 if kind == "exact" else 3e-5)
    spec = DataSpec(shape=found.shape, levels=None, classes=0)
    codec = build.codec(read_back(found.config), spec)
    assert isinstance(codec, Standardized)
    close(codec.decode(out), io[f"out_{kind}/post_processed"], 1e-9 if kind == "exact" else 1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_a_prior_matches_diffusers(number: int) -> None:
    """The first has a text and a mask, the second neither, nor a learned token, and fewer positions than tokens."""
    configs, weights, io = small()
    check(configs[number], weights[number], io[number], torch.float64, "exact")


@KINDS
@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")
def test_golden(dtype: torch.dtype, kind: str) -> None:
    folder = GOLDEN / "prior_unclip"
    config = json.loads((folder / "config.json").read_text())
    with np.load(folder / "io.npz") as file:
        io = {key: torch.from_numpy(file[key]) for key in file.files}
    check(config, load_file(folder / "diffusion_pytorch_model.safetensors"), io, dtype, kind)


def test_the_run_of_a_prior() -> None:
    configs, weights, _ = small()
    found = diffusers.read(weights[0], configs[0], SCHEDULER)
    spec = DataSpec(shape=found.shape, levels=None, classes=0)
    assert isinstance(build.model(read_back(found.config), spec).parametrization, X0)
    assert set(found.unused) == {"clip_mean", "clip_std"}
    assert found.shape == (configs[0]["embedding_dim"],)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"clip_embed_dim": 3}, "clip_embed_dim=3 is not supported; expected 8, as embedding_dim"),
        ({"added_emb_type": "cls"}, "added_emb_type='cls' is not supported; expected prd"),
        ({"norm_in_type": "rms"}, "norm_in_type='rms' is not supported; expected layer"),
        ({"encoder_hid_proj_type": "mlp"}, "encoder_hid_proj_type='mlp' is not supported; expected linear"),
        ({"num_layers": 0}, "num_layers=0 is not supported"),
        ({"thickness": 2}, "PriorTransformer has no setting thickness"),
        ({"num_embeddings": 3}, "positional_embedding gives shape"),
    ],
)
def test_settings_that_are_not_supported_are_named(changes: dict[str, Any], answer: str) -> None:
    configs, weights, _ = small()
    with pytest.raises(ValueError, match=answer) as caught:
        diffusers.read(weights[0], {**configs[0], **changes}, SCHEDULER)
    assert "\n" not in str(caught.value)


def test_deviations_that_are_not_positive_are_refused() -> None:
    """Those of a network that was never trained are zero."""
    configs, weights, _ = small()
    with pytest.raises(
        ValueError, match=r"clip_mean and clip_std have .* expected [0-9]* positive deviations"
    ):
        diffusers.read({**weights[0], "clip_std": 0 * weights[0]["clip_std"]}, configs[0], SCHEDULER)


def test_conditions_that_are_missing_are_named() -> None:
    configs, weights, io = small()
    net = network(diffusers.read(weights[0], configs[0], SCHEDULER))
    x, t = io[0]["in/hidden_states"].float(), io[0]["in/timestep"].float()
    vector, tokens = io[0]["in/proj_embedding"].float(), io[0]["in/encoder_hidden_states"].float()
    with pytest.raises(ValueError, match="needs the vector of a text"):
        net(x, t, vector=vector)
    with pytest.raises(ValueError, match=r"there are .* tokens with those of the text; expected at least"):
        net(x, t, vector=vector, tokens=tokens[:, :1])
