"""Counter-based random numbers: a stateless function of a key and a position, equal on all machines up to rounding."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_STEP = np.array(0x9E3779B97F4A7C15, dtype=np.uint64)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
CHUNK = 32_768
"""Keys that are made at once, to stay in a core's cache."""


def _mix(words: Keys, scratch: Keys) -> Keys:
    """Scramble words in place, every bit of one by all of its bits, one-to-one.

    Source: the finalizer of SplitMix64, Steele et al., 2014, OOPSLA, which passes BigCrush on a mere counter.
    """
    for shift, factor in _ROUNDS:
        np.bitwise_xor(words, np.right_shift(words, np.uint64(shift), out=scratch), out=words)
        if factor > 1:
            np.multiply(words, np.uint64(factor), out=words)
    return words


def derive_keys(roots: Keys, *path: Keys) -> Keys:
    """Return a key per root and path of integers, which broadcast; injective in the root and in each integer."""
    words = roots
    for number in path:
        words = words + (number + np.ones_like(number)) * _STEP
        words = _mix(words, np.empty_like(words))
    return words


def as_key(number: int) -> Keys:
    """Return an integer of [0, 2^64) as uint64 with shape (1,)."""
    return np.array([number], dtype=np.uint64)


def uniforms(words: Keys) -> NDArray[np.float64]:
    """Return a number of [0, 1) per key, from its upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=16)
def _counters(count: int) -> Keys:
    """Scrambled counters (count,), so that streams of neighboring keys are independent."""
    words = np.arange(1, count + 1, dtype=np.uint64) * _STEP
    return _mix(words, np.empty_like(words))


def normals(words: Keys, out: NDArray[np.float32]) -> None:
    """Fill ``out`` of shape (R, D) with N(0, 1), a row per key (R,), whatever the other rows.

    Source: Box and Muller, 1958; a radius and an angle, of 32 bits each, from every scrambled word.
    """
    count = out.shape[1]
    width, rest = -(-count // 2), count // 2
    rows = max(1, CHUNK // max(1, width))
    buffers = np.empty((2, min(rows, len(words)) * width), dtype=np.uint64)
    for start in range(0, len(words), rows):
        key, z = words[start : start + rows, None], out[start : start + rows]
        shape, size = (len(key), width), len(key) * width
        bits, scratch = (buffer[:size].reshape(shape) for buffer in buffers)
        _mix(np.add(key, _counters(width), out=bits), scratch)
        radius, angle = (
            buffers[1, :size].view(np.float32)[half : half + size].reshape(shape) for half in (0, size)
        )
        halves = bits.view(np.uint32)
        np.copyto(radius, halves[:, :width], casting="unsafe")
        np.copyto(angle, halves[:, width:], casting="unsafe")
        radius += np.float32(0.5)
        radius *= np.float32(2**-32)  # in (0, 1]
        np.log(radius, out=radius)
        radius *= np.float32(-2)
        np.sqrt(radius, out=radius)
        angle *= np.float32(2 * math.pi * 2**-32)
        wave = buffers[0, :size].view(np.float32)[:size].reshape(shape)
        np.multiply(radius, np.cos(angle, out=wave), out=z[:, :width])
        np.sin(angle, out=wave)
        np.multiply(radius[:, :rest], wave[:, :rest], out=z[:, width:])
