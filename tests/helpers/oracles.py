"""The exact answers of sde_gen.evaluation.certificate, under the name by which tests know them."""

from sde_gen.evaluation.certificate.oracles import *  # noqa: F403
