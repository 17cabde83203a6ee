"""Networks of EDM are the same functions here: D(x; sigma), its gradient, every variant and every preconditioning."""

import copy
import itertools
import json
import os
import random
from collections.abc import Iterator
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
from sde_gen.interop.edm import reader as edm
from sde_gen.model.embedding import Positional
from sde_gen.model.unet.progressive import NoInput, NoOutput
from sde_gen.model.unet.resample import Box
from sde_gen.model.unet.song_unet import SongUNet
from tests.helpers.stored_run import read_back
from tests.reference import adm, dhariwal_unet, score_sde

GOLDEN = Path(os.environ.get("SDE_GEN_GOLDEN", "nowhere")) / "net_edm_song_ddpmpp_edmprecond_class_aug"


def denoiser(found: ConvertedModel, dtype: torch.dtype = torch.float64) -> NetworkDenoiser:
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    made = build.model(read_back(found.config), data_spec)
    made.net.load_state_dict(found.state)
    return made.to(dtype).eval()


@pytest.mark.skipif(
    not GOLDEN.with_suffix(".npz").is_file(), reason="SDE_GEN_GOLDEN names no folder that has it"
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_their_own_numbers(dtype: torch.dtype, tolerance: float) -> None:
    with np.load(GOLDEN.with_suffix(".npz")) as file:
        given = {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind == "f"}
        config = json.loads(str(file["config_json"]))
    ours = denoiser(edm.read(safetensors.torch.load_file(GOLDEN.with_suffix(".safetensors")), config), dtype)
    x = given["in/x"].to(dtype).requires_grad_()
    label, augment = given["in/class_onehot"].argmax(1), given["in/augment_labels"]
    out = ours(x, given["in/sigma"] / 80, label=label, augment=augment).x0
    out.backward(given["cotangent"].to(dtype))
    assert x.grad is not None
    for found, key in ((out, "out_f64"), (x.grad, "grad_x_f64")):
        torch.testing.assert_close(found.double(), given[key], rtol=0, atol=tolerance)


SMALL = {
    "precond": "EDMPrecond",
    "model_type": "SongUNet",
    "img_resolution": 8,
    "img_channels": 2,
    "model_channels": 8,
    "channel_mult": [1, 2, 2],
    "attn_resolutions": [4],
}
VARIANTS = {
    "embedding_type": ["positional", "fourier"],
    "encoder_type": ["standard", "skip", "residual"],
    "decoder_type": ["standard", "skip"],
    "resample_filter": [[1, 1], [1, 3, 3, 1]],
}
WORDS = {"standard": "none", "residual": "residual"}


def as_score_sde(config: dict[str, Any]) -> dict[str, Any]:
    """The same network in the words of score_sde_pytorch, of which EDM is a rewriting (section F.1)."""
    model = {
        "nf": config["model_channels"],
        "ch_mult": config["channel_mult"],
        "num_res_blocks": config["num_blocks"],
        "attn_resolutions": config["attn_resolutions"],
        "embedding_type": config["embedding_type"],
        "conditional": True,
        "resblock_type": "biggan",
        "fir": True,
        "fir_kernel": config["resample_filter"],
        "skip_rescale": True,
        "progressive": {**WORDS, "skip": "output_skip"}[config["decoder_type"]],
        "progressive_input": {**WORDS, "skip": "input_skip"}[config["encoder_type"]],
        "progressive_combine": "sum",
    }
    return {"model": model, "data": {"num_channels": config["img_channels"], "centered": True}}


def their_names(config: dict[str, Any]) -> Iterator[str]:
    """Return EDM's names of the modules of score_sde_pytorch in order; attention belongs to the block before it."""
    sizes = [config["img_resolution"] >> n for n in range(len(config["channel_mult"]))]
    if config["embedding_type"] == "fourier":
        yield "map_noise"
    yield from ("map_layer0", "map_layer1", f"enc.{sizes[0]}x{sizes[0]}_conv")
    for level, size in enumerate(sizes):
        at = f"enc.{size}x{size}"
        if level:
            yield f"{at}_down"
            yield from {"standard": [], "skip": [f"{at}_aux_skip"], "residual": [f"{at}_aux_residual"]}[
                config["encoder_type"]
            ]
        for n in range(config["num_blocks"]):
            yield f"{at}_block{n}"
            if size in config["attn_resolutions"]:
                yield f"{at}_block{n}"
    bottom = f"dec.{sizes[-1]}x{sizes[-1]}"
    yield from (f"{bottom}_in0", f"{bottom}_in0", f"{bottom}_in1")
    for level, size in reversed(list(enumerate(sizes))):
        at = f"dec.{size}x{size}"
        if size != sizes[-1]:
            yield f"{at}_up"
        yield from (f"{at}_block{n}" for n in range(config["num_blocks"] + 1))
        if size in config["attn_resolutions"]:
            yield f"{at}_block{config['num_blocks']}"
        if config["decoder_type"] == "skip" or level == 0:
            yield from (f"{at}_aux_norm", f"{at}_aux_conv")


PARTS = {
    "GroupNorm_0": "norm0",
    "Conv_0": "conv0",
    "Dense_0": "affine",
    "GroupNorm_1": "norm1",
    "Conv_1": "conv1",
    "Conv_2": "skip",
}


def renamed(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of score_sde_pytorch by the names of EDM, three projections of an attention as one."""
    out: dict[str, Tensor] = {}
    for number, original in enumerate(their_names(config)):
        prefix = f"all_modules.{number}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        assert own, f"{original} has no tensors"
        if "W" in own:
            out[f"{original}.freqs"] = own["W"]
        elif "NIN_0.W" in own:
            triple = [own[f"NIN_{n}.W"].T[:, :, None, None] for n in range(3)]
            out[f"{original}.qkv.weight"] = torch.stack(triple, 1).flatten(0, 1)
            out[f"{original}.qkv.bias"] = torch.stack([own[f"NIN_{n}.b"] for n in range(3)], 1).flatten()
            out[f"{original}.proj.weight"] = own["NIN_3.W"].T[:, :, None, None]
            out[f"{original}.proj.bias"] = own["NIN_3.b"]
            for kind in ("weight", "bias"):
                out[f"{original}.norm2.{kind}"] = own[f"GroupNorm_0.{kind}"]
        else:
            for name, value in own.items():
                part, _, kind = name.rpartition(".")
                inner = PARTS[part] if "_aux_" not in original and part else ""
                out[".".join(filter(None, (original, inner, kind)))] = value
    return {f"model.{name}": value for name, value in out.items()}


def variants() -> list[dict[str, Any]]:
    draw = random.Random(0)
    chosen = [dict(zip(VARIANTS, values, strict=True)) for values in itertools.product(*VARIANTS.values())]
    for variant in chosen:
        variant["channel_mult_noise"] = 2 if variant["embedding_type"] == "fourier" else 1
        variant["num_blocks"] = draw.choice([1, 2])
        variant["label_dim"], variant["augment_dim"] = draw.choice([0, 3]), draw.choice([0, 4])
    return chosen


@pytest.mark.long
@pytest.mark.parametrize("variant", variants(), ids=lambda v: "-".join(str(value) for value in v.values()))
def test_every_variant_equals_the_original(variant: dict[str, Any]) -> None:
    """By the reference network of score_sde_pytorch: class and augmentation shift the bias of its first layer."""
    config: dict[str, Any] = {**SMALL, **variant}
    twin, generator = as_score_sde(config), torch.Generator().manual_seed(1)
    x, sigma = torch.randn(2, 2, 8, 8, generator=generator).double(), torch.tensor([0.3, 7.0]).double()
    tensors, weights = score_sde.drawn()
    labels = (
        sigma**0.25 if config["embedding_type"] == "fourier" else sigma.log() / 4
    )  # the reference takes the log
    score_sde.forward(twin, weights, x, labels)
    state, cond = renamed(tensors, config), {}
    first = int(config["embedding_type"] == "fourier")
    shift = torch.zeros(tensors[f"all_modules.{first}.weight"].shape[1]).double()
    if classes := config["label_dim"]:
        state["model.map_label.weight"] = torch.randn(len(shift), classes, generator=generator)
        state["model.map_label.bias"] = torch.randn(len(shift), generator=generator)
        cond["label"] = torch.tensor([2, 2])
        shift += state["model.map_label.weight"][:, 2].double() * classes**0.5 + state["model.map_label.bias"]
    if numbers := config["augment_dim"]:
        state["model.map_augment.weight"] = torch.randn(len(shift), numbers, generator=generator)
        cond["augment"] = torch.randn(1, numbers, generator=generator).double().expand(2, -1)
        shift += state["model.map_augment.weight"].double() @ cond["augment"][0]
    mapper = {name: value.double() for name, value in tensors.items()}
    mapper[f"all_modules.{first}.bias"] += mapper[f"all_modules.{first}.weight"] @ shift
    spread = (sigma**2 + 0.25).sqrt().view(-1, 1, 1, 1)
    out = score_sde.forward(twin, score_sde.given(mapper), x / spread, labels)
    expected = 0.25 / spread**2 * x + 0.5 * sigma.view(-1, 1, 1, 1) / spread * out
    found = edm.read(state, config)
    assert not found.unused
    original = denoiser(found)(x, sigma / 80, **cond).x0
    torch.testing.assert_close(original, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def network(outputs: int = 1) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """A network with positional labels, in their format and in that of the reference."""
    config = {**SMALL, "num_blocks": 1, "embedding_type": "positional", "encoder_type": "standard"}
    config |= {"decoder_type": "standard", "resample_filter": [1, 1], "img_channels": 2}
    twin = as_score_sde(config)
    twin["data"]["num_channels"] = 2 * outputs  # of the output; the reference has as many image channels
    tensors, weights = score_sde.drawn()
    score_sde.forward(twin, weights, torch.zeros(1, 2, 8, 8).double(), torch.ones(1).double())
    return tensors, config, twin


@pytest.mark.parametrize(
    ("precond", "settings"),
    [
        ("VPPrecond", {}),
        ("VPPrecond", {"beta_d": 10.0, "beta_min": 0.2, "M": 500}),
        ("VEPrecond", {}),
        ("training.networks.VEPrecond", {"sigma_max": 300}),
        ("EDMPrecond", {"sigma_data": 0.7, "sigma_min": 0.01, "sigma_max": 20}),
        ("EDMPrecond", {"sigma_data": 0.7, "sigma_max": 1e4}),
    ],
)
def test_every_preconditioning_equals_the_original(precond: str, settings: dict[str, Any]) -> None:
    """D = c_skip x + c_out F(c_in x; c_noise), with c of sigma alone, in table 1 of Karras et al., 2022.

    At every level of the process: log sigma goes beyond 8 where sigma_max does.
    """
    tensors, config, twin = network()
    ours = denoiser(edm.read(renamed(tensors, config), {**config, "precond": precond, **settings}))
    x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    sigma = torch.tensor([0.3, 7.0 if settings.get("sigma_max") != 1e4 else 9e3]).double()
    if precond == "VPPrecond":
        slope, low, steps = (
            settings.get(k, v) for k, v in (("beta_d", 19.9), ("beta_min", 0.1), ("M", 1000))
        )
        t = ((low**2 + 2 * slope * (1 + sigma**2).log()).sqrt() - low) / slope
        skip, out, scale, noise = 1.0, -sigma, 1 / (1 + sigma**2).sqrt(), (steps - 1) * t
    elif precond == "EDMPrecond":
        spread = sigma**2 + 0.49
        skip, out, scale = 0.49 / spread, 0.7 * sigma / spread.sqrt(), 1 / spread.sqrt()
        noise = sigma.log() / 4
    else:
        skip, out, scale, noise = 1.0, sigma, torch.ones(()), (0.5 * sigma).log()
    skip, out, scale = (
        torch.as_tensor(c, dtype=torch.float64).expand(2).view(-1, 1, 1, 1) for c in (skip, out, scale)
    )
    weights = score_sde.given(tensors)
    expected = skip * x + out * score_sde.forward(twin, weights, scale * x, noise)
    t = ours.sde.t_from_log_snr(-2 * sigma.log())
    marginal = ours.sde.marginal(t)
    found = ours(marginal.alpha.view(-1, 1, 1, 1) * x, t).x0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


def test_improved_ddpm_equals_the_original_at_and_between_the_steps_of_its_chain() -> None:
    """u_(j-1) = sqrt((u_j^2 + 1) / max(a_(j-1) / a_j, C_1) - 1) in table 1 there; the label is M - 1 - j."""
    tensors, config, twin = network(outputs=2)
    steps = 20
    state = {**renamed(tensors, config), "u": torch.zeros(steps + 1)}
    read = edm.read(state, {**config, "precond": "iDDPMPrecond", "M": steps})
    assert {name for name in read.unused if "aux_conv" not in name} == {"u"}
    assert all(name.endswith("[2:]") for name in read.unused if "aux_conv" in name)
    ours = denoiser(read)
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    kept = (torch.arange(steps + 1).double() / steps / 1.008 * torch.pi / 2).sin() ** 2
    levels = [torch.zeros(()).double()]
    for j in range(steps - 1, -1, -1):
        levels.insert(0, ((levels[0] ** 2 + 1) / (kept[j] / kept[j + 1]).clamp(min=0.001) - 1).sqrt())
        t = torch.tensor((steps - j) / steps, dtype=torch.float64)
        torch.testing.assert_close(ours.sde.marginal(t).sigma / ours.sde.marginal(t).alpha, levels[0])
    for j, sigma in ((0, levels[0]), (7, levels[7]), (steps - 1, levels[-2]), (7, 0.55 * levels[7] + 0.45 * levels[6]),
                     (6, 0.45 * levels[7] + 0.55 * levels[6]), (0, 0.45 * levels[1] + 0.55 * levels[0])):  # fmt: skip
        alpha = 1 / (1 + sigma**2).sqrt()
        out = score_sde.forward(
            twin, score_sde.given(tensors), alpha * x, torch.tensor([steps - 1.0 - j]).double()
        )
        t = ours.sde.t_from_log_snr(-2 * sigma.log())
        torch.testing.assert_close(
            ours(ours.sde.marginal(t).alpha * x, t).x0,
            x - sigma * out[:, :2],
            rtol=1e-8,
            atol=1e-8 * float(sigma),
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precond": "FlowPrecond"}, "VPPrecond or"),
        ({"precond": None}, "precond"),
        ({"model_type": "UNet"}, "SongUNet or DhariwalUNet"),
        ({"encoder_type": "both"}, "encoder_type"),
        ({"img_resolution": None}, "img_resolution"),
        ({"sigma_mim": 3}, "no setting sigma_mim"),
        ({"resample_filter": [1, 3, 3, 1]}, "is not the filter"),
        ({"model_channels": 16}, "do not fit"),
    ],
)
def test_invalid_settings_are_named(change: dict[str, Any], words: str) -> None:
    tensors, config, _ = network()
    state = renamed(tensors, config)
    state["model.enc.4x4_down.conv0.resample_filter"] = torch.full((1, 1, 2, 2), 0.25)
    assert list(edm.read(state, config).unused) == ["enc.4x4_down.conv0.resample_filter"]
    with pytest.raises(ValueError, match=words):
        edm.read(state, {**copy.deepcopy(config), **change})


def test_a_network_of_classes_and_augmentations() -> None:
    """No label and the null class are one; zeros say what silence does; a network without refuses both."""

    def made(**settings: int) -> SongUNet:
        torch.manual_seed(0)
        rest = {"shape": (1, 4, 4), "width": 8, "multipliers": (1,), "blocks": 1, "attention_levels": ()}
        net = SongUNet(
            **rest,
            dropout=0.0,
            input_frequencies=(),
            embedding=Positional(8),
            resampler=Box(),
            progressive_input=NoInput(),
            progressive_output=NoOutput,
            **settings,
        )
        for parameter in net.parameters():
            parameter.data.normal_(std=0.3)
        return net.double()

    net = made(num_classes=3, augmentations=2)
    x, c_noise, classes = torch.randn(2, 1, 4, 4).double(), torch.ones(2).double(), torch.tensor([0, 1])
    silent = net(x, c_noise)
    assert torch.equal(net(x, c_noise, label=torch.tensor([3, 3])), silent)
    assert torch.equal(net(x, c_noise, augment=torch.zeros(2, 2)), silent)
    conditioned = [net(x, c_noise, label=classes), net(x, c_noise, augment=torch.ones(2, 2))]
    assert all((one - silent).abs().min() > 1e-6 for one in conditioned)
    with pytest.raises(ValueError, match="without classes"):
        made()(x, c_noise, label=classes)
    with pytest.raises(ValueError, match="without augmentations"):
        made()(x, c_noise, augment=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="must not be negative"):
        made(augmentations=-1)


def their_dhariwal_names(
    levels: int, blocks: int, size: int, attention: list[int]
) -> Iterator[tuple[str, str]]:
    """Names of the blocks of guided-diffusion's UNetModel, of which EDM is a rewriting, and those of EDM."""
    sizes, number = [size >> n for n in range(levels)], 1
    for level, side in enumerate(sizes):
        if level:
            yield f"input_blocks.{number}.0", f"enc.{side}x{side}_down"
            number += 1
        for n in range(blocks):
            yield f"input_blocks.{number}.0", f"enc.{side}x{side}_block{n}"
            number += 1
    number = 0
    yield from (("middle_block.0", f"dec.{side}x{side}_in0"), ("middle_block.2", f"dec.{side}x{side}_in1"))
    for side in reversed(sizes):
        for n in range(blocks + 1):
            yield f"output_blocks.{number}.0", f"dec.{side}x{side}_block{n}"
            if n == blocks and side < size:
                place = 2 if side in attention else 1
                yield f"output_blocks.{number}.{place}", f"dec.{2 * side}x{2 * side}_up"
            number += 1


def as_dhariwal(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Tensors of guided-diffusion by the names, and in the orders, of EDM."""
    parts = {
        "in_layers.0": "norm0",
        "in_layers.2": "conv0",
        "emb_layers.1": "affine",
        "out_layers.0": "norm1",
        "out_layers.3": "conv1",
        "skip_connection": "skip",
    }
    layers = {
        "time_embed.0": "map_layer0",
        "time_embed.2": "map_layer1",
        "input_blocks.0.0": "enc.8x8_conv",
        "out.0": "out_norm",
        "out.2": "out_conv",
    }
    found = {}
    for name, value in tensors.items():
        head, _, kind = name.rpartition(".")
        owner = next((block for block in names if head.startswith(f"{block}.")), None)
        if head in layers:
            found[f"model.{layers[head]}.{kind}"] = value
        elif name == "map_augment.weight":
            found["model.map_augment.weight"] = value
        elif name == "label_emb.weight":
            found["model.map_label.weight"] = value.T
        elif owner is not None:
            found[f"model.{names[owner]}.{parts[head.removeprefix(owner + '.')]}.{kind}"] = value
        else:  # attention, the next module after its block
            stage, place, part = head.rsplit(".", 2)
            original = names[f"{stage}.{int(place) - 1}"]
            if part == "qkv":  # of a head: queries, keys, values; in turn for every channel
                heads = value.chunk(value.shape[0] // 3 // 64)
                rows = [
                    row for head_ in heads for three in zip(*head_.chunk(3), strict=True) for row in three
                ]
                value = torch.stack(rows)
            value = value[..., None] if value.ndim == 3 else value
            found[
                f"model.{original}.{ {'norm': 'norm2', 'qkv': 'qkv', 'proj_out': 'proj'}[part] }.{kind}"
            ] = value
    for name in list(names.values()):
        if name.endswith(("_down", "_up")):
            for part in ("conv0", "skip"):
                found[f"model.{name}.{part}.resample_filter"] = torch.full((1, 1, 2, 2), 0.25)
    return found


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize(
    ("classes", "multipliers", "blocks", "features", "augmentations"),
    [(3, [1, 1], 1, 4, 0), (0, [1, 2], 2, 4, 0), (3, [2, 1], 1, 2, 5)],
)
def test_dhariwal_network_equals_the_original(
    classes: int, multipliers: list[int], blocks: int, features: int, augmentations: int
) -> None:
    """By the reference network of guided-diffusion, on widths where both have 32 groups."""
    config: dict[str, Any] = {
        "precond": "EDMPrecond",
        "model_type": "DhariwalUNet",
        "img_resolution": 8,
        "img_channels": 2,
        "model_channels": 128,
        "channel_mult": multipliers,
        "channel_mult_emb": features,
        "augment_dim": augmentations,
        "num_blocks": blocks,
        "attn_resolutions": [4],
        "label_dim": classes,
    }
    twin = {
        "model_channels": 128,
        "num_res_blocks": blocks,
        "channel_mult": multipliers,
        "channel_mult_emb": features,
        "attention_resolutions": [2],
        "num_head_channels": 64,
        "num_classes": classes,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "out_channels": 2,
    }
    generator = torch.Generator().manual_seed(1)
    x, sigma = torch.randn(2, 2, 8, 8, generator=generator).double(), torch.tensor([0.3, 7.0]).double()
    label = torch.tensor([2, 0])
    tensors, weights = score_sde.drawn()
    spread = (sigma**2 + 0.25).sqrt().view(-1, 1, 1, 1)
    cond = {"label": label} if classes else {}
    augment = torch.randn(2, augmentations, generator=generator) if augmentations else None
    cond |= {} if augment is None else {"augment": augment}
    out = adm.forward(twin, weights, x / spread, sigma.log() / 4, label, augment)
    expected = 0.25 / spread**2 * x + 0.5 * sigma.view(-1, 1, 1, 1) / spread * out
    state = as_dhariwal(tensors, dict(their_dhariwal_names(2, blocks, 8, [4])))
    found = edm.read(state, config)
    assert all(name.endswith("resample_filter") for name in found.unused)
    ours = denoiser(found)(x, sigma / 80, **cond).x0
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
    for key, value, words in (
        ("augment_dim", 9, "map_augment.weight"),
        ("channel_mult_emb", 3, "map_layer0.weight"),
        ("model_channels", 80, "do not fit"),
    ):
        with pytest.raises(ValueError, match=words):
            edm.read(state, {**config, key: value})
    state["model.enc.4x4_down.skip.resample_filter"] *= 2
    with pytest.raises(ValueError, match="is not the averaging filter"):
        edm.read(state, config)


@pytest.mark.parametrize(
    ("width", "multipliers", "attention"),
    [(32, [1, 2], [8, 4]), (96, [1, 1], [4]), (16, [1, 3, 2], [8, 4, 2]), (160, [1], [8])],
    ids=str,
)
def test_a_dhariwal_network_of_any_width_has_their_heads(
    width: int, multipliers: list[int], attention: list[int]
) -> None:
    """One head of 64 to 127 channels, two of up to 191; and fewer than 64 channels do not attend, whoever asks."""
    config: dict[str, Any] = {
        "precond": "EDMPrecond",
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": width,
        "channel_mult": multipliers,
        "num_blocks": 1,
        "attn_resolutions": attention,
        "label_dim": 3,
    }
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    sigma, label = torch.tensor([0.3, 7.0]).double(), torch.tensor([2, 0])
    tensors, weights = score_sde.drawn()
    spread = (sigma**2 + 0.25).sqrt().view(-1, 1, 1, 1)
    onehot = torch.nn.functional.one_hot(label, 3).double()
    out = dhariwal_unet.forward(config, weights, x / spread, sigma.log() / 4, onehot)
    expected = 0.25 / spread**2 * x + 0.5 * sigma.view(-1, 1, 1, 1) / spread * out
    found = edm.read({f"model.{name}": value for name, value in tensors.items()}, config)
    assert not found.unused
    ours = denoiser(found)(x, sigma / 80, label=label).x0
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9 * float(expected.detach().abs().max()))
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-9 * float(slopes[1].abs().max()))
    with pytest.raises(ValueError, match="224 channels cannot be shared evenly by heads=3"):
        edm.read(tensors, {**config, "model_channels": 224, "channel_mult": [1]})


@pytest.mark.parametrize(
    ("settings", "part", "expected"),
    [
        ({}, "sde", {"sigma_min": 0.002, "sigma_max": 80.0}),
        ({"sigma_min": 0, "sigma_max": float("inf")}, "sde", {"sigma_min": 0.002, "sigma_max": 80.0}),
        ({"precond": "VPPrecond"}, "sde", {"t_min": 1e-5, "beta_min": 0.1, "beta_max": 20.0}),
        ({"precond": "VPPrecond", "epsilon_t": 1e-4}, "sde", {"t_min": 1e-4}),
        ({"precond": "VEPrecond"}, "sde", {"sigma_min": 0.02, "sigma_max": 100.0}),
        ({"label_dropout": 0.3}, "conditioning", {"classes": 3, "dropout": 0.3}),
        ({}, "conditioning", {"classes": 3, "dropout": 0.0}),
    ],
)
def test_settings_become_ours(settings: dict[str, Any], part: str, expected: dict[str, float]) -> None:
    """Settings are those of the constructors, with their defaults."""
    tensors, config, _ = network()
    state = renamed(tensors, config)
    state |= {"model.map_label.weight": torch.zeros(8, 3), "model.map_label.bias": torch.zeros(8)}
    found = edm.read(state, {**config, "label_dim": 3, **settings}).config[part]
    assert {key: found[key] for key in expected} == expected


def test_the_chain_of_improved_ddpm_has_their_constants() -> None:
    """alpha-bar_j = sin(pi / 2 j / M / (C_2 + 1))^2, whose steps keep C_1 at least."""
    tensors, config, _ = network(outputs=2)
    read = edm.read(
        renamed(tensors, config), {**config, "precond": "iDDPMPrecond", "M": 9, "C_1": 0.01, "C_2": 0.1}
    )
    kept = (torch.arange(10).double() / 9 / 1.1 * torch.pi / 2).sin() ** 2
    betas = torch.tensor(denoiser(read).sde.betas, dtype=torch.float64)  # type: ignore[attr-defined]
    torch.testing.assert_close(1 - betas, (kept[:-1] / kept[1:]).clamp(min=0.01).flip(0))
