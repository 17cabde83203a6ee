"""Networks of score_sde_pytorch are the same functions here: outputs and input gradients, by way of our denoiser."""

import copy
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.score_sde import reader as score_sde
from sde_gen.interop.score_sde.ncsnpp import NCSNppLayout
from tests.helpers.stored_run import read_back
from tests.reference import score_sde as score_sde_reference

DATA = Path(__file__).parents[2] / "data"
PROCESSES = {"ncsnpp_ve": "vesde", "ddpmpp_vp": "vpsde"}


def golden(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Return the original tensors, inputs and outputs, and configuration."""
    with np.load(DATA / f"score_sde_{name}.npz") as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        config = json.loads(str(file["config_json"]))
    config["training"]["sde"] = PROCESSES[name]
    return safetensors.torch.load_file(DATA / f"score_sde_{name}.safetensors"), given, config


def denoiser(found: ConvertedModel) -> NetworkDenoiser:
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    made = build.model(read_back(found.config), data_spec)
    made.net.load_state_dict(found.state)
    return made.double().eval()


@pytest.mark.parametrize("name", PROCESSES)
def test_noise_equals_the_original(name: str) -> None:
    """Output at a time, and gradient with respect to the sample, equal the original's in float64 to rounding."""
    tensors, given, config = golden(name)
    ours, labels = denoiser(score_sde.read(tensors, config)), given["in/labels"].double()
    x = given["in/x"].double().requires_grad_()
    if name == "ncsnpp_ve":  # the original gets x in [0, 1] and sigma; ours 2 x - 1 and twice the sigma
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


SMALL: dict[str, dict[str, Any]] = {
    "model": {
        "name": "ncsnpp",
        "sigma_min": 0.01,
        "sigma_max": 50,
        "num_scales": 20,
        "beta_min": 0.1,
        "beta_max": 12.0,
        "dropout": 0.1,
        "nf": 8,
        "ch_mult": [1, 2, 2],
        "attn_resolutions": [4],
        "fir_kernel": [1, 3, 3, 1],
    },
    "data": {"image_size": 8, "num_channels": 2},
    "training": {},
}
PROCESS = {
    "sde": ["vesde", "vpsde", "subvpsde"],
    "continuous": [True, True, False],
    "embedding_type": ["positional", "fourier"],
    "scale_by_sigma": [True, False],
    "centered": [True, False],
}
STRUCTURE = {
    "resblock_type": ["biggan", "ddpm"],
    "fir": [True, False],
    "progressive": ["none", "residual", "output_skip"],
    "progressive_input": ["none", "residual", "input_skip"],
}
REST = {
    "resamp_with_conv": [True, False],
    "progressive_combine": ["sum", "cat"],
    "skip_rescale": [True, False],
    "conditional": [True, True, False],
    "num_res_blocks": [1, 2],
}
UNUSUAL: list[dict[str, Any]] = [
    {"nonlinearity": "relu", "progressive": "output_skip"},
    {"nonlinearity": "lRelu", "progressive": "residual"},
    {"nonlinearity": "elu", "resblock_type": "ddpm"},
    {"name": "ddpm", "nf": 32, "nonlinearity": "elu"},
    {"fir": True, "fir_kernel": [1, 2, 1], "progressive_input": "input_skip"},
    {"fir": True, "fir_kernel": [1, 2, 4, 1], "progressive": "output_skip"},
    {"fir": True, "fir_kernel": [4, 2, 2], "progressive_input": "residual", "resblock_type": "ddpm"},
    {"nf": 5, "embedding_type": "positional", "scale_by_sigma": False},
]
"""Options that no published network has: other activations, filters that are odd or no mirror images."""
SECTIONS = {"sde": "training", "continuous": "training", "centered": "data"}


def small(**settings: Any) -> dict[str, dict[str, Any]]:
    config = copy.deepcopy(SMALL)
    for key, value in settings.items():
        config[SECTIONS.get(key, "model")][key] = value
    return config


def sensible(settings: dict[str, Any]) -> bool:
    """Return whether the original code accepts the configuration."""
    ve, discrete = settings["sde"] == "vesde", not settings["continuous"]
    fourier, divided = settings["embedding_type"] == "fourier", settings["scale_by_sigma"]
    indexed = ve and divided and not fourier and not discrete
    chain = discrete and (fourier or settings["sde"] == "subvpsde")
    return not indexed and not chain and (ve or not divided)


def drawings() -> list[dict[str, Any]]:
    """Every structure, and every process, with the rest drawn at random."""
    draw = random.Random(0)

    def product(of: dict[str, list[Any]]) -> list[dict[str, Any]]:
        return [dict(zip(of, values, strict=True)) for values in itertools.product(*of.values())]

    processes = list({str(p): p for p in product(PROCESS) if sensible(p)}.values())
    structures = product(STRUCTURE)
    rest = [{key: draw.choice(values) for key, values in REST.items()} for _ in range(len(structures))]
    found = [{**s, **r, **p} for s, r, p in zip(structures, rest, itertools.cycle(processes), strict=False)]
    processes = [process for process in processes if process["embedding_type"] == "positional"]
    for number, process in enumerate(processes):  # their DDPM, with settings that it does not look at
        wide = {"name": "ddpm", "nf": 32, "resamp_with_conv": number % 2 == 0, "conditional": number % 3 < 2}
        found.append({**found[number], **wide, **process})
    return found + [{**found[number], **one} for number, one in enumerate(UNUSUAL, start=4)]


@pytest.mark.long
@pytest.mark.parametrize("settings", drawings(), ids=lambda s: "-".join(str(v) for v in s.values()))
def test_every_option_equals_the_original(settings: dict[str, Any]) -> None:
    """The noise predicted by the reference network at a time, with the tensors that it reads."""
    config, generator = small(**settings), torch.Generator().manual_seed(1)
    x = torch.rand(2, 2, 8, 8, generator=generator).double()  # in their space
    t = torch.tensor([3, 14.3]).double() / 19  # at a time of the chain, and between two
    ve, steps = settings["sde"] == "vesde", SMALL["model"]["num_scales"]
    sigma = 0.01 * 5000**t
    discrete = not settings["continuous"]
    if ve:
        labels = torch.round((steps - 1) * (1 - t)) if discrete else sigma
    else:
        labels = steps * t - 1 if discrete else 999 * t
    tensors, weights = score_sde_reference.drawn()
    original = score_sde_reference.forward(config, weights, x, labels)
    if ve:  # their network gives the score, divided by the noise level or not
        original = -original if settings["scale_by_sigma"] else -sigma.view(-1, 1, 1, 1) * original
    found = score_sde.read(tensors, config)
    ours = denoiser(found)
    stretched = ve and not settings["centered"]
    eps = ours(2 * x - 1 if stretched else x, t).eps
    torch.testing.assert_close(eps, original, rtol=1e-8, atol=1e-9 * float(original.abs().max()))
    marginal = ours.sde.marginal(t)
    if ve:
        torch.testing.assert_close(marginal.sigma, sigma * (2 if stretched else 1))
    elif discrete:
        betas = torch.linspace(0.1 / steps, 12.0 / steps, steps, dtype=torch.float64)
        kept = torch.cumprod(1 - betas, 0)
        times = torch.arange(1, steps + 1).double() / steps
        torch.testing.assert_close(ours.sde.alpha(times), kept.sqrt())
    assert found.config["codec"]["low"] == (0.0 if not ve and not settings["centered"] else -1.0)
    assert all("Dense_0" in name for name in found.unused) or settings["conditional"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resblock_type", "adm"),
        ("progressive", "both"),
        ("progressive_input", "both"),
        ("embedding_type", "learned"),
        ("nonlinearity", "gelu"),
        ("name", "ncsnv2"),
        ("fir_kernel", [1, -1]),
        ("sde", "edm"),
        ("sde", None),
        ("nf", None),
        ("scale_by_sigma", True),
    ],
)
def test_other_settings_are_refused_by_name(key: str, value: object) -> None:
    tensors, _, config = golden("ddpmpp_vp")
    config["model"]["fir"] = True
    config["training" if key == "sde" else "model"][key] = value
    with pytest.raises(ValueError, match=key):
        score_sde.read(tensors, config)


