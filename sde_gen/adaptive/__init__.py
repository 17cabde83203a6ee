"""Steps of every sample's own: what a method owes that estimates its error, and the walk that chooses its steps."""

from sde_gen.adaptive.embedded import Attempt, EmbeddedMethod, Span
from sde_gen.adaptive.own_steps import OwnSteps

__all__ = ["Attempt", "EmbeddedMethod", "OwnSteps", "Span"]
