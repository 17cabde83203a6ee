"""Settings of other projects: looked up with errors that name them."""

from collections.abc import Mapping
from typing import Any


def given(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The settings, where a format cannot do without.

    Raises:
        ValueError: there are none.
    """
    if config is None:
        raise ValueError(
            "settings=... must name a JSON or YAML file with the configuration the network was made with"
        )
    return config


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of a section.

    Raises:
        ValueError: there is none.
    """
    found = config.get(name)
    if not isinstance(found, Mapping):
        raise ValueError(
            f"the configuration has no section {name!r}; it has {', '.join(map(str, config)) or 'nothing'}"
        )
    return found


def need(settings: Mapping[str, Any], key: str) -> Any:
    """A setting that must be there.

    Raises:
        ValueError: it is not.
    """
    if settings.get(key) is None:
        raise ValueError(f"the configuration does not say {key}; it says {', '.join(map(str, settings))}")
    return settings[key]


def choice(settings: Mapping[str, Any], key: str, *known: str) -> str:
    """A setting that is one of some words, in any case.

    Raises:
        ValueError: it is missing, or another.
    """
    word = str(need(settings, key)).lower()
    if word not in known:
        raise ValueError(f"{key}={settings[key]!r} is not supported; expected {' or '.join(known)}")
    return word
