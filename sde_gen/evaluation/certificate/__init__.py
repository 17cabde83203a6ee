"""Certificates of solvers: what they do, held to exact answers."""

from sde_gen.evaluation.certificate.certify import Certificate, certify
from sde_gen.evaluation.certificate.through import Through

__all__ = ["Certificate", "Through", "certify"]
