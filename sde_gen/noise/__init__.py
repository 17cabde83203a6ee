"""Explicit sources of Gaussian noise: i.i.d., one stream per sample, or Brownian paths."""

from sde_gen.noise.sources import IID, NO_NOISE, Brownian, Noise, NoNoise, PerSample, spawn_seeds

__all__ = ["IID", "NO_NOISE", "Brownian", "NoNoise", "Noise", "PerSample", "spawn_seeds"]


def __dir__() -> list[str]:
    return sorted(__all__)
