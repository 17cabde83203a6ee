"""Networks of score_sde_pytorch: NCSN++ and DDPM++ under VE, VP and sub-VP."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop import files
from sde_gen.interop.imported import Imported
from sde_gen.interop.transfer import Transfer
from sde_gen.model.embedding import Fourier, Positional
from sde_gen.model.pyramid import NoInput, NoOutput, ResidualInput
from sde_gen.model.resample import FIR, Box
from sde_gen.model.unet import UNet

PLAIN = {"": ""}
BLOCK = {
    "GroupNorm_0": "norm_in",
    "Conv_0": "conv_in",
    "Dense_0": "embed",
    "GroupNorm_1": "norm_out",
    "Conv_1": "conv_out",
}
SKIP = {"Conv_2": "skip"}
ATTENTION = {"GroupNorm_0": "norm", "NIN_0": "query", "NIN_1": "key", "NIN_2": "value", "NIN_3": "out"}
"""Their names of the parts of a module, and ours."""

EXPECTED = {
    "name": "ncsnpp",
    "normalization": "GroupNorm",
    "nonlinearity": "swish",
    "resamp_with_conv": True,
    "conditional": True,
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
}
"""Settings of theirs that our networks have in this one way."""


def load(path: Path, config: Mapping[str, Any]) -> Imported:
    """Read a file: a training's checkpoint, of which the averaged weights are taken, or a state dictionary.

    Arguments:
        path: the file.
        config: as :func:`read` wants it.

    Raises:
        ValueError: as :func:`~sde_gen.interop.files.read` and :func:`read`.
    """
    found = files.read(path)
    whole = "model" in found
    state = files.tensors(found, *(["model"] if whole else []))
    shadow = found.get("ema", {}).get("shadow_params") if whole else None
    return read(state if shadow is None else averaged(state, shadow), config)


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Imported:
    """Put a network of theirs in our terms.

    What is theirs and what becomes of it: VP and sub-VP networks get the label 999 t and give -sigma times the score,
    the noise. VE networks of data on [0, 1] see 2 x - 1, the logarithm of sigma and, by ``scale_by_sigma``, give the
    score: here the data lie on [-1, 1], where sigma is twice theirs and the label log(sigma / 2), and the sign of
    the last convolution is turned, so that it gives the noise.

    Source: Song et al., 2021, arXiv:2011.13456; conventions: score_sde_pytorch, models/utils.py and models/ncsnpp.py.

    Arguments:
        tensors: the state dictionary, without ``module.``.
        config: their configuration as a dictionary, with the sections ``model``, ``data`` and ``training``; of the last
            ``sde`` is needed (vpsde, subvpsde or vesde) and ``continuous``.

    Raises:
        ValueError: a setting that our networks do not have, or tensors that do not fit; the message names them.
    """
    model, data, training = (_section(config, name) for name in ("model", "data", "training"))
    for key, expected in EXPECTED.items():
        if model.get(key, expected) != expected:
            raise ValueError(f"model.{key}={model[key]!r} is not supported; expected {expected!r}")
    if not training.get("continuous", True):
        raise ValueError(
            "training.continuous=False is not supported: the labels of discrete chains are others"
        )
    sde = _choice("training.sde", training.get("sde"), ("vpsde", "subvpsde", "vesde"))
    pyramid = _choice("model.progressive_input", model["progressive_input"], ("none", "residual"))
    if pyramid == "residual":
        _choice("model.progressive_combine", model.get("progressive_combine", "sum"), ("sum",))
    embedding = _choice("model.embedding_type", model["embedding_type"], ("positional", "fourier"))
    ve = sde == "vesde"
    if ve != bool(model.get("scale_by_sigma", False)) or ve != (embedding == "fourier"):
        raise ValueError(
            f"model.scale_by_sigma={model.get('scale_by_sigma')} and embedding_type={embedding} with {sde}: "
            "expected true and fourier with vesde, false and positional with the others"
        )
    if bool(data["centered"]) == ve:
        raise ValueError(
            f"data.centered={data['centered']} with {sde}: expected false with vesde, true with the others"
        )
    levels, size, channels = len(model["ch_mult"]), int(data["image_size"]), int(data["num_channels"])
    attention = [n for n in range(levels) if size // 2**n in model["attn_resolutions"]]
    width, fir = int(model["nf"]), bool(model["fir"])
    ours = {
        "_target_": _name(UNet),
        "shape": [channels, size, size],
        "width": width,
        "multipliers": list(model["ch_mult"]),
        "blocks": int(model["num_res_blocks"]),
        "attention_levels": attention,
        "dropout": float(model["dropout"]),
        "num_classes": 0,
        "input_frequencies": [],
        "embedding": {"_target_": _name(Fourier if ve else Positional), "size": width},
        "resampler": {"_target_": _name(FIR), "taps": [float(tap) for tap in model["fir_kernel"]]}
        if fir
        else {"_target_": _name(Box)},
        "progressive_input": {"_target_": _name(ResidualInput if pyramid == "residual" else NoInput)},
        "progressive_output": {"_target_": _name(NoOutput), "_partial_": True},
    }
    plain: dict[str, Any] = {key: value for key, value in ours.items() if not isinstance(value, dict)}
    del plain["_target_"]
    with torch.device("meta"):
        net = UNet(
            **plain,
            embedding=Fourier(width) if ve else Positional(width),
            resampler=FIR() if fir else Box(),
            progressive_input=ResidualInput() if pyramid == "residual" else NoInput(),
            progressive_output=NoOutput,
        )
    moved = Transfer(tensors, net)
    parts = list(_modules(levels, net.blocks, attention, fourier=ve, residual=pyramid == "residual", fir=fir))
    for number, (prefix, names) in enumerate(parts):
        for theirs, mine in names.items():
            _move(
                moved,
                ".".join(filter(None, (prefix, mine))),
                ".".join(filter(None, (f"all_modules.{number}", theirs))),
            )
        if names is BLOCK and f"{prefix}.skip.weight" in moved.needed:
            _move(moved, f"{prefix}.skip", f"all_modules.{number}.Conv_2")
    moved.leave("sigmas", "the noise levels of the training, which the process knows")
    state = moved.finish()
    if ve:
        for name in ("output.head.conv.weight", "output.head.conv.bias"):
            state[name] = -state[name]
    return Imported(
        config={
            "model": ours,
            "sde": _process(sde, model),
            "parametrization": {"_target_": "sde_gen.parametrization.eps.Eps", "label": _label(ve)},
            "codec": {"_target_": "sde_gen.codec.uniform.Uniform", "levels": 256, "low": -1.0, "high": 1.0},
            "conditioning": {"_target_": "sde_gen.conditioning.none.Unconditional"},
        },
        shape=(channels, size, size),
        levels=256,
        classes=0,
        state=state,
        unused=moved.unused,
    )


def averaged(tensors: Mapping[str, Tensor], shadow: list[Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a training's checkpoint: a list without names, in the order of the parameters.

    Arguments:
        tensors: the state dictionary beside it, whose buffers and fixed frequencies have no average.
        shadow: ``shadow_params`` of their EMA.

    Raises:
        ValueError: the list is not as long as there are parameters, or a shape differs.
    """
    learned = [name for name in tensors if (name != "sigmas" and not name.endswith(".W")) or "NIN" in name]
    if len(learned) != len(shadow):
        raise ValueError(f"the averages are {len(shadow)} tensors for {len(learned)} parameters")
    for name, value in zip(learned, shadow, strict=True):
        if value.shape != tensors[name].shape:
            raise ValueError(
                f"the average of {name} has shape {tuple(value.shape)}, not {tuple(tensors[name].shape)}"
            )
    return {**tensors, **dict(zip(learned, (value.detach().float() for value in shadow), strict=True))}


