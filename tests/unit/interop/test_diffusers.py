"""A network of diffusers is the same function here: output and input gradients; and every setting it may have.

The oracle of the settings is :mod:`tests.reference.unet2d`, their network written from its description;
with diffusers installed, their own code; where SDE_GEN_GOLDEN names the folder, networks that their code evaluated.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sde_gen.cli import build, instantiate
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser import NetworkDenoiser, parametrization
from sde_gen.denoiser.parametrization import X0, Eps, V, Velocity
from sde_gen.denoiser.parametrization.label import LogSigma, Time
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.diffusers import reader as diffusers
from sde_gen.interop.diffusers import writer as to_diffusers
from sde_gen.interop.formats import files
from sde_gen.noise import IID
from sde_gen.sde import (
    DDPM,
    SDE,
    VE,
    EDMProcess,
    Rectified,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_snr_betas,
)
from sde_gen.solver import DDIM, Ancestral, ReverseDiffusion
from tests.helpers.stored_run import read_back
from tests.reference.unet2d import evaluate, random_tensors

GOLDEN = os.environ.get("SDE_GEN_GOLDEN")
CHAIN = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
}
LEVELS = {"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 1348.0}
PLAIN: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "norm_eps": 1e-6,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
    "attention_head_dim": None,
}
SKIP: dict[str, Any] = {
    **PLAIN,
    "block_out_channels": [32, 64],
    "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
    "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"],
    "time_embedding_type": "fourier",
    "norm_num_groups": None,
    "mid_block_scale_factor": 1.41421356237,
}
# as openai/diffusers-cd_imagenet64_l2 and its like, but narrower and with fewer levels
ADM: dict[str, Any] = {
    **PLAIN,
    "block_out_channels": [8, 16, 24],
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "downsample_padding": 1,
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 4,
    "attention_head_dim": 8,
    "num_class_embeds": 5,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "norm_eps": 1e-5,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ddpm": PLAIN,
    "heads": {**PLAIN, "attention_head_dim": 4},
    "padded": {**PLAIN, "downsample_padding": 1},
    "cosine_first": {**PLAIN, "freq_shift": 0, "flip_sin_to_cos": True},
    "sine_first_to_the_end": {**PLAIN, "freq_shift": 0},
    "cosine_first_to_the_end": {**PLAIN, "flip_sin_to_cos": True},
    "without_middle_attention": {**PLAIN, "add_attention": False},
    "eps": {**PLAIN, "norm_eps": 1e-2},
    "classes": {**PLAIN, "num_class_embeds": 5},
    "centered": {**PLAIN, "center_input_sample": True},
    "three_levels": {
        **PLAIN,
        "layers_per_block": 2,
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D"],
    },
    # after the last level down, and before the first up, nothing changes: their kinds do not count
    "kinds_at_the_ends": {
        **PLAIN,
        "down_block_types": ["DownBlock2D", "ResnetDownsampleBlock2D"],
        "up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D"],
    },
    "any_widths": {**PLAIN, "block_out_channels": [8, 12]},
    "middle_groups": {**PLAIN, "attn_norm_num_groups": 2, "norm_eps": 1e-2},
    "learned_label": {**PLAIN, "time_embedding_type": "learned", "num_train_timesteps": 1000},
    "variance": {**PLAIN, "out_channels": 6},
    "fourier": {**PLAIN, "time_embedding_type": "fourier"},
    "fourier_centered": {**PLAIN, "time_embedding_type": "fourier", "center_input_sample": True},
    "adm": ADM,
    "adm_sine_first": {**ADM, "flip_sin_to_cos": False, "freq_shift": 1, "num_class_embeds": None},
    "adm_without_middle_norm": {**ADM, "attn_norm_num_groups": None, "attention_head_dim": None},
    "adm_without_middle_attention": {**ADM, "add_attention": False, "layers_per_block": 2},
    "adm_any_widths": {**ADM, "block_out_channels": [16, 8, 24]},
    "adm_variance": {**ADM, "out_channels": 6},
    "adm_centered": {**ADM, "center_input_sample": True},
    "adm_learned_label": {**ADM, "time_embedding_type": "learned", "num_train_timesteps": 1000},
    "adm_fourier": {**ADM, "time_embedding_type": "fourier", "num_class_embeds": None},
    "adm_added": {**ADM, "resnet_time_scale_shift": "default", "attn_norm_num_groups": None},
    "adm_convolutions": {
        **ADM,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UNetResUpBlock2D"],
        "downsample_type": None,
        "upsample_type": "conv",
    },
    "adm_convolutions_unpadded": {
        **ADM,
        "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
        "downsample_type": "conv",
        "upsample_type": "conv",
        "downsample_padding": 0,
    },
    # the resolution changes inside residual blocks at some places and by convolutions at others
    "adm_down_inside_up_by_convolution": {
        **ADM,
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "upsample_type": "conv",
    },
    "adm_up_inside_down_by_convolution": {
        **ADM,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "downsample_type": "conv",
        "downsample_padding": 0,
    },
    "adm_inside_at_some_levels": {
        **ADM,
        "num_class_embeds": None,
        "resnet_time_scale_shift": "default",
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "upsample_type": "conv",
    },
    "ddpm_up_inside": {**PLAIN, "upsample_type": "resnet"},
    "ncsnpp": SKIP,
    "ncsnpp_centered": {**SKIP, "center_input_sample": True, "attention_head_dim": 64},
    "ncsnpp_three_levels": {
        **SKIP,
        "layers_per_block": 2,
        "block_out_channels": [32, 32, 64],
        "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"],
        "up_block_types": ["SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"],
    },
}


def fourier(config: dict[str, Any]) -> bool:
    return config.get("time_embedding_type") == "fourier"


def scheduler_of(config: dict[str, Any]) -> dict[str, Any]:
    if fourier(config):
        return LEVELS
    return {**CHAIN, "variance_type": "learned_range"} if config["out_channels"] == 6 else CHAIN


def denoiser_of(found: ConvertedModel) -> NetworkDenoiser:
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    ours = build.model(read_back(found.config), data_spec)
    ours.net.load_state_dict(found.state)
    return ours.double().eval()


def sde_of(found: ConvertedModel) -> SDE:
    """The process of a model, as it is when the run is opened again."""
    sde: SDE = instantiate.make(read_back(found.config).sde)
    return sde


def as_theirs(
    ours: NetworkDenoiser, config: dict[str, Any], x: torch.Tensor, t: torch.Tensor, **label: Any
) -> Any:
    """Return the output of the diffusers network at its x and t, computed by the denoiser of sde_gen."""
    if not fourier(config):
        found = ours(x, (t + 1) / 1000, **label)
        return found.eps if found.aux is None else torch.cat([found.eps, 2 * found.nu - 1], dim=1)
    unit = 1 + bool(config.get("center_input_sample"))
    place = 2 * x - 1 if unit == 2 else x
    time = ours.sde.t_from_log_snr(-2 * torch.log(unit * t))
    return -ours(place, time).eps / t.view(-1, 1, 1, 1)


def points(config: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    times = [0.05, 1.7, 31.0] if fourier(config) else [0.0, 17.0, 999.0]
    return x, torch.tensor(times, dtype=torch.float64)


def label_of(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {"label": torch.tensor([0, 4, 2])} if config.get("num_class_embeds") else {}


def with_slope(function: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """A function's value at x and the gradient of a combination of its numbers, in float64."""
    place = x.clone().requires_grad_()
    out = function(place)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (slope,) = torch.autograd.grad((out * cotangent.to(out)).sum(), place)
    return [out.detach().double(), slope.double()]


