"""Networks of k-diffusion are the same functions here: D(x; sigma), its gradient, every variant.

The oracles are :mod:`tests.reference.k_diffusion`, networks written from the description; their own code, where its
sources are installed; and, of ``image_v1``, numbers that their code once gave.
"""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from sde_gen.cli import build
from sde_gen.cli.data_spec import DataSpec
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.k_diffusion import image_transformer_v1, image_transformer_v2
from sde_gen.interop.k_diffusion import reader as k_diffusion
from sde_gen.model.transformer.attention import GlobalAttention, NeighborhoodAttention
from tests.helpers.stored_run import read_back
from tests.reference import k_diffusion as k_diffusion_reference
from tests.reference import k_diffusion_code
from tests.reference.k_diffusion import denoised
from tests.reference.score_sde import drawn, given

NEEDS_K_DIFFUSION = pytest.mark.skipif(
    not k_diffusion_code.available(), reason="k-diffusion is not installed"
)

PLAIN: dict[str, Any] = {
    "type": "image_v1",
    "input_channels": 2,
    "input_size": [8, 8],
    "mapping_out": 16,
    "depths": [1, 2],
    "channels": [8, 64],
    "self_attn_depths": [False, True],
    "sigma_data": 0.5,
    "sigma_min": 0.01,
    "sigma_max": 80,
}
UNETS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "without_augmentation": {**PLAIN, "augment_wrapper": False},
    "extra_conditioning": {**PLAIN, "mapping_cond_dim": 3},
    "extra_conditioning_only": {**PLAIN, "mapping_cond_dim": 3, "augment_wrapper": False},
    "variance": {**PLAIN, "has_variance": True, "patch_size": 2},
    "one_level": {**PLAIN, "depths": [2], "channels": [128], "self_attn_depths": [True], "sigma_data": 1.0},
    "patches": {**PLAIN, "patch_size": 2, "input_size": [8, 16]},
    "three_levels": {
        **PLAIN,
        "depths": [1, 1, 2],
        "channels": [8, 24, 16],
        "self_attn_depths": [True, False, True],
    },
    "stages_skipped": {
        **PLAIN,
        "depths": [1, 2, 1],
        "channels": [8, 12, 16],
        "self_attn_depths": [False, True, False],
        "skip_stages": 1,
    },
    "two_stages_skipped": {
        **PLAIN,
        "depths": [1, 1, 1],
        "channels": [8, 12, 16],
        "self_attn_depths": [True, True, True],
        "skip_stages": 2,
    },
}
HOURGLASS: dict[str, Any] = {
    "type": "image_transformer_v2",
    "input_channels": 2,
    "input_size": [8, 8],
    "patch_size": [1, 1],
    "widths": [16, 24],
    "depths": [2, 2],
    "d_ffs": [20, 12],
    "self_attns": [{"type": "neighborhood", "d_head": 8, "kernel_size": 3}, {"type": "global", "d_head": 8}],
    "mapping_width": 16,
    "mapping_depth": 1,
    "mapping_d_ff": 8,
    "sigma_data": 0.5,
    "sigma_min": 0.01,
    "sigma_max": 160,
}
NEAR, WINDOWS = (
    {"type": "neighborhood", "d_head": 8, "kernel_size": 5},
    {"type": "shifted-window", "d_head": 8, "window_size": 4},
)
ALL, NONE = {"type": "global", "d_head": 16}, {"type": "none"}
HOURGLASSES: dict[str, dict[str, Any]] = {
    "plain": HOURGLASS,
    "windows": {**HOURGLASS, "self_attns": [WINDOWS, WINDOWS], "widths": [16, 16], "depths": [3, 2]},
    "without_attention": {**HOURGLASS, "self_attns": [NONE, NONE]},
    "one_level": {**HOURGLASS, "widths": [32], "depths": [2], "d_ffs": [8], "self_attns": [ALL]},
    "patches": {**HOURGLASS, "patch_size": [2, 1], "input_size": [12, 10]},
    "no_square": {
        **HOURGLASS,
        "input_size": [14, 6],
        "self_attns": [{**NEAR, "kernel_size": 3}, ALL],
        "widths": [16, 16],
    },
    "three_levels": {
        **HOURGLASS,
        "input_size": [24, 20],
        "widths": [8, 16, 16],
        "depths": [1, 2, 1],
        "d_ffs": [4, 4, 4],
        "self_attns": [NEAR, NEAR, ALL],
    },
    "their_defaults": {
        **{key: value for key, value in HOURGLASS.items() if key[:7] not in ("d_ffs", "self_at", "mapping")},
        "input_size": [14, 14],
        "widths": [64, 64],
        "depths": [1, 1],
    },
    "classes": {**HOURGLASS, "num_classes": 3},
    "conditions": {**HOURGLASS, "mapping_cond_dim": 3},
    "windows_three_levels": {
        **HOURGLASS,
        "input_size": [16, 16],
        "widths": [8, 8, 8],
        "depths": [2, 1, 1],
        "d_ffs": [4, 4, 4],
        "self_attns": [WINDOWS, {**WINDOWS, "window_size": 2}, {**ALL, "d_head": 8}],
    },
}
VIT: dict[str, Any] = {
    "type": "image_transformer_v1",
    "input_channels": 2,
    "input_size": [8, 8],
    "patch_size": [2, 2],
    "width": 128,
    "depth": 2,
    "d_ff": 24,
    "sigma_data": 0.5,
    "sigma_min": 0.01,
    "sigma_max": 80,
}
VITS: dict[str, dict[str, Any]] = {
    "plain": VIT,
    "flat_patches": {**VIT, "patch_size": [1, 4], "width": 64},
    "high_patches": {**VIT, "patch_size": [4, 2], "input_size": [8, 16], "depth": 1},
    "classes": {**VIT, "num_classes": 3},
}
KINDS = {
    "image_v1": PLAIN,
    "image_transformer_v2": HOURGLASS,
    "image_transformer_v1": VIT,
}
GOLDEN = Path(__file__).parents[2] / "data" / "k_diffusion_image_v1"
REFERENCES = {name: getattr(k_diffusion_reference, name) for name in KINDS}


