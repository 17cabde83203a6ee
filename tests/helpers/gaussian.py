"""The exact laws of sde_gen.evaluation.certificate, under the name by which tests know them."""

from sde_gen.evaluation.certificate.law import *  # noqa: F403