def distances(found: list[torch.Tensor], exact: list[torch.Tensor]) -> list[float]:
    """Largest differences, in units of the largest number."""
    assert all(float(one.std()) > 1e-3 for one in exact)
    pairs = zip(found, exact, strict=True)
    return [float((mine - original).abs().max() / original.abs().max()) for mine, original in pairs]


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_equals_the_reference_network(name: str) -> None:
    config = VARIANTS[name]
    tensors = random_tensors(config)
    x, t = points(config)
    label = label_of(config)
    ours = denoiser_of(diffusers.read(tensors, config, scheduler_of(config)))
    exact = {key: value.double() for key, value in tensors.items()}
    mine = with_slope(lambda x: as_theirs(ours, config, x, t, **label), x)
    original = with_slope(lambda x: evaluate(exact, config, x, t, **label), x)
    assert max(distances(mine, original)) < 1e-9


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_their_network(name: str) -> None:
    original = pytest.importorskip("diffusers")
    config = VARIANTS[name]
    tensors = random_tensors(config)
    net = original.UNet2DModel(**config)
    net.load_state_dict(tensors, strict=not fourier(config))
    ours = denoiser_of(diffusers.read(tensors, config, scheduler_of(config)))
    x, t = points(config)
    label, kind = label_of(config), config.get("time_embedding_type", "positional")

    def both(dtype: torch.dtype, t: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        net.to(dtype).eval()
        ours.to(dtype)
        at = t.round().long() if kind == "learned" else t.to(dtype)
        return (
            with_slope(lambda x: as_theirs(ours, config, x, t, **label).to(dtype), x.to(dtype)),
            with_slope(lambda x: net(x, at, class_labels=label.get("label")).sample, x.to(dtype)),
        )

    assert max(distances(*both(torch.float64, t))) < 1e-4  # their sinusoids are of float32 in any network
    if kind == "positional":
        t = torch.zeros_like(t)  # where those are exact
    mine, exact = both(torch.float64, t)
    assert max(distances(mine, exact)) < 1e-9
    mine, rounded = both(torch.float32, t)
    for error, unavoidable in zip(distances(mine, exact), distances(rounded, exact), strict=True):
        assert error < max(
            1e-5, 2 * unavoidable
        )  # without a norm before attention float32 does not give more


@pytest.mark.skipif(GOLDEN is None, reason="SDE_GEN_GOLDEN names no folder")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
@pytest.mark.parametrize("name", ["ddpm_cifar10like", "ncsnpp_ve"])
def test_golden(name: str, dtype: torch.dtype, tolerance: float) -> None:
    path = Path(str(GOLDEN)) / f"net_diffusers_{name}"
    with np.load(path.with_suffix(".npz")) as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        config = json.loads(str(file["config_json"]))
    tensors = safetensors.torch.load_file(path.with_suffix(".safetensors"))
    found = diffusers.read(tensors, config, scheduler_of(config))
    ours = denoiser_of(found).to(dtype)
    x = given["in/x"].to(dtype).requires_grad_()
    out = as_theirs(ours, config, x, given["in/t"].double()).to(dtype)
    (slope,) = torch.autograd.grad((out * given["cotangent"].to(dtype)).sum(), x)
    for mine, exact in ((out.detach(), given["out_f64"]), (slope, given["grad_x_f64"])):
        assert float((mine.double() - exact).abs().max()) < tolerance * float(exact.abs().max())
    assert not found.unused


def test_processes_and_predictions() -> None:
    tensors = random_tensors(PLAIN)

    def read(**changes: Any) -> NetworkDenoiser:
        return denoiser_of(diffusers.read(tensors, PLAIN, {**CHAIN, **changes}))

    assert read().sde == DDPM()
    scaled = read(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert scaled.sde == DDPM(betas=scaled_linear_betas())
    assert read(beta_schedule="squaredcos_cap_v2").sde == DDPM(betas=cosine_betas())
    assert read(trained_betas=[0.1, 0.2, 0.3, 0.4], num_train_timesteps=4).sde == DDPM(
        betas=(0.1, 0.2, 0.3, 0.4)
    )
    sigmoid = read(beta_schedule="sigmoid", beta_end=0.01)
    assert sigmoid.sde == DDPM(betas=sigmoid_betas(beta_max=0.01))
    rescaled = read(rescale_betas_zero_snr=True)
    assert rescaled.sde == DDPM(betas=zero_snr_betas(betas=linear_betas()))
    for scheduler in ("DDIM", "PNDM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        assert read(_class_name=f"{scheduler}Scheduler").sde == DDPM()
    kinds = {"epsilon": Eps, "sample": X0, "v_prediction": V}
    for name, kind in kinds.items():
        assert type(read(prediction_type=name).parametrization) is kind
    skip = diffusers.read(random_tensors(SKIP), SKIP, LEVELS)
    assert denoiser_of(skip).sde == VE(sigma_min=0.01, sigma_max=1348.0)
    assert skip.config["codec"]["low"] == 0.0


LEVELS_OF_EDM = {
    "_class_name": "EDMEulerScheduler",
    "sigma_min": 0.01,
    "sigma_max": 50.0,
    "sigma_data": 0.7,
    "prediction_type": "epsilon",
}


@torch.no_grad()
def test_levels_of_edm() -> None:
    """The process and its meaning; v_prediction is the same of a network with the other sign."""
    tensors = random_tensors(PLAIN)
    turned = {**tensors, **{name: -tensors[name] for name in ("conv_out.weight", "conv_out.bias")}}
    found = denoiser_of(diffusers.read(tensors, PLAIN, LEVELS_OF_EDM))
    assert found.sde == EDMProcess(sigma_min=0.01, sigma_max=50.0)
    assert found.parametrization == parametrization.EDM(sigma_data=0.7, label=LogSigma(scale=0.25))
    v = {**LEVELS_OF_EDM, "prediction_type": "v_prediction", "_class_name": "EDMDPMSolverMultistepScheduler"}
    other = denoiser_of(diffusers.read(turned, PLAIN, v))
    x, t = points(PLAIN)[0], torch.tensor([0.01, 0.3, 1.0]).double()
    assert torch.equal(found(x, t).x0, other(x, t).x0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_levels_of_edm_equal_the_original(kind: str) -> None:
    """The denoised image of the diffusers scheduler equals that of sde_gen."""
    original = pytest.importorskip("diffusers")
    said = {**LEVELS_OF_EDM, "prediction_type": kind}
    scheduler = original.EDMEulerScheduler(**{key: said[key] for key in said if key != "_class_name"})
    tensors = random_tensors(PLAIN)
    found = denoiser_of(diffusers.read(tensors, PLAIN, said))
    net = original.UNet2DModel(**PLAIN)
    net.load_state_dict(tensors)
    x, sigma = points(PLAIN)[0], torch.tensor([0.02, 1.3, 40.0]).double()
    shaped = sigma.view(-1, 1, 1, 1)
    out = net.double()(scheduler.precondition_inputs(x, shaped), scheduler.precondition_noise(sigma)).sample
    expected = scheduler.precondition_outputs(x, out, shaped)
    ours = found(x, sigma / 50.0).x0
    assert float((ours - expected).abs().max()) < 1e-6 * float(expected.abs().max())  # sinusoids of float32


def test_rectified_flow() -> None:
    """Of their sampler's grid nothing is taken over, which is said."""
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    imported = diffusers.read(random_tensors(PLAIN), PLAIN, scheduler)
    found = denoiser_of(imported)
    assert found.sde == Rectified()
    assert found.parametrization == Velocity(sde=Rectified(), label=Time(scale=1000.0))
    assert [note.partition(" ")[0] for note in imported.notes] == ["shift=3.0"]
    assert not diffusers.read(random_tensors(PLAIN), PLAIN, {**scheduler, "shift": 1.0}).notes


@torch.no_grad()
def test_rectified_flow_equals_the_original() -> None:
    """Euler's method: their scheduler with their network, and ours."""
    original = pytest.importorskip("diffusers")
    tensors = random_tensors(PLAIN)
    net = original.UNet2DModel(**PLAIN)
    net.load_state_dict(tensors)
    scheduler = original.FlowMatchEulerDiscreteScheduler(shift=1.0)
    said = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
    ours = denoiser_of(diffusers.read(tensors, PLAIN, said)).float()
    scheduler.set_timesteps(4)
    x = y = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for t, after in zip(scheduler.timesteps, [*scheduler.timesteps[1:], torch.tensor(0.0)], strict=True):
        x = scheduler.step(net(x, t).sample, t, x).prev_sample
        found = ours(y, t.double().expand(3) / 1000)
        y = y + float(after - t) / 1000 * (found.eps - found.x0)
    assert float((x - y).abs().max()) < 1e-4 * float(x.abs().max())


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "sigmoid", "squaredcos_cap_v2"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_chains_equal_the_original(schedule: str, rescaled: bool) -> None:
    """Signal coefficients of the diffusers scheduler at every step; a zero is nearly zero here."""
    original = pytest.importorskip("diffusers")
    said = {**CHAIN, "beta_schedule": schedule, "rescale_betas_zero_snr": rescaled}
    scheduler = original.DDPMScheduler(**{key: said[key] for key in said if key != "_class_name"})
    ours = denoiser_of(diffusers.read(random_tensors(PLAIN), PLAIN, said)).sde
    kept = ours.alpha(torch.arange(1, 1001).double() / 1000) ** 2
    exact = scheduler.alphas_cumprod.double()
    # diffusers multiplies in float32: a rounding a step, and of rescaled ones the difference of two numbers
    torch.testing.assert_close(kept[:-1], exact[:-1], rtol=2e-4, atol=2e-9 if rescaled else 0)
    assert (float(exact[-1]) == 0) == rescaled
    assert float(kept[-1]) == pytest.approx(
        0.001 * float(kept[-2]) if rescaled else float(exact[-1]), rel=2e-4
    )


def test_earlier_names_of_attention() -> None:
    tensors = random_tensors(PLAIN)
    earlier = {}
    for name, value in tensors.items():
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{old}.")
        earlier[name] = value
    assert earlier.keys() != tensors.keys()
    new, old = (diffusers.read(given, PLAIN, CHAIN).state for given in (tensors, earlier))
    assert all(torch.equal(new[name], old[name]) for name in new)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "relu"),
        ("mid_block_type", None),
        ("resnet_time_scale_shift", "spatial"),
        ("downsample_type", "fir"),
        ("upsample_type", "fir"),
        ("class_embed_type", "identity"),
        ("attention_head_dim", 5),
        ("norm_num_groups", None),
        ("sample_size", [8, 8, 8]),
        ("encoder_hid_dim", 8),
        ("class_embed_type", "timestep"),
        ("time_embedding_dim", 7),
        ("time_embedding_type", "learned"),
        ("freq_shift", 2),
        ("downsample_padding", 2),
        ("mid_block_scale_factor", 2.0),
        ("attn_norm_num_groups", 0),
        ("out_channels", 4),
        ("out_channels", 9),
        ("block_out_channels", []),
        ("up_block_types", ["UpBlock2D", "UpBlock2D"]),
        ("down_block_types", ["KDownBlock2D", "AttnDownBlock2D"]),
        ("down_block_types", ["SkipDownBlock2D", "AttnDownBlock2D"]),
        ("down_block_types", ["AttnDownBlock2D"]),
        ("_class_name", "UNet3DConditionModel"),
    ],
)
def test_other_settings_are_refused_by_name(key: str, value: object) -> None:
    names = {"up_block_types": "attention at levels"}
    with pytest.raises(ValueError, match=f"(?i){names.get(key, key)}"):
        diffusers.read(random_tensors(PLAIN), {**PLAIN, key: value}, CHAIN)


def test_settings_that_do_not_go_together_are_refused_by_name() -> None:
    blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    middle = {**PLAIN, **blocks, "attention_head_dim": 5}
    with pytest.raises(ValueError, match="attention_head_dim=5"):
        diffusers.read(random_tensors(PLAIN), middle, CHAIN)
    mixed = {**PLAIN, "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"]}
    with pytest.raises(ValueError, match="a mixture of skip blocks and others"):
        diffusers.read(random_tensors(PLAIN), mixed, CHAIN)
    with pytest.raises(ValueError, match="in_channels=1, out_channels=1 with skip blocks: expected 3"):
        diffusers.read(random_tensors(SKIP), {**SKIP, "in_channels": 1, "out_channels": 1}, LEVELS)
    wide = {**PLAIN, "out_channels": 6}
    for scheduler in (LEVELS_OF_EDM, {"_class_name": "FlowMatchEulerDiscreteScheduler"}):
        with pytest.raises(ValueError, match="Scheduler with a variance beside the image"):
            diffusers.read(random_tensors(wide), wide, scheduler)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("norm_num_groups", 32),
        ("mid_block_scale_factor", 1.0),
        ("attention_head_dim", 8),
        ("num_class_embeds", 3),
        ("norm_eps", 1e-5),
        ("add_attention", False),
        ("out_channels", 6),
        ("time_embedding_type", "positional"),
    ],
)
def test_settings_that_skip_blocks_do_not_have(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        diffusers.read(random_tensors(SKIP), {**SKIP, key: value}, LEVELS)


@pytest.mark.parametrize(
    ("scheduler", "word"),
    [
        ({}, "_class_name"),
        ({"_class_name": "DDIMScheduler"}, "num_train_timesteps"),
        ({**CHAIN, "beta_start": None}, "beta_start"),
        ({**CHAIN, "beta_schedule": "laplace"}, "beta_schedule"),
        ({**CHAIN, "prediction_type": "flow"}, "prediction_type"),
        ({**CHAIN, "rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr"),
        ({**CHAIN, "use_flow_sigmas": True}, "use_flow_sigmas"),
        ({**CHAIN, "timestep_type": "continuous"}, "timestep_type"),
        ({**CHAIN, "_class_name": "IPNDMScheduler"}, "IPNDMScheduler' is not supported"),
        ({**CHAIN, "_class_name": "CMStochasticIterativeScheduler"}, "it was distilled"),
        (LEVELS, "ScoreSdeVeScheduler' with time_embedding_type=positional"),
        ({**LEVELS, "_class_name": "EDMEulerScheduler"}, "sigma_data"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas"),
    ],
)
def test_other_schedulers_are_refused_by_name(scheduler: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        diffusers.read(random_tensors(PLAIN), PLAIN, scheduler)


def test_tensors_that_do_not_fit_are_named() -> None:
    tensors = random_tensors(PLAIN)
    missing = {name: value for name, value in tensors.items() if name != "conv_out.weight"}
    with pytest.raises(ValueError, match=r"conv_out\.weight is missing"):
        diffusers.read(missing, PLAIN, CHAIN)
    with pytest.raises(ValueError, match="extra is not known"):
        diffusers.read({**tensors, "extra": torch.zeros(1)}, PLAIN, CHAIN)


def folder_of(at: Path, config: dict[str, Any]) -> Path:
    at.mkdir(parents=True)
    safetensors.torch.save_file(random_tensors(config), at / "diffusion_pytorch_model.safetensors")
    (at / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **config}))
    return at


def test_folders_are_found(tmp_path: Path) -> None:
    """A pipeline with parts, one whose files lie together, a network alone with the scheduler given, and weights."""
    scheduler = json.dumps(CHAIN)
    folder_of(tmp_path / "parts" / "unet", PLAIN)
    (tmp_path / "parts" / "scheduler").mkdir()
    (tmp_path / "parts" / "scheduler" / "scheduler_config.json").write_text(scheduler)
    folder_of(tmp_path / "flat", PLAIN)
    (tmp_path / "flat" / "scheduler_config.json").write_text(scheduler)
    for path in (tmp_path / "parts", tmp_path / "parts" / "unet", tmp_path / "flat"):
        assert diffusers.load(files.weights_of(path)).shape == (3, 8, 8)
    alone = folder_of(tmp_path / "alone", PLAIN)
    assert diffusers.load(files.weights_of(alone), CHAIN).shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"no scheduler_config\.json"):
        diffusers.load(files.weights_of(alone))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds none of diffusion_pytorch_model"):
        files.weights_of(tmp_path / "empty")
    (alone / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        diffusers.load(files.weights_of(alone), CHAIN)
    (alone / "config.json").unlink()
    with pytest.raises(ValueError, match=r"there is no .*config\.json"):
        diffusers.load(files.weights_of(alone), CHAIN)


def short(name: str) -> dict[str, Any]:
    """The scheduler of a variant with few steps, which are built faster; all of them where the network has a table."""
    scheduler = scheduler_of(VARIANTS[name])
    known = "num_train_timesteps" in VARIANTS[name] or "num_train_timesteps" not in scheduler
    return scheduler if known else {**scheduler, "num_train_timesteps": 50}


def given_out(
    name: str, out: Path, scheduler: dict[str, Any] | None = None, **changes: Any
) -> dict[str, torch.Tensor]:
    """Take a variant in and give it out again; return what came in."""
    config = VARIANTS[name]
    tensors = random_tensors(config)
    found = diffusers.read(tensors, config, scheduler or scheduler_of(config))
    parts = {**found.config, "betas": getattr(sde_of(found), "betas", ())}
    for key, value in changes.items():
        parts[key] = {**parts[key], **value} if isinstance(value, dict) else value
    to_diffusers.save(parts, found.shape, found.state, out)
    return tensors


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_exported_network_equals_the_imported_one(tmp_path: Path, name: str) -> None:
    refused = {
        "centered": "CenteredInput has no counterpart",
        "fourier": "the process VE is not a discrete chain",
    }
    if "Skip" not in VARIANTS[name]["down_block_types"][0]:
        for word in (word for word in refused if word in name):
            with pytest.raises(ValueError, match=refused["fourier" if "fourier" in name else word]):
                given_out(name, tmp_path / "out", short(name))
            return
    tensors = given_out(name, tmp_path / "out", short(name))
    path = files.weights_of(tmp_path / "out")
    found = safetensors.torch.load_file(path)
    # sinusoids in the order that ours do not have
    order = VARIANTS[name]["freq_shift"] == VARIANTS[name]["flip_sin_to_cos"]
    for key, value in tensors.items():
        assert order or key.startswith("time_embedding.linear_1") or torch.equal(found[key], value), key
    assert found.keys() == tensors.keys()
    again = diffusers.load(path)
    first = diffusers.read(tensors, VARIANTS[name], short(name))
    assert sde_of(again) == sde_of(first)
    assert {**again.config, "sde": None} == {**first.config, "sde": None}
    assert all(torch.equal(again.state[key], value) for key, value in first.state.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": {"_target_": "sde_gen.model.NCSNpp"}}, "NCSNpp has no counterpart"),
        ({"model": {"outputs": 2}}, "outputs=2"),
        ({"model": {"norms": {"_target_": "sde_gen.model.QuarterGroups"}}}, "expected FixedGroups"),
        ({"model": {"change": {"_target_": "sde_gen.model.PlainResample"}}}, "change=PlainResample"),
        ({"model": {"embedding": {"_target_": "sde_gen.model.embedding.Fourier"}}}, "embedding=Fourier"),
        ({"sde": {"_target_": "sde_gen.sde.VP"}}, "the process VP is not a discrete chain"),
        ({"parametrization": {"_target_": "sde_gen.denoiser.parametrization.EDM"}}, "parametrization EDM"),
        (
            {"parametrization": {"label": {"_target_": "sde_gen.denoiser.parametrization.LogSigma"}}},
            "is not the chain's step",
        ),
        ({"codec": {"low": 0.0}}, "do not lie on"),
    ],
)
def test_what_diffusers_does_not_have_is_not_exported(
    tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        given_out("ddpm", tmp_path / "out", **changes)
    assert not list(tmp_path.iterdir())


def test_one_way_at_levels_with_attention_is_all_that_diffusers_has(tmp_path: Path) -> None:
    """Diffusers has one setting for all such levels, so networks that mix them are not exported."""
    convolution = {"_target_": "sde_gen.model.ConvResample"}
    mixed = {
        "model": {"attention_levels": [0, 1, 2], "down_changes": [convolution, None], "up_changes": None}
    }
    with pytest.raises(ValueError, match="down_changes: diffusers changes the resolution in one way"):
        given_out("adm", tmp_path / "out", **mixed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ddpm", "classes", "adm"])
def test_their_pipelines_draw_the_same_images(tmp_path: Path, name: str) -> None:
    """DDIM with ten steps from the same noise: diffusers from the folder, sde_gen from the tensors."""
    original = pytest.importorskip("diffusers")
    tensors = given_out(name, tmp_path / "out")
    scheduler = original.DDIMScheduler.from_pretrained(
        tmp_path / "out", subfolder="scheduler", clip_sample=False
    )
    unet = original.UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet")
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = denoiser_of(diffusers.read(tensors, VARIANTS[name], CHAIN)).float()
    scheduler.set_timesteps(10)
    times = [(int(t) + 1) / 1000 for t in scheduler.timesteps]
    label = label_of(VARIANTS[name]).get("label")
    bound = found if label is None else found.bind(label=label)
    grid = torch.tensor(times, dtype=torch.float64)
    last = DDIM().solve(bound, x, grid, noise=IID.seeded(0))
    ours = bound(last, grid[-1]).x0
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, class_labels=label).sample, t, x, eta=0.0).prev_sample
    assert float((ours - x).abs().max()) < 1e-4 * float(x.abs().max())
    if name == "ddpm":  # the pipeline itself: its own noise, its own loop
        pipeline = original.DDIMPipeline.from_pretrained(tmp_path / "out", scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        images = pipeline(
            batch_size=3, generator=torch.Generator().manual_seed(0), num_inference_steps=10, output_type="np"
        ).images
        shown = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        assert float(np.abs(images - shown).max()) < 1e-4
        assert (
            original.DDPMPipeline.from_pretrained(tmp_path / "out").scheduler.config.prediction_type
            == "epsilon"
        )


def recorded(scheduler: Any, method: str, what: str) -> list[torch.Tensor]:
    """Record the results of a method of the diffusers scheduler: its pipelines return the end only, clipped."""
    found: list[torch.Tensor] = []
    step = getattr(scheduler, method)

    def and_kept(*given: Any, **named: Any) -> Any:
        out = step(*given, **named)
        found.append(out[what])
        return out

    setattr(scheduler, method, and_kept)
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", ["ddpm", "adm_sine_first", "variance"])
def test_their_ancestral_pipeline_draws_the_same_images(tmp_path: Path, name: str) -> None:
    """DDPM with ten steps and the same noise: their whole pipeline, and our ancestral sampler."""
    original = pytest.importorskip("diffusers")
    tensors = given_out(name, tmp_path / "out")
    pipeline = original.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    drawn = recorded(pipeline.scheduler, "step", "prev_sample")
    pipeline(3, torch.Generator().manual_seed(0), num_inference_steps=10, output_type="np")
    config = VARIANTS[name]
    ours = denoiser_of(diffusers.read(tensors, config, scheduler_of(config))).float()
    solver = Ancestral(nu=None if name == "variance" else 0.0)
    grid = (pipeline.scheduler.timesteps.double() + 1) / 1000
    same = torch.Generator().manual_seed(0)
    x = torch.randn(3, 3, 8, 8, generator=same)
    last = ours(solver.solve(ours, x, grid, noise=IID(same)), grid[-1]).x0
    assert float((last - drawn[-1]).abs().max()) < 1e-4 * float(last.abs().max())


@torch.no_grad()
def test_their_pipeline_of_noise_levels_draws_the_same_images(tmp_path: Path) -> None:
    """Without its corrector: their whole pipeline, and our reverse diffusion sampler."""
    original = pytest.importorskip("diffusers")
    # their steps are those of a grid that ends at 0, their network is asked at one that ends at sampling_eps
    tensors = given_out("ncsnpp", tmp_path / "out", sde={"t_min": 1e-7})
    scheduler = original.ScoreSdeVeScheduler.from_pretrained(
        tmp_path / "out", subfolder="scheduler", correct_steps=0
    )
    pipeline = original.ScoreSdeVePipeline.from_pretrained(tmp_path / "out", scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    drawn = recorded(pipeline.scheduler, "step_pred", "prev_sample_mean")
    pipeline(3, 9, torch.Generator().manual_seed(0), output_type="np")
    ours = denoiser_of(diffusers.read(tensors, SKIP, LEVELS)).float()
    same, grid = torch.Generator().manual_seed(0), scheduler.timesteps.double()
    x = 1348.0 * torch.randn(3, 3, 8, 8, generator=same)
    last = ours(ReverseDiffusion().solve(ours, x, grid, noise=IID(same)), grid[-1]).x0
    assert float((last - drawn[-1]).abs().max()) < 1e-4 * float(last.abs().max())


@torch.no_grad()
def test_diffusers_network_of_an_exported_folder_has_the_variance(tmp_path: Path) -> None:
    original = pytest.importorskip("diffusers")
    config = VARIANTS["adm_variance"]
    tensors = given_out("adm_variance", tmp_path / "out")
    net = original.UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet")
    scheduler = original.DDPMScheduler.from_pretrained(tmp_path / "out", subfolder="scheduler")
    assert scheduler.config.variance_type == "learned_range"
    x, t = points(config)
    ours = denoiser_of(diffusers.read(tensors, config, scheduler_of(config))).float()
    expected = net(x.float(), t.float(), class_labels=label_of(config)["label"]).sample
    mine = as_theirs(ours, config, x.float(), t, **label_of(config))
    assert float((mine - expected).abs().max()) < 1e-4 * float(expected.abs().max())
