"""Guidance by a classifier of noisy samples."""

import math
from dataclasses import replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance.requirements import Requirements
from sde_gen.utils.broadcasting import broadcast_like


class TimeDependentClassifier(Protocol):
    """A classifier of noisy samples."""

    def log_prob(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Log-probability log p_t(label | x_t) in nats with shape (B,), differentiable in x_t."""
        ...


class ClassifierGuidance(Denoiser):
    r"""Add the gradient of a classifier to the score.

    .. math::
        \nabla \log p_t(x | y) = \nabla \log p_t(x) + \mathrm{scale}\, \nabla \log p_t(y | x)

    Exact for scale = 1 and an exact classifier (Bayes). Around a conditional model the guided score is that of
    p(x | y) p(y | x)^scale at every t, which are not the marginals of one noisy density. In terms of the prediction,
    :math:`\hat\epsilon` changes by -sigma and :math:`\hat{x}_0` by sigma^2 / alpha times the gradient.

    Sources: Song et al., 2021, arXiv:2011.13456, eq. 14; the scale: Dhariwal and Nichol, 2021, arXiv:2105.05233,
    section 4, and table 4 for conditional models.

    Arguments:
        denoiser: the model.
        classifier: classifier of noisy samples.
        scale: 0 is unguided, 1 Bayes.
        pass_label: whether to pass the label to the model, too.

    Raises:
        ValueError: scale is not finite; or, when called, no label is given, or alpha is zero, where x_t
            contains no signal.
    """

    requires: ClassVar[Requirements] = Requirements(
        labels=True, unconditional_model=True, label_argument="pass_label", classifier=True
    )

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        classifier: TimeDependentClassifier,
        scale: float = 1.0,
        pass_label: bool = False,
    ) -> None:
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError(f"scale={scale} must be finite; 0 is unguided, 1 Bayes' theorem")
        self.denoiser = denoiser
        self.classifier = classifier
        self.sde = denoiser.sde
        self.scale = scale
        self.pass_label = pass_label

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the classifier's gradient added."""
        label = cond.pop("label", None)
        if label is None:
            raise ValueError("classifier guidance needs a label; bind one to the denoiser")
        prediction = self.denoiser(x_t, t, **cond, **({"label": label} if self.pass_label else {}))
        if self.scale == 0:
            return prediction
        alpha, sigma = self.sde.marginal(t)
        if bool((alpha == 0).any()):
            raise ValueError(
                f"alpha({float(t.max()):g}) of {type(self.sde).__name__} is zero, where a classifier cannot guide: "
                "give the grid a t_max below 1, such as 0.999"
            )
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.classifier.log_prob(x, t, label).sum(), x)
        correction = self.scale * gradient
        return replace(
            prediction,
            x0=prediction.x0 + broadcast_like(sigma**2 / alpha, x_t) * correction,
            eps=prediction.eps - broadcast_like(sigma, x_t) * correction,
        )

    def select(self, index: Tensor, count: int) -> Denoiser:
        """Return the guided denoiser of the samples ``index`` (b,)."""
        return self.replace_modules(denoiser=self.denoiser.select(index, count))
