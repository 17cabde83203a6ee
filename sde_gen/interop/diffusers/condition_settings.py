"""Settings of diffusers' UNet2DConditionModel and ControlNetModel."""

from collections.abc import Mapping
from typing import Any

from sde_gen.interop.converted_model import ObjectSpec
from sde_gen.interop.diffusers.condition_defaults import ENCODER_DEFAULTS, UNET_DEFAULTS
from sde_gen.interop.settings import (
    MOST_LEVELS,
    choice,
    flag,
    listed,
    real,
    reject_unknown,
    shown,
    whole,
    wholes,
)
from sde_gen.model.activation import GELU, LeakyReLU, Mish, SiLU
from sde_gen.model.embedding import Fourier, Sinusoids
from sde_gen.model.unet.conditioned_encoder import ConditionedLevel
from sde_gen.model.unet.level_attention import PixelAttention, TextAndPixelAttention, TransformerAttention

UNSUPPORTED = {
    "num_attention_heads": (None, ""),
    "dual_cross_attention": (False, ""),
    "attention_type": ("default", ": GLIGEN's boxes are not implemented"),
    "time_cond_proj_dim": (None, ": a network distilled at several guidance scales is no score model"),
}
"""Settings of which one value is supported, with the reason."""

PARTS = {
    "block": "{both}Block2D",
    "inside": "Resnet{both}sampleBlock2D",
    "pixels": "Attn{both}Block2D",
    "transformer": "CrossAttn{both}Block2D",
    "joined": "SimpleCrossAttn{both}Block2D",
}
"""Kinds of blocks, and their names in both directions."""

MIDDLES = {
    "UNetMidBlock2DCrossAttn": "transformer",
    "UNetMidBlock2DSimpleCrossAttn": "joined",
    "UNetMidBlock2D": "block",
}
"""Kinds of blocks in the middle."""

CONTEXT_GROUPS = 32
"""Groups of the normalization of tokens (diffusers 0.42, Attention.cross_attention_norm_num_groups)."""


