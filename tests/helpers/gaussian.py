"""Re-export of sde_gen.evaluation.verification.exact_gaussian for tests."""

from sde_gen.evaluation.verification.exact_gaussian import *  # noqa: F403
