"""Mutations of files and configurations of untrusted origin."""

import random
from typing import Any

ODD: list[Any] = [
    *(
        None,
        True,
        "",
        "x",
        "16",
        [],
        {},
        [[]],
        [None],
        0,
        -1,
        1.5,
        7,
        10**6,
        10**9,
        10**30,
        2**63,
        1e-320,
        1e308,
    ),
    *(float("nan"), float("inf"), [10**9], [1] * 500, {"a": 1}, "${oc.env:HOME}"),
]
"""Values of another type, far out of range, or special to some parser."""


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of the values of a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(at for key, value in inner for at in places(value, (*path, key)))]


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Bytes changed, removed, repeated or overwritten at random positions."""
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 8])):
        at = generator.randrange(len(data))
        kind = generator.randrange(5)
        if kind == 0:
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at : at + 4] = generator.randbytes(4)
        elif kind == 2:
            del data[at:]
            data = data or bytearray(b"\0")
        elif kind == 3:
            data[at:at] = data[at : at + 64]
        else:
            data[at : at + 8] = b"\xff" * 8
    return bytes(data)