class ConditionSettings:
    """Checked settings.

    Arguments:
        config: arguments of the constructor by name.
        known: names of the arguments that the constructor has, besides those of :data:`ENCODER_DEFAULTS`.
        name: name of the class, for messages.

    Attributes:
        down: kinds of the levels, fine to coarse; ``up`` the same of the decoder path, also fine to coarse.

    Raises:
        ValueError: a setting is missing or not supported.
    """

    def __init__(self, config: Mapping[str, Any], known: Mapping[str, Any], name: str) -> None:
        reject_unknown(config, {**ENCODER_DEFAULTS, **known}, name)
        self.settings = settings = {**ENCODER_DEFAULTS, **UNET_DEFAULTS, **known, **config}
        for key, (expected, why) in UNSUPPORTED.items():
            if settings[key] != expected:
                raise ValueError(f"{key}={shown(settings[key])} is not supported; expected {expected}{why}")
        self.widths = wholes(settings, "block_out_channels", length=MOST_LEVELS)
        self.levels = len(self.widths)
        if not self.levels:
            raise ValueError("block_out_channels=[] is not supported; expected a number for every level")
        self.down = self._kinds("down")
        self.blocks = self._of_levels("layers_per_block", maximum=64)
        self.head = self._of_levels("attention_head_dim", null=True)
        self.context = self._of_levels("cross_attention_dim", null=True)
        only = "only_cross_attention"
        self.text_only = [flag({only: value}, only) for value in self._of_each_level(only)]
        self.groups, self.eps = whole(settings, "norm_num_groups"), real(settings, "norm_eps")
        for channels in self.widths:
            if channels % self.groups:
                raise ValueError(
                    f"norm_num_groups={self.groups} is not supported; expected a divisor of {channels} channels"
                )
        self.modulated = (
            choice(settings, "resnet_time_scale_shift", "default", "scale_shift") == "scale_shift"
        )
        flag(settings, "upcast_attention")  # matters in half precision alone
        flag(settings, "use_linear_projection")  # two layouts of the same numbers
        self.activation = activation(settings, "act_fn")

    def embedding(self) -> ObjectSpec:
        """Return the sinusoids of the noise label, or its random Fourier features."""
        kind = choice(self.settings, "time_embedding_type", "positional", "fourier")
        if kind == "fourier":
            return ObjectSpec(Fourier, size=self.features() // 2)
        return self.sinusoids(self.widths[0])

    def sinusoids(self, size: int) -> ObjectSpec:
        """Return sinusoids as those of the noise label."""
        return ObjectSpec(
            Sinusoids,
            size=size,
            shift=real(self.settings, "freq_shift"),
            cosine_first=flag(self.settings, "flip_sin_to_cos"),
        )

    @property
    def fourier(self) -> bool:
        """Return whether the noise label has random Fourier features."""
        return bool(self.settings["time_embedding_type"] == "fourier")

    def features(self) -> int:
        """Return the number of features of the embedding."""
        if self.settings["time_embedding_dim"] is not None:
            return whole(self.settings, "time_embedding_dim")
        return (2 if self.fourier else 4) * self.widths[0]

    def level(self, number: int, *, up: bool = False) -> ObjectSpec:
        """Return a level of the encoder path, or of the decoder path; 0 is the finest."""
        kind = self.up[number] if up else self.down[number]
        # the decoder path reads the heads of these kinds in the order of the encoder path (diffusers 0.42)
        head = self.head[self.levels - 1 - number if up and kind in ("pixels", "joined") else number]
        own = kind in ("inside", "joined")
        return ObjectSpec(
            ConditionedLevel,
            channels=self.widths[number],
            blocks=self.blocks[number] + up,
            attention=self._attention(kind, number, head, self.depths(number, up=up), self.text_only[number]),
            inside=own,
            scale=1 / self._factor("resnet_out_scale_factor") if own else 1.0,
            activated=not (own and flag(self.settings, "resnet_skip_time_act")),
        )

    @property
    def up(self) -> list[str]:
        """Return the kinds of the decoder path, fine to coarse."""
        return list(reversed(self._kinds("up")))

    def middle(self) -> ObjectSpec | None:
        """Return the middle; None if there is none."""
        kind = self.middle_kind()
        if kind is None:
            return None
        only = self.settings["mid_block_only_cross_attention"]
        if only is None:
            given = self.settings["only_cross_attention"]
            only = given if isinstance(given, bool) else False
        last = self.levels - 1
        depths = [self._depths("transformer_layers_per_block", last, 1)[0]] if kind == "transformer" else [1]
        return ObjectSpec(
            ConditionedLevel,
            channels=self.widths[last],
            blocks=1 if kind == "block" else 2,
            attention=self._attention(
                kind, last, self.head[last], depths, flag({"only": only}, "only") and kind == "joined"
            ),
            scale=1 / self._factor("mid_block_scale_factor"),
            activated=not (kind == "joined" and flag(self.settings, "resnet_skip_time_act")),
        )

    def middle_kind(self) -> str | None:
        """Return the kind of the middle; None if there is none."""
        name = self.settings["mid_block_type"]
        if name is None:
            return None
        found = choice(self.settings, "mid_block_type", *map(str.lower, MIDDLES))
        return {key.lower(): kind for key, kind in MIDDLES.items()}[found]

    def depths(self, number: int, *, up: bool) -> list[int]:
        """Return the transformer blocks after every residual block of a level."""
        count, given = self.blocks[number] + up, self.settings["reverse_transformer_layers_per_block"]
        if up and given is not None:
            return self._depths("reverse_transformer_layers_per_block", self.levels - 1 - number, count)
        return self._depths("transformer_layers_per_block", number, count)

    def _depths(self, key: str, place: int, count: int) -> list[int]:
        values = self._of_each_level(key)[place]
        if isinstance(values, list | tuple):
            found = wholes({key: values}, key, maximum=256)
            if len(found) < count:
                raise ValueError(
                    f"{key}={shown(values)} is not supported; expected {count} numbers, one for every residual block"
                )
            return found[:count]
        return count * [whole({key: values}, key, maximum=256)]

    def _attention(
        self, kind: str, number: int, head: int | None, depths: list[int], text_only: bool
    ) -> ObjectSpec | None:
        channels, context = self.widths[number], self.context[number]
        if kind in ("block", "inside"):
            return None
        if kind == "pixels":
            return ObjectSpec(PixelAttention, heads=self._heads(channels, head), eps=self.eps)
        if context is None:
            raise ValueError("cross_attention_dim=None is not supported; expected the features of a token")
        if kind == "joined":
            return ObjectSpec(
                TextAndPixelAttention,
                heads=self._heads(channels, head),
                context=context,
                text_only=text_only,
                context_groups=self._context_groups(context),
            )
        if head is None or head > channels:
            raise ValueError(
                f"attention_head_dim={head} is not supported; expected the number of heads, at most {channels}"
            )
        return ObjectSpec(
            TransformerAttention, heads=head, depths=depths, context=context, text_only=text_only
        )

    def _heads(self, channels: int, head: int | None) -> int:
        """Return the number of heads where ``attention_head_dim`` is the channels of one."""
        if head is None:
            return 1
        if channels % head:
            raise ValueError(
                f"attention_head_dim={head} is not supported; expected a divisor of the {channels} channels"
            )
        return channels // head

    def _context_groups(self, context: int) -> int | None:
        if self.settings["cross_attention_norm"] is None:
            return None
        choice(self.settings, "cross_attention_norm", "group_norm")
        if context % CONTEXT_GROUPS:
            raise ValueError(
                f"cross_attention_dim={context} is not supported with cross_attention_norm=group_norm; expected a "
                f"multiple of {CONTEXT_GROUPS}"
            )
        return CONTEXT_GROUPS

    def _factor(self, key: str) -> float:
        found = real(self.settings, key)
        if found <= 0:
            raise ValueError(f"{key}={found} is not supported; expected a positive number")
        return found

    def _kinds(self, direction: str) -> list[str]:
        """Return the kinds of the blocks in the order of the file."""
        key = f"{direction}_block_types"
        known = {name.format(both=direction.capitalize()).lower(): kind for kind, name in PARTS.items()}
        found = []
        for name in listed(self.settings, key):
            word = name.removeprefix("UNetRes") if isinstance(name, str) else name  # files written in 2022
            found.append(known[choice({key: word}, key, *known)])
        if len(found) != self.levels:
            raise ValueError(f"{key} has {len(found)} kinds of block for {self.levels} block_out_channels")
        return found

    def _of_levels(self, key: str, *, null: bool = False, maximum: int = 2**14) -> list[Any]:
        """Return a setting of every level, fine to coarse."""
        return [
            None if null and value is None else whole({key: value}, key, maximum=maximum)
            for value in self._of_each_level(key)
        ]

    def _of_each_level(self, key: str) -> list[Any]:
        """Return the values of a setting that is one value or a list with one for every level."""
        values = self.settings[key]
        if not isinstance(values, list | tuple):
            return self.levels * [values]
        if len(values) != self.levels:
            raise ValueError(
                f"{key}={shown(values)} is not supported; expected a value for each of {self.levels} levels"
            )
        return list(values)


def activation(settings: Mapping[str, Any], key: str) -> ObjectSpec | None:
    """Return an activation, None for null.

    Raises:
        ValueError: it is not supported.
    """
    specs = {
        "silu": ObjectSpec(SiLU),
        "swish": ObjectSpec(SiLU),
        "mish": ObjectSpec(Mish),
        "gelu": ObjectSpec(GELU),
        "relu": ObjectSpec(LeakyReLU, slope=0.0),
    }
    return None if settings[key] is None else specs[choice(settings, key, *specs)]
