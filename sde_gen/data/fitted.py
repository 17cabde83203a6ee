"""Settings that are computed from the training split and stored with the run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

Self = TypeVar("Self", bound="Fitted")


class Fitted:
    """Base of frozen dataclasses, some of whose settings are computed from the training split.

    Attributes:
        learned: names of these settings.
    """

    learned: ClassVar[tuple[str, ...]] = ()

    def stored(self) -> dict[str, Any]:
        """Return what was learned as plain JSON."""
        return {name: getattr(self, name) for name in self.learned}

    def restore(self: Self, stored: Mapping[str, Any]) -> Self:
        """Return the object with what :meth:`stored` returned."""
        known = {name: stored[name] for name in self.learned if name in stored}
        return replace(self, **known) if known else self  # type: ignore[type-var]
