"""The exact answers of sde_gen.certificate, under the name by which tests know them."""

from sde_gen.certificate.oracles import *  # noqa: F403
