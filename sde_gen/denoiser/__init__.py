"""Denoisers: a network, or an exact density, behind one interface."""

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.exact import GaussianDenoiser, MixtureDenoiser
from sde_gen.denoiser.network import NetworkDenoiser

__all__ = ["Denoiser", "GaussianDenoiser", "MixtureDenoiser", "NetworkDenoiser"]
