"""Networks of score_sde_pytorch are the same functions here: outputs and input gradients, by way of our denoiser."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf

from sde_gen import build
from sde_gen.build import Facts
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.interop import Imported, score_sde

DATA = Path(__file__).parents[1] / "data"
PROCESSES = {"ncsnpp_ve": "vesde", "ddpmpp_vp": "vpsde"}


def golden(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Their tensors; inputs and outputs; and their configuration."""
    with np.load(DATA / f"score_sde_{name}.npz") as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        config = json.loads(str(file["config_json"]))
    config["training"]["sde"] = PROCESSES[name]
    return safetensors.torch.load_file(DATA / f"score_sde_{name}.safetensors"), given, config


def denoiser(found: Imported) -> NetworkDenoiser:
    facts = Facts(shape=found.shape, levels=found.levels, classes=found.classes)
    made = build.denoiser(OmegaConf.create(found.config), facts)
    made.net.load_state_dict(found.state)
    return made.double().eval()


@pytest.mark.parametrize("name", PROCESSES)
def test_the_noise_is_theirs(name: str) -> None:
    """Their output at a time, and the gradient by the sample, in float64 to rounding."""
    tensors, given, config = golden(name)
    ours, labels = denoiser(score_sde.read(tensors, config)), given["in/labels"].double()
    x = given["in/x"].double().requires_grad_()
    if name == "ncsnpp_ve":  # theirs gets x in [0, 1] and sigma; ours 2 x - 1 and twice the sigma
        t = ours.sde.t_from_log_snr(-2 * torch.log(2 * labels))
        sigma = labels.view(-1, 1, 1, 1)
        out = -ours(2 * x - 1, t).eps / sigma
    else:
        out = ours(x, labels / 999).eps
    torch.testing.assert_close(
        out, given["out_f64"], rtol=1e-8, atol=1e-9 * float(given["out_f64"].abs().max())
    )
    (slope,) = torch.autograd.grad((out * given["cotangent"]).sum(), x)
    exact = given["grad_x_f64"]
    torch.testing.assert_close(slope, exact, rtol=1e-7, atol=1e-8 * float(exact.abs().max()))


def test_every_tensor_has_its_place() -> None:
    tensors, _, config = golden("ncsnpp_ve")
    assert set(score_sde.read(tensors, config).unused) <= {"sigmas"}
    missing = dict(tensors)
    gone = missing.popitem()[0]
    with pytest.raises(ValueError, match=f"{gone} is missing"):
        score_sde.read(missing, config)
    with pytest.raises(ValueError, match="more is not known"):
        score_sde.read({**tensors, "more": torch.ones(1)}, config)
    with pytest.raises(ValueError, match="holds NaN"):
        score_sde.read({**tensors, gone: torch.full_like(tensors[gone], torch.nan)}, config)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "resblock_type", "ddpm"),
        ("model", "progressive", "output_skip"),
        ("model", "progressive_combine", "cat"),
        ("model", "embedding_type", "positional"),
        ("model", "skip_rescale", False),
        ("training", "sde", "edm"),
        ("training", "continuous", False),
        ("data", "centered", True),
    ],
)
def test_other_settings_are_refused_by_name(section: str, key: str, value: object) -> None:
    tensors, _, config = golden("ncsnpp_ve")
    config = copy.deepcopy(config)
    config[section][key] = value
    with pytest.raises(ValueError, match=key):
        score_sde.read(tensors, config)


def test_averages_without_names_find_theirs() -> None:
    tensors, _, _ = golden("ncsnpp_ve")
    tensors = {"sigmas": torch.ones(3), **tensors}
    fixed = {"sigmas", "all_modules.0.W"}
    shadow = [2 * value for name, value in tensors.items() if name not in fixed]
    found = score_sde.averaged(tensors, shadow)
    for name, value in tensors.items():
        assert torch.equal(found[name], value if name in fixed else 2 * value)
    with pytest.raises(ValueError, match="tensors for"):
        score_sde.averaged(tensors, shadow[1:])
    with pytest.raises(ValueError, match="has shape"):
        score_sde.averaged(tensors, shadow[::-1])
