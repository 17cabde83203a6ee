"""Conditions of a training as a checkpoint stores them, and their comparison with those of the data."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sde_gen.checkpoint.manifest import line
from sde_gen.cli.parts import located
from sde_gen.data import Splits
from sde_gen.data.conditioning import Conditioning
from sde_gen.data.conditioning.base import PLURALS

Fingerprint = Mapping[str, Mapping[str, str]]
"""Hashes of conditions, by split and by name."""


def check(given: Conditioning, splits: Splits) -> None:
    """Raise ValueError where the test split lacks a condition of the training split."""
    for name in given.names:
        if name in splits.train.conditions and name not in splits.test.conditions:
            raise ValueError(
                f"the test split has no {PLURALS.get(name, name)}, so no loss given them can be measured on it; draw a "
                "test split from the training split's images (data.test=null), or use conditioning=none"
            )


def warn_of_unseen(given: Conditioning, splits: Splits) -> None:
    """Warn of classes and words that the network cannot learn, since the training split has no sample of them."""
    for text in given.unseen(splits.train, splits.test):
        warnings.warn(text, stacklevel=2)


def record(given: Conditioning, splits: Splits) -> dict[str, Any]:
    """Return what the conditioning has learned, and a hash of every condition that it reads but the labels."""
    read = set(given.names) - {"label"}
    if not read:
        return {}
    hashes = {
        name: {key: value for key, value in part.fingerprints_of_conditions().items() if key in read}
        for name, part in (("train", splits.train), ("test", splits.test))
    }
    return {"conditioning": {"learned": given.stored(), "fingerprint": hashes}}


def read(about: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], Fingerprint]:
    """Return what :func:`record` stored in the metadata of a checkpoint; nothing where it stored none.

    Raises:
        ValueError: it is not of that form.
    """
    stored = about.get("conditioning", {"learned": {}, "fingerprint": {}})
    try:
        learned = located(dict(stored["learned"]), folder)
        fingerprint = {split: dict(stored["fingerprint"][split]) for split in stored["fingerprint"]}
        if not all(isinstance(text, str) for part in fingerprint.values() for text in part.values()):
            raise TypeError("a fingerprint is a text")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the checkpoint in {folder} has invalid conditions ({line(str(error), 200)})"
        ) from error
    return learned, fingerprint


def differences(known: Fingerprint, splits: Splits) -> list[str]:
    """Describe the conditions of data that are not those of a fingerprint."""
    now = {"train": splits.train, "test": splits.test}
    return [
        f"{split} split with other {PLURALS.get(name, name)}"
        for split, hashes in known.items()
        if split in now
        for name, value in hashes.items()
        if now[split].fingerprints_of_conditions().get(name) != value
    ]
