"""Settings of guided-diffusion's networks: arguments of the classes, or flags of the scripts."""

from collections.abc import Mapping
from typing import Any

from sde_gen.interop.settings import MOST_STEPS, flag, listing, need, shown, whole

SHARED = frozenset(
    "image_size in_channels out_channels model_channels num_res_blocks attention_resolutions dropout channel_mult "
    "conv_resample dims num_heads num_head_channels num_heads_upsample use_scale_shift_norm resblock_updown "
    "use_new_attention_order noise_schedule steps rescale_timesteps".split()
)
"""Arguments common to both classes, and settings of the chain."""

HARMLESS = frozenset(
    "use_checkpoint use_fp16 classifier_use_fp16 use_kl rescale_learned_sigmas sigma_small".split()
)
"""Settings of memory, precision and training, which do not affect the outputs."""

UNET_FLAGS: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "learn_sigma": False,
    "predict_xstart": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_new_attention_order": False,
}
"""Flags of the image networks, with the defaults of both projects' scripts."""

SAME = (SHARED | {"predict_xstart"}) - {"image_size", "attention_resolutions", "channel_mult"}
"""Flags that are equal to the argument of the same name."""

CLASSIFIER_FLAGS: dict[str, Any] = {
    "image_size": 64,
    "classifier_width": 128,
    "classifier_depth": 2,
    "classifier_attention_resolutions": "32,16,8",
    "classifier_use_scale_shift_norm": True,
    "classifier_resblock_updown": True,
    "classifier_pool": "attention",
}
"""Flags of the classifiers."""

CHAIN_FLAGS = frozenset(("diffusion_steps", "noise_schedule", "rescale_timesteps"))
FLAGS = frozenset(UNET_FLAGS) | frozenset(CLASSIFIER_FLAGS) | CHAIN_FLAGS
CLASSES = 1000
"""Classes of their scripts."""

MULTIPLIERS: dict[int, list[float]] = {
    512: [0.5, 1, 1, 2, 2, 4, 4],
    256: [1, 1, 2, 2, 4, 4],
    128: [1, 1, 2, 3, 4],
    64: [1, 2, 3, 4],
    32: [1, 2, 2, 2],
}
"""Channels of every level that their scripts take for images of a size."""

HINTS = {
    "timestep_respacing": "choose steps when sampling, such as grid=ddpm_linspace",
    "classifier_scale": "give it to sample as guidance.scale",
    "pool": "a classifier is read by from=guided_diffusion_classifier",
    "num_classes": "out_channels of a classifier is its number of classes",
    "large_size": "super-resolution networks are not supported",
    "small_size": "super-resolution networks are not supported",
}
"""Advice for unsupported settings."""


def of_unet(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a ``UNetModel`` by name, with ``noise_schedule``, ``steps`` and ``rescale_timesteps``.

    Arguments:
        config: these arguments, or the flags of a script, recognized by ``num_channels`` or another flag.

    Raises:
        ValueError: a setting is unknown, or arguments and flags are mixed.
    """
    if not _flags(config):
        _reject_unknown(config, SHARED | HARMLESS | {"num_classes", "predict_xstart"}, "UNetModel")
        return _plain(config)
    _reject_unknown(config, FLAGS | HARMLESS, "their scripts")
    settings = {**UNET_FLAGS, **config}
    return {
        **_sizes(settings, "attention_resolutions"),
        **{key: settings[key] for key in UNET_FLAGS if key in SAME},
        **_chain(settings),
        "model_channels": settings["num_channels"],
        "channel_mult": _multipliers(settings["channel_mult"], settings["image_size"]),
        "out_channels": 6 if flag(settings, "learn_sigma") else 3,
        "num_classes": CLASSES if flag(settings, "class_cond") else None,
    }


def of_classifier(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an ``EncoderUNetModel`` by name, with the settings of the chain.

    Arguments:
        config: these arguments, or the flags of a script.

    Raises:
        ValueError: a setting is unknown, or arguments and flags are mixed.
    """
    if not _flags(config):
        _reject_unknown(config, SHARED | HARMLESS | {"pool"}, "EncoderUNetModel")
        return _plain(config)
    _reject_unknown(config, FLAGS | HARMLESS, "their scripts")
    settings = {**CLASSIFIER_FLAGS, **config}
    return {
        **_sizes(settings, "classifier_attention_resolutions"),
        **_chain(settings),
        "model_channels": settings["classifier_width"],
        "num_res_blocks": settings["classifier_depth"],
        "channel_mult": _multipliers("", settings["image_size"]),
        "out_channels": CLASSES,
        "num_head_channels": 64,
        "use_scale_shift_norm": settings["classifier_use_scale_shift_norm"],
        "resblock_updown": settings["classifier_resblock_updown"],
        "pool": settings["classifier_pool"],
    }


def _flags(config: Mapping[str, Any]) -> bool:
    return any(key in FLAGS - SHARED - {"predict_xstart"} for key in config)


def _reject_unknown(config: Mapping[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    for key, value in config.items():
        if key not in known and not (key == "timestep_respacing" and value in (None, "")):
            raise ValueError(
                f"{where} has no setting {listing([key])}" + (f": {HINTS[key]}" if key in HINTS else "")
            )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class, with parsed multipliers."""
    if not isinstance(factors := need(config, "attention_resolutions"), list | tuple):
        raise ValueError(
            f"attention_resolutions={shown(factors)}: expected a list of factors of halving, such as [2, 4]; sizes of "
            "images in a text are a flag of their scripts, all of which go together: num_channels in place of "
            "model_channels, ..."
        )
    size = need(config, "image_size")
    return {**config, "channel_mult": _multipliers(need(config, "channel_mult"), size)}


def _sizes(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Convert a string of image sizes to downsampling factors."""
    size, text = whole(settings, "image_size"), settings[key]
    if not isinstance(text, str | int):
        raise ValueError(
            f"{key}={shown(text)}: expected sizes of images in a text, such as '16,8', as flag of a script"
        )
    try:
        factors = [size // int(part) for part in str(text).split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{key}={shown(text)}: expected sizes of images, such as '16,8'") from error
    return {"image_size": size, "in_channels": 3, "attention_resolutions": factors}


def _multipliers(settings: Any, size: Any) -> list[float]:
    if isinstance(settings, list | tuple):
        return list(settings)
    if settings == "":
        side = whole({"image_size": size}, "image_size")
        if side not in MULTIPLIERS:
            raise ValueError(
                f"channel_mult='' of images of {side} pixels: their scripts know "
                f"{', '.join(map(str, MULTIPLIERS))}; give the multipliers"
            )
        return MULTIPLIERS[side]
    try:
        return (
            [float(part) for part in settings.split(",")] if isinstance(settings, str) else [float(settings)]
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"channel_mult={shown(settings)}: expected numbers, such as '1,2,2,2'") from error


def _chain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chain; for other than 1000 steps the two projects have different default labels."""
    steps = whole({"diffusion_steps": 1000, **settings}, "diffusion_steps", maximum=MOST_STEPS)
    rescale = (
        settings.get("rescale_timesteps", False) if steps == 1000 else need(settings, "rescale_timesteps")
    )
    return {
        "steps": steps,
        "noise_schedule": settings.get("noise_schedule", "linear"),
        "rescale_timesteps": rescale,
    }
