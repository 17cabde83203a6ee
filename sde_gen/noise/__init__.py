"""Explicit sources of Gaussian noise: i.i.d., one stream per sample, or Brownian paths."""

from sde_gen.noise.sources import IID, Brownian, Noise, PerSample, spawn_seeds

__all__ = ["IID", "Brownian", "Noise", "PerSample", "spawn_seeds"]
