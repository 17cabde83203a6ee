"""Abstract conditioning on an image file that is never dropped, for imported networks on latents."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from sde_gen.data.codec.base import Codec
from sde_gen.data.conditioning.base import Conditioning
from sde_gen.data.image_file import load_image
from sde_gen.noise import Noise
from sde_gen.utils.types import Shape

Self = TypeVar("Self", bound="FileImage")


@dataclass(frozen=True, kw_only=True)
class FileImage(Conditioning):
    """Abstract conditioning on an image file.

    Arguments:
        shape: shape (C, H, W) to which a file is resized.

    Raises:
        ValueError: the shape is not one of images with 1 or 3 channels.
    """

    shape: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1 or self.shape[0] not in (1, 3):
            raise ValueError(f"shape={list(self.shape)}: expected (C, H, W) with 1 or 3 channels")
        object.__setattr__(self, "_codec", None)

    @property
    def codec(self) -> Codec:
        """The map between data and model space.

        Raises:
            ValueError: there is none yet.
        """
        found: Codec | None = vars(self)["_codec"]
        if found is None:
            raise ValueError("the codec of the run is not known; call with_codec(codec)")
        return found

    def with_codec(self: Self, codec: Codec) -> Self:
        """Return a copy that has the codec of the run."""
        found = type(self)(**{key: value for key, value in vars(self).items() if not key.startswith("_")})
        object.__setattr__(found, "_codec", codec)
        return found

    @abc.abstractmethod
    def inputs(self, typed: Mapping[str, Sequence[Any]], at: int) -> dict[str, Tensor]:
        """Return the inputs of a sample, each with one row, for lists of typed values taken in turn.

        Raises:
            ValueError: a file is missing or unreadable.
        """

    def drops(self, key: str) -> bool:
        """Return False."""
        del key
        return False

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Raise ValueError: data hold no such conditions."""
        del conditions
        raise ValueError(
            f"the network was imported with {' and '.join(self.names)} as conditions, which files give: it can sample, "
            "and not be trained or evaluated"
        )

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Raise ValueError: data hold no such conditions."""
        del noise
        return self.given(conditions)

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Read the files, or the rows of a tensor of levels, taken in turn.

        Raises:
            ValueError: a file is not given, missing or unreadable, or a tensor has another shape.
        """
        del class_names
        self.reject_unknown(typed)
        if missing := [name for name in self.names if typed.get(name) is None]:
            raise ValueError(f"the network needs {' and '.join(f'{name}=FILE' for name in missing)}")
        values = {
            name: [*value] if isinstance(value, list | tuple | Tensor) else [value]
            for name, value in typed.items()
            if value is not None
        }
        period = max(map(len, values.values()))
        rows = [self.inputs(values, at) for at in range(min(count, period))]
        found = {key: torch.cat([row[key] for row in rows]) for key in self.keys}
        return {
            key: part.repeat(-(-count // len(part)), *[1] * (part.ndim - 1))[:count]
            for key, part in found.items()
        }

    def read(self, value: Any, shape: Shape) -> Tensor:
        """Read a file, or 256 levels that need not be whole, as numbers on [-1, 1] with shape (1, C, H, W).

        Raises:
            ValueError: it is missing or unreadable, or has another shape.
        """
        if isinstance(value, Tensor):
            if value.shape != shape:
                raise ValueError(f"the condition images have shape {tuple(value.shape)}; expected {shape}")
            levels = value if value.is_floating_point() else value.float()
            return levels.unsqueeze(0) / 127.5 - 1
        if not isinstance(value, str | Path):
            raise ValueError(f"{self.names[0]}={value}: expected an image file")
        return load_image(Path(value), shape).unsqueeze(0).float() / 127.5 - 1