def denoiser_of(found: ConvertedModel) -> NetworkDenoiser:
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    ours = build.model(read_back(found.config), data_spec).double()
    ours.net.load_state_dict(found.state)
    return ours.eval()


def points(model: dict[str, Any]) -> tuple[Tensor, Tensor]:
    shape, generator = (model["input_channels"], *model["input_size"]), torch.Generator().manual_seed(1)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0.02, 1.7, 31.0], dtype=torch.float64)


def config_of(model: dict[str, Any]) -> dict[str, Any]:
    """With the number of classes where it belongs."""
    classes = model.get("num_classes", 0)
    rest = {key: value for key, value in model.items() if key != "num_classes"}
    return {"model": rest, "dataset": {"num_classes": classes, "cond_dropout_rate": 0.2}}


def file_of(config: dict[str, Any], **conditioned: Tensor) -> dict[str, Tensor]:
    """Random tensors with all names that the reference network reads, and the filters."""
    tensors, random = drawn()
    model = config["model"]

    def weights(name: str, *shape: int) -> Tensor:
        value = random(name, *shape)
        if name.endswith("self_attn.scale"):  # whose root is taken
            value = value.abs() + 0.5
            tensors[name] = value.float()
        if name.endswith("qk_norm.scale"):
            tensors[name][0] = 5.0  # beyond their limit
        return tensors[name].double()

    denoised(REFERENCES[model["type"]], config, weights, *points(model), **conditioned)
    return tensors | (k_diffusion_reference.filters(model) if model["type"] == "image_v1" else {})


@cache
def plain(kind: str) -> dict[str, Tensor]:
    """The file of the plain network of a kind, to be copied before it is changed."""
    return file_of(config_of(KINDS[kind]))


def compare(found: ConvertedModel, expected: Any, model: dict[str, Any], **conditioned: Tensor) -> None:
    """Outputs and input gradients of our denoiser and of an original function of x and sigma, to rounding."""
    ours = denoiser_of(found)
    x, sigma = points(model)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    answers = []
    for function in (
        lambda x: ours(x, sigma / model["sigma_max"], **conditioned).x0,
        lambda x: expected(x, sigma),
    ):
        place = x.clone().requires_grad_()
        out = function(place)
        (slope,) = torch.autograd.grad(out, place, cotangent)
        answers.append((out.detach(), slope))
    for mine, original in zip(*answers, strict=True):
        torch.testing.assert_close(mine, original, rtol=0, atol=1e-9 * float(original.abs().max()))


