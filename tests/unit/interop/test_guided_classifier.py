"""A classifier of guided-diffusion is the same function here: logits and their gradients, whatever its pool.

The reference classifier shares its layers with the reference network of images, which is checked on a network
that their code evaluated.
"""

from typing import Any

import pytest
import torch

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser import NoisyClassifier
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.guided_diffusion import classifier as guided_diffusion_classifier
from sde_gen.interop.guided_diffusion import reader as guided_diffusion
from sde_gen.interop.guided_diffusion.settings import MULTIPLIERS
from tests.helpers.stored_run import read_back
from tests.reference import adm, score_sde

SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "out_channels": 5,
    "model_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "attention_resolutions": [2],
    "num_head_channels": 16,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "attention": {**SMALL, "pool": "attention"},
    "adaptive": {**SMALL, "num_head_channels": -1, "num_heads": 4},
    "spatial": {**SMALL, "pool": "spatial", "use_scale_shift_norm": False, "resblock_updown": False},
    "spatial_v2": {**SMALL, "pool": "spatial_v2", "resblock_updown": False, "conv_resample": False},
    "new_order_and_levels": {
        **SMALL,
        "pool": "attention",
        "use_new_attention_order": True,
        "channel_mult": [1, 1, 2],
        "num_res_blocks": 2,
        "attention_resolutions": [1, 4],
        "steps": 50,
        "noise_schedule": "cosine",
        "rescale_timesteps": True,
    },
    "finest_of_half_the_width": {
        **SMALL,
        "model_channels": 64,
        "channel_mult": [0.5, 1],
        "pool": "spatial_v2",
    },
}


def classifier(found: ConvertedModel) -> NoisyClassifier:
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    ours = build.model(read_back(found.config), data_spec)
    ours.net.load_state_dict(found.state)
    return ours.double().eval()


def original(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors with the names that the reference reads."""
    tensors, weights = score_sde.drawn()
    size = config["image_size"]
    adm.logits(config, weights, torch.zeros(1, 3, size, size).double(), torch.ones(1).double())
    return tensors


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_those_of_the_reference_network(name: str) -> None:
    config = VARIANTS[name]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    steps = config.get("steps", 1000)
    t = torch.tensor([0.0, 7.0, steps - 1.0]).double()
    tensors = original(config)
    seen = t * 1000 / steps if config.get("rescale_timesteps") else t
    expected = adm.logits(config, score_sde.given(tensors), x, seen).log_softmax(1)
    found = guided_diffusion_classifier.read(tensors, config)
    assert not found.unused
    mine = classifier(found).log_probs(x, (t + 1) / steps)
    for ours, exact in (
        (mine, expected),
        *zip(
            torch.autograd.grad((mine * cotangent).sum(), x),
            torch.autograd.grad((expected * cotangent).sum(), x),
            strict=True,
        ),
    ):
        assert float((ours - exact).detach().abs().max()) < 1e-12 * float(exact.detach().abs().max())


def test_flags_of_the_scripts_are_the_arguments_of_the_class() -> None:
    """The flags of classifier_sample.py, with those of the other network, give the network of the arguments."""
    flags = {
        "image_size": 32,
        "classifier_width": 64,
        "classifier_depth": 1,
        "classifier_attention_resolutions": "16,8",
        "classifier_resblock_updown": False,
        "classifier_pool": "spatial",
        "classifier_use_fp16": True,
        "noise_schedule": "cosine",
        "num_channels": 192,
        "learn_sigma": True,
        "timestep_respacing": "",
    }
    arguments = {
        **SMALL,
        "image_size": 32,
        "model_channels": 64,
        "out_channels": 1000,
        "channel_mult": MULTIPLIERS[32],
        "attention_resolutions": [2, 4],
        "num_head_channels": 64,
        "resblock_updown": False,
        "pool": "spatial",
        "noise_schedule": "cosine",
    }
    tensors = original(arguments)
    first, second = (guided_diffusion_classifier.read(tensors, config) for config in (flags, arguments))
    assert first.config == second.config
    assert first.classes == 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pool": "max"}, "pool='max' is not supported"),
        ({"num_head_channels": -1}, "pool=attention needs num_head_channels"),
        ({"num_head_channels": 48}, "num_head_channels=48 does not divide"),
        ({"num_classes": 5}, "no setting num_classes: out_channels of a classifier is its number of classes"),
        ({"classifier_depth": 2}, "their scripts has no setting in_channels"),
        ({"attention_resolutions": "4"}, "flag of their scripts"),
        ({"resblock_updown": None}, "does not contain resblock_updown"),
        ({"dims": 3}, "dims=3"),
        ({"noise_schedule": "sqrt"}, "noise_schedule"),
    ],
)
def test_invalid_settings_are_named(change: dict[str, Any], words: str) -> None:
    config = VARIANTS["attention"]
    with pytest.raises(ValueError, match=words):
        guided_diffusion_classifier.read(original(config), {**config, **change})


def test_the_other_network_is_named() -> None:
    config = VARIANTS["attention"]
    tensors = original(config)
    of_images = {key: value for key, value in config.items() if key != "pool"} | {"out_channels": 3}
    with pytest.raises(ValueError, match="holds a classifier: read it with from=guided_diffusion_classifier"):
        guided_diffusion.read(tensors, of_images)
    with pytest.raises(ValueError, match=r"a network of images: read it with from=guided_diffusion$"):
        guided_diffusion_classifier.read({**tensors, "output_blocks.0.0.x": torch.zeros(1)}, config)
    wider = {**tensors, "input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}
    with pytest.raises(ValueError, match="super-resolution"):
        guided_diffusion.read(wider, of_images)


@pytest.mark.parametrize("name", ["out.2.positional_embedding", "out.2.qkv_proj.weight", "out.0.bias"])
def test_damaged_tensors_are_named_in_a_one_line_error(name: str) -> None:
    config = VARIANTS["attention"]
    tensors = original(config)
    damaged = [
        {key: value for key, value in tensors.items() if key != name},
        {f"{key}x" if key == name else key: value for key, value in tensors.items()},
        {**tensors, name: tensors[name][1:]},
        {**tensors, name: tensors[name] * torch.nan},
    ]
    for bad in damaged:
        with pytest.raises(ValueError, match=name) as caught:
            guided_diffusion_classifier.read(bad, config)
        assert "\n" not in str(caught.value)
