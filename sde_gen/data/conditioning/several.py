"""Several conditions at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec
from sde_gen.data.conditioning.base import Conditioning, check_dropout
from sde_gen.noise import Noise
from sde_gen.utils.broadcasting import broadcast, to_device


@dataclass(frozen=True, kw_only=True)
class Several(Conditioning):
    """Several conditions, each dropped by itself, and now and then all of them together.

    Source: Brooks et al., 2023, arXiv:2211.09800, section 3.2.1, who drop each of two conditions and both.

    Arguments:
        parts: the conditionings, by any names.
        dropout: probability that all conditions of a sample are dropped, beside their own dropout.

    Raises:
        ValueError: there are none, two read or give the same, or dropout lies outside [0, 1].
    """

    parts: Mapping[str, Conditioning]
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_dropout(self.dropout, "samples")
        if not self.parts:
            raise ValueError("parts={}: expected at least one conditioning; or use conditioning=none")
        for kind in (self.names, self.keys):
            if len(set(kind)) < len(kind):
                raise ValueError(f"two parts read or give the same condition: {', '.join(kind)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all parts."""
        return tuple(name for part in self.parts.values() for name in part.names)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of all parts."""
        return tuple(key for part in self.parts.values() for key in part.keys)

    @property
    def sizes(self) -> dict[str, int]:
        """Return the sizes of all parts."""
        return {name: size for part in self.parts.values() for name, size in part.sizes.items()}

    def drops(self, key: str) -> bool:
        """Return whether the key is dropped alone or with all others."""
        return key in self.keys and (self.dropout > 0 or any(part.drops(key) for part in self.parts.values()))

    def fit(self, train: Dataset) -> "Several":
        """Fit every conditioning."""
        return replace(self, parts={name: part.fit(train) for name, part in self.parts.items()})

    def unseen(self, train: Dataset, test: Dataset) -> list[str]:
        """Describe the values that the training split lacks, of every conditioning."""
        return [text for part in self.parts.values() for text in part.unseen(train, test)]

    def prepare(self, data: Dataset) -> Dataset:
        """Prepare the conditions of all parts."""
        conditions: dict[str, Tensor] = {}
        for part in self.parts.values():
            conditions |= part.prepare(data).conditions
        return replace(data, conditions=conditions)

    def stored(self) -> dict[str, Any]:
        """Return what the parts have learned, by their names."""
        return {name: stored for name, part in self.parts.items() if (stored := part.stored())}

    def restore(self, stored: Mapping[str, Any]) -> "Several":
        """Restore every conditioning."""
        return replace(
            self, parts={name: part.restore(stored.get(name, {})) for name, part in self.parts.items()}
        )

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Transform the conditions of every conditioning."""
        return {key: cond for part in self.parts.values() for key, cond in part.given(conditions).items()}

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Transform all conditions, replace random rows of each, and random samples' of all, by the null."""
        cond = {key: value for part in self.parts.values() for key, value in part(conditions, noise).items()}
        if self.dropout == 0:
            return cond
        dropped = noise.uniform(next(iter(cond.values()))) < self.dropout
        return {
            key: torch.where(
                broadcast(dropped, cond[key]), to_device(null, dropped.device, cond[key].dtype), cond[key]
            )
            for key, null in self.null(1).items()
        }

    def with_codec(self, codec: Codec) -> "Several":
        """Give all parts the codec."""
        return replace(self, parts={name: part.with_codec(codec) for name, part in self.parts.items()})

    def noised(self, given: Mapping[str, Tensor], level: float, noise: Noise) -> dict[str, Tensor]:
        """Add noise to the condition images of the part that has them."""
        for part in self.parts.values():
            if "image" in part.keys:
                return part.noised(given, level, noise)
        return super().noised(given, level, noise)

    @property
    def unrounded(self) -> bool:
        """Return whether a part takes images without rounding."""
        return any(part.unrounded for part in self.parts.values())

    def null(self, count: int) -> dict[str, Tensor]:
        """Return the nulls of all parts."""
        return {key: null for part in self.parts.values() for key, null in part.null(count).items()}

    def omitted(self, count: int) -> dict[str, Tensor]:
        """Return what takes the place of all parts."""
        return {key: cond for part in self.parts.values() for key, cond in part.omitted(count).items()}

    def of(self, names: Collection[str]) -> "Several":
        """Return the parts that read one of these conditions."""
        return replace(
            self, parts={key: part for key, part in self.parts.items() if not {*names}.isdisjoint(part.names)}
        )

    def together(self, key: str) -> tuple[str, ...]:
        """Return the keys of the part that the key is of."""
        return next((part.together(key) for part in self.parts.values() if key in part.keys), (key,))

    def default(self, count: int) -> dict[str, Tensor]:
        """Return the defaults of all parts."""
        return {key: cond for part in self.parts.values() for key, cond in part.default(count).items()}

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Transform the typed values of all parts; a condition that is not typed is left out if others are.

        Where nothing is typed at all, every part takes its default.
        """
        self.reject_unknown(typed)
        values = {name: value for name, value in typed.items() if value is not None}
        found: dict[str, Tensor] = {}
        for part in self.parts.values():
            mine = {name: values[name] for name in part.names if name in values}
            if mine or not all(map(self.drops, part.keys)):
                found |= part.prompt(mine, count, class_names=class_names)
            else:
                found |= part.omitted(count) if values else part.default(count)
        return found
