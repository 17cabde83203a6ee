"""Flow maps: the probability flow from one time to another in one evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.base import Denoiser
from sde_gen.denoiser.network import NetworkDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast_like, times, to_device


@dataclass(frozen=True)
class FlowMap(Checked):
    r"""The map (x_t, t, s) -> x_s along the probability flow.

    .. math::
        X_{t,s}(x_t) = \alpha_s \hat{x}_0 + \sigma_s \hat\epsilon, \qquad
        x_t = \alpha_t \hat{x}_0 + \sigma_t \hat\epsilon,

    where :math:`(\hat{x}_0, \hat\epsilon)` is the chord of the model, which is given both times. At s = t the map is
    the identity whatever the model predicts, and the derivative in s is then the probability flow of the model as a
    denoiser. With :math:`\tau = \sigma / (\alpha + \sigma)` and :math:`u = \hat\epsilon - \hat{x}_0`, on any process

    .. math::
        \frac{X_{t,s}}{\alpha_s + \sigma_s} = \frac{x_t}{\alpha_t + \sigma_t} - (\tau_t - \tau_s)\, u .

    Sources: Boffi et al., 2025, arXiv:2505.18825, section 2 (flow maps); for VE the form of Kim et al., 2023,
    arXiv:2310.02279, eq. 5; on the rectified flow u is the average velocity of Geng et al., 2025, arXiv:2505.13447,
    eq. 3.

    Arguments:
        denoiser: the model, conditioning bound.
    """

    denoiser: Denoiser

    def __call__(self, x_t: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """Map samples (B, *event) from times t to times s, each of shape () or (B,).

        Raises:
            ValueError: the model is no flow map.
        """
        return point(self.denoiser.sde, self.denoiser.chord(x_t, t, s), times(s))


class NetworkFlowMap(NetworkDenoiser):
    """A network that is given two times: a flow map, and at equal times a denoiser.

    The network takes the noise label of the second time by the keyword ``until``; solvers, guidance and likelihoods
    that need a denoiser give none.
    """

    def forward(self, x_t: Tensor, t: Tensor, until: Tensor | None = None, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise, or the chord to the time ``until``."""
        if until is None:
            return super().forward(x_t, t, **cond)
        dtype, s = self._dtype(x_t), until.double()
        cond = {name: value.to(dtype) if value.is_floating_point() else value for name, value in cond.items()}
        marginal, label_dtype = self.sde.marginal(t), self._label_dtype(dtype)
        x_in, c_t = self.parametrization.inputs(x_t, marginal, t.double())
        _, c_s = self.parametrization.inputs(torch.ones_like(s), self.sde.marginal(s), s)
        c_t, c_s = (to_device(c, x_t.device, label_dtype).expand(len(x_t)) for c in (c_t, c_s))
        with self.context():
            out = self.net(x_in.to(dtype), c_t, until=c_s, **cond)
        return self.parametrization.predict(out.to(x_t.dtype), x_t, marginal)

    def chord(self, x_t: Tensor, t: Tensor | float, s: Tensor | float, **cond: Tensor) -> Prediction:
        """Return the chord from t to s."""
        prediction: Prediction = self(x_t, t, until=times(s), **cond)
        return prediction


class ConsistencyModel(NetworkDenoiser):
    """A network that maps every time to the last, t_min: a flow map with s = t_min alone, and no denoiser.

    Its output is the end of a trajectory and not the mean of the data, so that it has no score and no velocity.

    Source: Song et al., 2023, arXiv:2303.01469, section 3.
    """

    def forward(self, x_t: Tensor, t: Tensor, until: Tensor | None = None, **cond: Tensor) -> Prediction:
        """Predict the chord to t_min.

        Raises:
            ValueError: it was called as a denoiser, or for another end.
        """
        if until is None:
            raise ValueError(
                "a consistency model predicts the end of a trajectory and is no denoiser: sample with solver=jump "
                "solver.renoise=1"
            )
        if not bool(
            torch.isclose(until.double(), until.new_tensor(self.sde.t_min).double(), rtol=1e-6).all()
        ):
            raise ValueError(
                f"a consistency model maps to t_min={self.sde.t_min} alone, not to {until.flatten().tolist()[:3]}: "
                "use solver=jump with solver.renoise=1, or train a flow map with objective=mean_flow"
            )
        return super().forward(x_t, t, **cond)

    def chord(self, x_t: Tensor, t: Tensor | float, s: Tensor | float, **cond: Tensor) -> Prediction:
        """Return the chord from t to s = t_min."""
        prediction: Prediction = self(x_t, t, until=times(s), **cond)
        return prediction


def point(sde: SDE, chord: Prediction, s: Tensor) -> Tensor:
    """Return ``alpha_s x0 + sigma_s eps`` with shape (B, *event), for times s of shape () or (B,)."""
    alpha, sigma = sde.marginal(s, like=chord.x_t)
    return alpha * chord.x0 + sigma * chord.eps


def direction(chord: Prediction) -> Tensor:
    """Return ``u = eps - x0``, the slope of a chord in tau, with shape (B, *event)."""
    return chord.eps - chord.x0


def path_time(sde: SDE, t: Tensor) -> Tensor:
    """Return ``tau = sigma / (alpha + sigma)`` in [0, 1] with the shape of t: the time of the linear path."""
    alpha, sigma = sde.marginal(t)
    return sigma / (alpha + sigma)


def path_rate(sde: SDE, t: Tensor) -> Tensor:
    """Return the derivative of tau, ``(alpha sigma' - sigma alpha') / (alpha + sigma)^2``, with the shape of t."""
    t = t.double()
    alpha, sigma = sde.marginal(t)
    return (alpha * sde.sigma_dot(t) - sigma * sde.alpha_dot(t)) / (alpha + sigma) ** 2


def path_velocity(sde: SDE, x_t: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """Return dx/dtau with shape (B, *event) where the pair (x0, eps) at x_t has ``eps - x0 = u``."""
    t = t.double()
    alpha, sigma = sde.marginal(t, like=x_t)
    x0 = (x_t - sigma * u) / (alpha + sigma)
    rate = path_rate(sde, t)
    return broadcast_like(sde.alpha_dot(t) / rate, x_t) * x0 + broadcast_like(
        sde.sigma_dot(t) / rate, x_t
    ) * (x0 + u)
