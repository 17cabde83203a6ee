"""Divergences of vector fields: exact, or estimated without bias."""

from sde_gen.divergence.base import Divergence
from sde_gen.divergence.exact import Exact
from sde_gen.divergence.hutchinson import Gaussian, Hutchinson, Probe, Rademacher

__all__ = ["Divergence", "Exact", "Gaussian", "Hutchinson", "Probe", "Rademacher"]