def _modules(
    levels: int, blocks: int, attention: list[int], *, fourier: bool, residual: bool, fir: bool
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Our names of their modules, in their order, with the names of the parts."""
    if fourier:
        yield "embedding", {"W": "frequencies"}
    yield from (("embed.0", PLAIN), ("embed.2", PLAIN), ("stem", PLAIN))
    for level in range(levels):
        for index in range(level * blocks, (level + 1) * blocks):
            yield f"down_blocks.{index}", BLOCK
            if level in attention:
                yield f"down_attention.{index}", ATTENTION
        if level < levels - 1:
            yield f"descend.{level}", {**BLOCK, **SKIP}
            if residual:
                yield f"inputs.{level}.down", {"Conv2d_0": "conv"} if fir else {"Conv_0": "1"}
    yield from (("middle_in", BLOCK), ("middle_attention", ATTENTION), ("middle_out", BLOCK))
    for step, level in enumerate(reversed(range(levels))):
        for index in range(step * (blocks + 1), (step + 1) * (blocks + 1)):
            yield f"up_blocks.{index}", BLOCK
        if level in attention:
            yield f"up_attention.{step}", ATTENTION
        if level > 0:
            yield f"ascend.{step}", {**BLOCK, **SKIP}
    yield from (("output.head.norm", PLAIN), ("output.head.conv", PLAIN))


def _move(moved: Transfer, ours: str, theirs: str) -> None:
    """Move a layer; a NIN is a 1x1 convolution written as a matrix."""
    if theirs.endswith(".W"):
        moved.move(ours, theirs)
    elif "NIN" in theirs:
        moved.move(f"{ours}.weight", f"{theirs}.W", lambda w: w.T[:, :, None, None])
        moved.move(f"{ours}.bias", f"{theirs}.b")
    else:
        moved.layer(ours, theirs)


def _process(sde: str, model: Mapping[str, Any]) -> dict[str, Any]:
    if sde == "vesde":
        ends = {"sigma_min": 2 * float(model["sigma_min"]), "sigma_max": 2 * float(model["sigma_max"])}
        return {"_target_": "sde_gen.sde.ve.VE", **ends, "t_min": 1e-5}
    where = "sde_gen.sde.vp.VP" if sde == "vpsde" else "sde_gen.sde.sub_vp.SubVP"
    betas = {"beta_min": float(model["beta_min"]), "beta_max": float(model["beta_max"])}
    return {"_target_": where, **betas, "t_min": 1e-5}


def _label(ve: bool) -> dict[str, Any]:
    if ve:
        return {"_target_": "sde_gen.parametrization.label.LogRatio", "unit": 2.0}
    return {"_target_": "sde_gen.parametrization.label.Time", "scale": 999.0}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(
            f"the configuration has no section {name!r}; it has {', '.join(map(str, config)) or 'nothing'}"
        )
    return found


def _choice(key: str, value: Any, known: tuple[str, ...]) -> str:
    word = str(value).lower()
    if word not in known:
        raise ValueError(f"{key}={value!r} is not supported; expected {' or '.join(known)}")
    return word


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