@pytest.mark.parametrize(("name", "conditioned"), [*((name, True) for name in UNETS), ("plain", False)])
def test_every_u_net_equals_the_reference_network(name: str, conditioned: bool) -> None:
    model = UNETS[name]
    numbers = 9 * model.get("augment_wrapper", True) + model.get("mapping_cond_dim", 0)
    cond = {"augment": torch.randn(3, numbers).double()} if conditioned and numbers else {}
    config = {"model": model}
    tensors = file_of(config, **cond)
    found = k_diffusion.read(tensors, config)
    left = {name for name in found.unused if not name.endswith(("kernel", "[2:]", "[8:]"))}
    assert not left
    compare(
        found,
        lambda x, sigma: denoised(REFERENCES["image_v1"], config, given(tensors), x, sigma, **cond),
        model,
        **cond,
    )


@NEEDS_K_DIFFUSION
@pytest.mark.parametrize("name", UNETS)
def test_every_u_net_equals_the_original(name: str) -> None:
    """By their own code; whose stages that are skipped have tensors, too."""
    model = UNETS[name]
    net = k_diffusion_code.randomize(k_diffusion_code.image_v1(model))
    state = {key: value.float() for key, value in net.state_dict().items()}
    net.load_state_dict(state)  # the numbers of the file, to the last bit
    found = k_diffusion.read(state, {"model": model})
    skipped = [key for key, why in found.unused.items() if "skip_stages" in why]
    assert bool(skipped) == (model.get("skip_stages", 0) > 0)
    numbers = 9 * model.get("augment_wrapper", True) + model.get("mapping_cond_dim", 0)
    conditioned = torch.randn(3, numbers).double() if numbers else None
    original = k_diffusion_code.denoiser(net, model["sigma_data"])
    compare(
        found,
        lambda x, sigma: original(x, sigma, mapping_cond=conditioned),
        model,
        **({"augment": conditioned} if numbers else {}),
    )
    names = set(file_of({"model": model}))
    assert names == set(state) - {key for key in state if key.removeprefix("inner_model.") in skipped}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_their_own_numbers(dtype: torch.dtype, tolerance: float) -> None:
    with np.load(GOLDEN.with_suffix(".npz")) as file:
        kept = {key: torch.from_numpy(file[key]).to(dtype) for key in file.files}
    found = k_diffusion.load(GOLDEN.with_suffix(".safetensors"))
    assert sorted(found.unused) == [
        "proj_out.bias[3:]",
        "proj_out.weight[3:]",
        "u_net.d_blocks.1.0.kernel",
        "u_net.u_blocks.0.2.kernel",
    ]
    ours = denoiser_of(found).to(dtype)
    x, t = kept["in/x"].requires_grad_(), kept["in/sigma"].double() / 80
    out = ours(x, t, augment=kept["in/augment"]).x0
    (slope,) = torch.autograd.grad(out, x, kept["cotangent"])
    for mine, key in ((out, "out_f64"), (ours(x, t).x0, "silent_f64"), (slope, "grad_x_f64")):
        scale = float(kept[key].abs().max())
        torch.testing.assert_close(mine, kept[key], rtol=0, atol=tolerance * scale)


