"""Differences between two nested configurations."""

from typing import Any


def diff_config(old: Any, new: Any, name: str = "") -> list[str]:
    """Return the differences between two nested configurations, as ``name: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in diff_config(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if old == new else [f"{name}: {old} -> {new}"]