@pytest.mark.parametrize("settings", [{"sde": "subvpsde"}, {"sde": "vesde", "embedding_type": "fourier"}])
def test_chains_that_the_original_lacks_are_refused(settings: dict[str, Any]) -> None:
    tensors, _, config = golden("ddpmpp_vp")
    config["training"] |= {"continuous": False, "sde": settings["sde"]}
    config["model"]["embedding_type"] = settings.get("embedding_type", "positional")
    with pytest.raises(ValueError, match="continuous=False"):
        score_sde.read(tensors, config)


def test_averages_without_names_are_matched_by_order() -> None:
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


@pytest.mark.parametrize(("number", "least", "most"), [(0, 61.804419, 61.80442), (1, 62.75, 62.85)])
def test_the_settings_in_the_docs_are_of_the_published_networks(
    number: int, least: float, most: float
) -> None:
    """61,804,419 and 62.8 million parameters: Song et al., 2021, arXiv:2011.13456, and its configurations."""
    page = (Path(__file__).parents[3] / "docs/import_weights.md").read_text()
    config: Any = OmegaConf.to_container(
        OmegaConf.create(page.split("```text\n")[number + 1].split("```")[0])
    )
    with torch.device("meta"):
        net = NCSNppLayout(config["model"], config["data"]).spec().make()
    assert least * 1e6 <= sum(parameter.numel() for parameter in net.parameters()) < most * 1e6
    with pytest.raises(ValueError, match="do not fit the network: all_modules"):
        score_sde.read({str(name): torch.ones(1) for name in range(99)}, config)
