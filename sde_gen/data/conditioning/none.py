"""Training without conditioning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sde_gen.data.conditioning.base import Conditioning
from sde_gen.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Unconditional(Conditioning):
    """Unconditional training: conditions of the data are ignored."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return an empty tuple: no conditions."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return an empty tuple: no keywords of the network."""
        return ()

    def drops(self, key: str) -> bool:
        """Return False: there is nothing to drop."""
        del key
        return False

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ignore the conditions."""
        del conditions
        return {}

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Ignore the conditions."""
        del conditions, noise
        return {}

    def null(self, count: int) -> dict[str, Tensor]:
        """Return an empty dictionary."""
        del count
        return {}

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Raise an error for any condition."""
        del count, class_names
        self.reject_unknown(typed)
        return {}
