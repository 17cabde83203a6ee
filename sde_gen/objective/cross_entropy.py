"""Classification of noisy samples."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sde_gen.denoiser.noisy_classifier import NoisyClassifier
from sde_gen.noise import Noise
from sde_gen.objective.base import Loss, NoiseDraw, Objective
from sde_gen.objective.time_sampler.base import TimeSampler
from sde_gen.objective.time_sampler.stratified import Stratified
from sde_gen.sde.base import SDE
from sde_gen.utils.broadcasting import broadcast_like


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Objective):
    r"""The cross-entropy of the class given the noisy sample.

    .. math::
        -E_{t \sim p} \log p_t(y | x_t), \qquad x_t = \alpha x_0 + \sigma \epsilon

    For any density p of the times, the minimum at every t is the exact :math:`p_t(y | x_t)`.

    Sources: Song et al., 2021, arXiv:2011.13456, appendix I.1; Dhariwal and Nichol, 2021, arXiv:2105.05233, section 4.

    Arguments:
        time_sampler: the density p of the times.
    """

    trains: ClassVar[type] = NoisyClassifier
    requires_labels: ClassVar[bool] = True

    time_sampler: TimeSampler = field(default_factory=Stratified)

    def draw(self, sde: SDE, x0: Tensor, noise: Noise) -> NoiseDraw:
        """Draw the times t ~ p and the noise eps ~ N(0, I)."""
        t, density = self.time_sampler(sde, noise.uniform(x0))
        return NoiseDraw(t, density, noise.normal(x0))

    def loss(  # type: ignore[override]  # with a label
        self, classifier: NoisyClassifier, x0: Tensor, draw: NoiseDraw, *, label: Tensor
    ) -> Loss:
        """Evaluate the loss at the given times and noise; its error is the top-1 error."""
        t, alpha, sigma = draw.t, *classifier.sde.marginal(draw.t)
        logs = classifier.log_probs(broadcast_like(alpha, x0) * x0 + broadcast_like(sigma, x0) * draw.eps, t)
        surprise = -logs.gather(1, label.unsqueeze(1)).squeeze(1)
        return Loss(surprise, t, (logs.argmax(1) != label).to(logs.dtype))
