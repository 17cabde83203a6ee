"""Weightings of the training loss over time, all on the squared error of the noise."""

from sde_gen.weighting.base import Weighting
from sde_gen.weighting.edm import EDM
from sde_gen.weighting.law import Law
from sde_gen.weighting.likelihood import Likelihood
from sde_gen.weighting.min_snr import MinSNR
from sde_gen.weighting.simple import Simple
from sde_gen.weighting.truncated_snr import TruncatedSNR

__all__ = ["EDM", "Law", "Likelihood", "MinSNR", "Simple", "TruncatedSNR", "Weighting"]