def test_a_file_says_how_its_network_was_made(tmp_path: Path) -> None:
    """Metadata, a training's checkpoint, or settings, which come first; the averages are taken."""
    config, tensors = {"model": PLAIN}, plain("image_v1")
    state = k_diffusion.read(tensors, config).state

    def same(path: Path, settings: dict[str, Any] | None = None) -> bool:
        found = k_diffusion.load(path, settings)
        return all(torch.equal(found.state[name], value) for name, value in state.items())

    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ValueError, match=r"contains no configuration .* settings=\.\.\."):
        k_diffusion.load(path)
    assert same(path, config)
    safetensors.torch.save_file(tensors, path, metadata={"config": json.dumps(config)})
    assert same(path)
    other = copy.deepcopy(config)
    other["model"]["sigma_data"] = 0.7
    assert k_diffusion.load(path, other).config["parametrization"]["sigma_data"] == 0.7
    safetensors.torch.save_file(tensors, path, metadata={"config": "{"})
    with pytest.raises(ValueError, match="not JSON"):
        k_diffusion.load(path)
    assert same(path, config)
    spoiled = {name: torch.zeros_like(value) for name, value in tensors.items()}
    training = {"config": config, "model": spoiled, "model_ema": tensors, "opt": {}, "step": 3}
    torch.save(training, tmp_path / "a.pth")
    assert same(tmp_path / "a.pth")
    del training["config"]
    torch.save(training, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="contains no configuration"):
        k_diffusion.load(tmp_path / "a.pth")
    assert same(tmp_path / "a.pth", config)
    torch.save(tensors, tmp_path / "a.pth")
    assert same(tmp_path / "a.pth", config)
    with pytest.raises(ValueError, match="file not found"):
        k_diffusion.load(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "image_v3"}, "expected image_v1"),
        ({"type": None}, "does not contain type"),
        ({"cross_cond_dim": 768}, "cross_cond_dim=768: cross-attention"),
        ({"unet_cond_dim": 3}, "unet_cond_dim=3"),
        ({"input_size": None}, "does not contain input_size"),
        ({"input_size": 8}, "input_size=8 is not supported"),
        ({"sigma_min": None}, "does not contain sigma_min"),
        ({"pos_emb_type": "ROPE"}, "no setting pos_emb_type"),
        ({"skip_stages": 2}, "skip_stages=2: expected 0 to 1"),
        ({"depths": [1, 1, 1]}, "one of each for every level"),
        ({"channels": [8, 32]}, "do not fit"),
        ({"has_variance": True}, "do not fit"),
        ({"augment_wrapper": False}, "mapping_cond.weight is not known"),
        ({"mapping_out": 8}, "do not fit"),
    ],
)
def test_invalid_settings_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        k_diffusion.read(plain("image_v1"), {"model": {**PLAIN, **change}})


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        (HOURGLASS, {"self_attns": [{"type": "global"}] * 3}, "3 self_attns"),
        (HOURGLASS, {"self_attns": [{"type": "axial"}] * 2}, "neighborhood or shifted-window or none"),
        (
            HOURGLASS,
            {"self_attns": [{"type": "shifted-window", "d_head": 8}] * 2},
            "does not contain window_size",
        ),
        (HOURGLASS, {"self_attns": [{"type": "global", "kernel_size": 3}] * 2}, "no setting kernel_size"),
        (HOURGLASS, {"self_attns": None}, "heads of 64 features"),
        (HOURGLASS, {"dropout_rate": [0.1]}, "one of each for every level"),
        (HOURGLASS, {"widths": None}, "does not contain widths"),
        (HOURGLASS, {"widths": 16}, "widths=16 is not supported"),
        (HOURGLASS, {"self_attns": ["global"] * 2}, "settings by name for every level"),
        (HOURGLASS, {"input_size": [1024, 1024]}, "at most 262144 of them"),
        (HOURGLASS, {"self_attns": [{"type": "neighborhood", "kernel_size": 99}] * 2}, "from 1 to 32"),
        (HOURGLASS, {"depths": [9000, 2]}, "too many for"),
        (HOURGLASS, {"widths": [16, 32]}, "do not fit"),
        (HOURGLASS, {"mapping_cond_dim": 2}, "mapping_cond_in_proj.weight is missing"),
        (HOURGLASS, {"skip_stages": 1}, "skip_stages=1 of a transformer"),
        (HOURGLASS, {"backbone_skip_type": "learned_lerp"}, "no setting backbone_skip_type"),
        (HOURGLASS, {"input_size": [8, 7]}, "do not halve"),
        (HOURGLASS, {"depths": [2, 3]}, "mid_level.2.self_attn.norm.linear.weight is missing"),
        (HOURGLASS, {"depths": [1, 2]}, "down_levels.0.1.self_attn.norm.linear.weight is not known"),
        (VIT, {"has_variance": True}, "has_variance=True of a transformer"),
        (VIT, {"width": 96}, "multiple of 64"),
        (VIT, {"patch_size": [3, 2]}, "do not halve"),
        (VIT, {"patch_size": [4, 2]}, "do not fit"),
        (VIT, {"d_ff": 0}, "do not fit"),
        (VIT, {"widths": [128]}, "no setting widths"),
    ],
)
def test_invalid_settings_of_a_transformer_are_named(
    model: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        k_diffusion.read(plain(model["type"]), config_of({**model, **change}))


def test_what_their_configurations_assume() -> None:
    """The original config_cifar10_transformer.json, 512 wide, has 1408 units: the roundest number near 8/3 as many."""
    assert image_transformer_v1.ImageTransformerV1Layout({**VIT, "width": 512, "d_ff": 0}, 0).hidden == 1408
    original = {
        key: value for key, value in HOURGLASS.items() if key not in ("d_ffs", "self_attns", "mapping_d_ff")
    }
    layout = image_transformer_v2.ImageTransformerV2Layout(
        {**original, "dropout_rate": 0.1, "widths": [64, 128]}, 10
    )
    reaches = [level.keywords["reach"] for level in layout.spec().keywords["levels"]]
    assert [(reach.kind, reach.keywords) for reach in reaches] == [
        (NeighborhoodAttention, {"head": 64, "size": 7}),
        (GlobalAttention, {"head": 64}),
    ]
    assert layout.hidden == [192, 384]
    assert layout.dropout == [0.1, 0.1]
    assert layout.mapping_hidden == 48


def test_tensors_that_do_not_fit_are_listed() -> None:
    tensors = plain("image_v1")
    name = "inner_model.u_net.d_blocks.1.1.main.2.weight"

    def refused(**changed: Tensor | None) -> str:
        state = {key: value for key, value in {**tensors, **changed}.items() if value is not None}
        with pytest.raises(ValueError, match="do not fit the network") as failure:
            k_diffusion.read(state, {"model": PLAIN})
        return str(failure.value)

    bare = name.removeprefix("inner_model.")
    assert f"{bare} is missing" in refused(**{name: None})
    assert f"{bare} gives shape (64, 8, 5, 5)" in refused(**{name: torch.ones(64, 8, 5, 5)})
    assert "extra.weight is not known" in refused(**{"inner_model.extra.weight": torch.ones(1)})
    assert f"{bare} holds NaN" in refused(**{name: torch.full_like(tensors[name], torch.nan)})
    kernel = "inner_model.u_net.d_blocks.1.0.kernel"
    assert "is not the filter" in refused(**{kernel: torch.ones(4, 4) / 16})
    for odd in ("timestep_embed.weight", "mapping_cond.weight", "mapping.0.weight"):
        assert odd in refused(**{f"inner_model.{odd}": torch.ones(8)})
    with pytest.raises(ValueError, match="no section 'model'"):
        k_diffusion.read(tensors, {})


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "conditioned"),
    [
        *(pytest.param(model, True, id=name) for name, model in HOURGLASSES.items()),
        *(pytest.param(model, True, id=f"v1_{name}") for name, model in VITS.items()),
        *(
            pytest.param(HOURGLASSES[name], False, id=f"{name}_silent")
            for name in ("plain", "classes", "conditions")
        ),
        pytest.param(VITS["classes"], False, id="v1_classes_silent"),
    ],
)
def test_every_transformer_equals_the_reference_network(model: dict[str, Any], conditioned: bool) -> None:
    config = config_of(model)
    cond: dict[str, Tensor] = {}
    if conditioned:
        cond["augment"] = torch.randn(3, 9, generator=torch.Generator().manual_seed(5)).double()
        if config["dataset"]["num_classes"]:
            cond["label"] = torch.tensor([0, 2, 3])
        if model.get("mapping_cond_dim"):
            cond["condition"] = torch.randn(3, 3, generator=torch.Generator().manual_seed(6)).double()
    tensors = file_of(config, **cond)
    found = k_diffusion.read(tensors, config)
    assert not found.unused
    assert found.classes == config["dataset"]["num_classes"]
    compare(
        found,
        lambda x, sigma: denoised(REFERENCES[model["type"]], config, given(tensors), x, sigma, **cond),
        model,
        **cond,
    )


@NEEDS_K_DIFFUSION
@pytest.mark.parametrize("name", VITS)
def test_every_image_transformer_v1_equals_the_original(name: str) -> None:
    """By their own code, whose places are exact in float32 on grids of powers of two."""
    config = config_of(VITS[name])
    model, classes = config["model"], config["dataset"]["num_classes"]
    net = k_diffusion_code.randomize(k_diffusion_code.image_transformer_v1(model, classes))
    state = {key: value.float() for key, value in net.state_dict().items()}
    state["blocks.0.self_attn.qk_norm.scale"][0] = 5.0  # beyond their limit
    assert set(state) == set(file_of(config))
    found = k_diffusion.read(state, config)
    net.load_state_dict(state)
    conditioned, cond = torch.randn(3, 9).double(), {"label": torch.tensor([0, 2, 3])} if classes else {}
    original = k_diffusion_code.denoiser(net, model["sigma_data"])
    class_cond = cond.get("label")
    compare(
        found,
        lambda x, sigma: original(x, sigma, aug_cond=conditioned, class_cond=class_cond),
        model,
        augment=conditioned,
        **cond,
    )
