"""A network of guided-diffusion is the same function here: output, variance and input gradients."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.learned_range import LearnedVariance
from sde_gen.interop.guided_diffusion import reader as guided_diffusion
from sde_gen.interop.guided_diffusion.network import chain
from sde_gen.sde import VP
from tests.helpers.stored_run import read_back
from tests.reference import adm, score_sde

DATA = Path(__file__).parents[2] / "data"


def golden() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Return the original tensors, inputs and outputs, and configuration."""
    with np.load(DATA / "guided_unet_adm.npz") as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}
        config = json.loads(str(file["config_json"]))
        del config["cls"]  # the name of their class
    return safetensors.torch.load_file(DATA / "guided_unet_adm.safetensors"), given, config


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_noise_and_variance_equal_the_original(dtype: torch.dtype, tolerance: float) -> None:
    tensors, given, config = golden()
    found = guided_diffusion.read(tensors, config)
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    ours = build.model(read_back(found.config), data_spec)
    ours.net.load_state_dict(found.state)
    ours = ours.to(dtype).eval()
    x = given["in/x"].to(dtype).requires_grad_()
    t = (given["in/t"].double() + 1) / 1000  # the times of the chain's steps, which are numbered from 0
    prediction = ours(x, t, label=given["in/y"].long())
    assert prediction.aux is not None
    out = torch.cat([prediction.eps, 2 * prediction.aux - 1], dim=1)  # the original interpolates from -1 to 1
    (slope,) = torch.autograd.grad((out * given["cotangent"].to(dtype)).sum(), x)
    for mine, exact in ((out.detach(), given["out_f64"]), (slope, given["grad_x_f64"])):
        assert float((mine.double() - exact).abs().max()) < tolerance * max(1.0, float(exact.abs().max()))
    assert not found.unused


SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "attention_resolutions": [2],
    "num_heads": 4,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "improved": {
        **SMALL,
        "out_channels": 6,
        "rescale_timesteps": True,
        "steps": 4000,
        "noise_schedule": "cosine",
    },
    "added": {**SMALL, "use_scale_shift_norm": False},
    "added_in_blocks": {**SMALL, "use_scale_shift_norm": False, "resblock_updown": True},
    "without_convolutions": {**SMALL, "conv_resample": False},
    "classes_and_levels": {
        **SMALL,
        "num_classes": 4,
        "channel_mult": [1, 1, 2],
        "num_res_blocks": 2,
        "attention_resolutions": [1, 4],
        "num_head_channels": 16,
    },
    "other_heads_on_the_way_up": {**SMALL, "attention_resolutions": [1, 2], "num_heads_upsample": 2},
    "clean_sample": {**SMALL, "predict_xstart": True, "use_new_attention_order": True},
    "finest_of_half_the_width": {
        **SMALL,
        "model_channels": 64,
        "channel_mult": [0.5, 1],
        "num_head_channels": 8,
    },
}


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_equals_the_reference_network(name: str) -> None:
    config = VARIANTS[name]
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    classes = torch.tensor([0, 3, 1]) if "num_classes" in config else None
    steps = config.get("steps", 1000)
    t = torch.tensor([0.0, 7.0, steps - 1.0]).double()
    tensors, weights = score_sde.drawn()
    seen = t * 1000 / steps if config.get("rescale_timesteps") else t
    original = adm.forward(config, weights, x, seen, classes)
    found = guided_diffusion.read(tensors, config)
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    ours = build.model(read_back(found.config), data_spec)
    ours.net.load_state_dict(found.state)
    prediction = ours.double().eval()(x, (t + 1) / steps, **({} if classes is None else {"label": classes}))
    mean = prediction.x0 if config.get("predict_xstart") else prediction.eps
    out = mean if prediction.aux is None else torch.cat([mean, 2 * prediction.aux - 1], dim=1)
    assert float((out - original).abs().max()) < 1e-9 * float(original.abs().max())


@pytest.mark.parametrize("steps", [1000, 50])
def test_the_linear_chain_has_the_noise_of_a_thousand_steps(steps: int) -> None:
    """Betas from 0.0001 to 0.02 of a thousand steps, as many times larger as there are fewer steps."""
    sde = chain({"steps": steps})[0].make()
    expected = np.linspace(0.1 / steps, 20 / steps, steps)
    np.testing.assert_allclose(sde.betas, expected, rtol=1e-12)


def test_the_reference_network_is_their_code() -> None:
    """On the network that their code evaluated."""
    tensors, given, config = golden()
    out = adm.forward(
        config,
        score_sde.given(tensors),
        given["in/x"].double(),
        given["in/t"],
        given["in/y"].long(),
    )
    assert float((out - given["out_f64"]).abs().max()) < 1e-9 * float(given["out_f64"].abs().max())


