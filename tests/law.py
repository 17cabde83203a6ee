"""The exact laws of sde_gen.certificate, under the name by which tests know them."""

from sde_gen.certificate.law import *  # noqa: F403
