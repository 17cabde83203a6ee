"""Re-export of sde_gen.evaluation.verification.oracles for tests."""

from sde_gen.evaluation.verification.oracles import *  # noqa: F403