def test_the_other_order_of_attention_is_another_file() -> None:
    """The same numbers, put in the new order by hand, are the same network."""
    tensors, _, config = golden()
    old = guided_diffusion.read(tensors, config).state
    mapper = dict(tensors)
    for name, value in tensors.items():
        if ".qkv." in name:
            heads, width = 2, value.shape[0] // 6
            rows = [h * 3 * width + part * width for part in range(3) for h in range(heads)]
            mapper[name] = torch.cat([value[row : row + width] for row in rows])
    new = guided_diffusion.read(mapper, {**config, "use_new_attention_order": True}).state
    assert all(torch.equal(new[name], value) for name, value in old.items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resblock_updown", None),
        ("use_scale_shift_norm", None),
        ("noise_schedule", "sqrt"),
        ("dims", 3),
        ("num_head_channels", 48),
        ("attention_resolutions", "8"),
        ("attention_resolutions", 2),
        ("channel_mult", "1,one"),
        ("channel_mult", ""),
        ("pool", "attention"),
        ("timestep_respacing", "250"),
        ("model_chanels", 64),
        ("out_channels", 5),
    ],
)
def test_other_settings_are_refused_by_name(key: str, value: object) -> None:
    tensors, _, config = golden()
    with pytest.raises(ValueError, match=key):
        guided_diffusion.read(tensors, {**config, key: value})


def test_heads_of_so_many_channels_are_the_same_on_the_way_up() -> None:
    """With a number of channels of a head, the original ignores the number of heads, too."""
    tensors, _, config = golden()
    read = guided_diffusion.read(tensors, {**config, "num_heads_upsample": 2})
    assert "up_heads" not in read.config["model"]
    with pytest.raises(ValueError, match="num_heads_upsample=0 is not supported"):
        guided_diffusion.read(tensors, {**SMALL, "num_heads_upsample": 0})


FLAGS: dict[str, Any] = {
    "image_size": 32,
    "num_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": "16,8",
    "class_cond": True,
    "learn_sigma": True,
    "diffusion_steps": 4000,
    "noise_schedule": "cosine",
    "rescale_timesteps": True,
    "use_fp16": True,
    "classifier_depth": 4,
}


def test_flags_of_the_scripts_are_the_arguments_of_the_class() -> None:
    """Sizes of images are factors of halving, an empty text the multipliers of the size, 4 heads the default."""
    arguments = {
        **SMALL,
        "image_size": 32,
        "out_channels": 6,
        "channel_mult": [1, 2, 2, 2],
        "attention_resolutions": [2, 4],
        "num_classes": 1000,
        "steps": 4000,
        "noise_schedule": "cosine",
        "rescale_timesteps": True,
    }
    tensors, weights = score_sde.drawn()
    x, t = torch.zeros(1, 3, 32, 32).double(), torch.ones(1).double()
    adm.forward(arguments, weights, x, t, torch.zeros(1).long())
    ours = guided_diffusion.read(tensors, arguments)
    for flags in (FLAGS, {**FLAGS, "channel_mult": "1,2,2,2"}):
        assert guided_diffusion.read(tensors, flags).config == ours.config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_channels": 32}, "their scripts has no setting model_channels"),
        ({"attention_resolutions": [2, 4]}, "expected sizes of images in a text"),
        ({"attention_resolutions": "16,"}, "expected sizes of images"),
        ({"image_size": 48}, "their scripts know 512, 256, 128, 64, 32"),
        ({"rescale_timesteps": None}, "does not contain rescale_timesteps"),
        ({"classifier_scale": 1.0}, "guidance.scale"),
        ({"large_size": 256}, "super-resolution networks are not supported"),
    ],
)
def test_flags_that_are_wrong_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        guided_diffusion.read({}, {**FLAGS, **change})


@pytest.mark.parametrize("name", ["label_emb.weight", "middle_block.1.qkv.bias", "time_embed.0.weight"])
def test_damaged_tensors_are_named_in_a_one_line_error(name: str) -> None:
    tensors, _, config = golden()
    damaged = [
        {key: value for key, value in tensors.items() if key != name},
        {f"{key}x" if key == name else key: value for key, value in tensors.items()},
        {**tensors, name: tensors[name][1:]},
        {**tensors, name: tensors[name] * torch.inf},
    ]
    for bad in damaged:
        with pytest.raises(ValueError, match=name) as caught:
            guided_diffusion.read(bad, config)
        assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    tensors, _, config = golden()
    del config["model_channels"]
    with pytest.raises(ValueError, match="does not contain model_channels"):
        guided_diffusion.read(tensors, config)


def test_tensors_that_do_not_fit_are_named() -> None:
    tensors, _, config = golden()
    with pytest.raises(ValueError, match=r"out\.2\.weight is missing"):
        guided_diffusion.read(
            {name: value for name, value in tensors.items() if name != "out.2.weight"}, config
        )
    with pytest.raises(ValueError, match=r"label_emb\.weight is not known"):
        guided_diffusion.read(tensors, {**config, "num_classes": None})


def test_a_learned_range_leaves_the_mean_as_it_is() -> None:
    torch.manual_seed(0)
    x0, eps, extra = (
        torch.randn(3, 2, 1, 4, 4).double().unbind(1)[0],
        torch.randn(3, 1, 4, 4).double(),
        torch.ones(3, 1, 4, 4),
    )
    marginal = VP().marginal(torch.tensor(0.3).double())
    x_t = marginal.alpha * x0 + marginal.sigma * eps
    both = LearnedVariance(mean=Eps())
    target = both.target(x0, eps, marginal)
    target[:, 1:] = extra
    found = both.predict(target, x_t, marginal)
    torch.testing.assert_close(found.x0, x0)
    torch.testing.assert_close(found.eps, eps)
    assert found.aux is not None
    assert bool((found.aux == 1).all())
