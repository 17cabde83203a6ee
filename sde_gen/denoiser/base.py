"""The one interface between what knows about data and what makes use of it."""

import abc

from torch import Tensor, nn

from sde_gen.prediction import Prediction
from sde_gen.sde.base import SDE


class Denoiser(nn.Module, abc.ABC):
    """A function (x_t, t) -> :class:`~sde_gen.prediction.Prediction`, with the process it belongs to.

    Attributes:
        sde: the process.
    """

    sde: SDE

    @abc.abstractmethod
    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict the clean sample and the noise.

        Arguments:
            x_t: noised samples with shape (B, *event), float32 or float64.
            t: times with shape () or (B,), float64.
            **cond: conditioning with one row per sample, such as ``label`` with shape (B,).
        """

    def __call__(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Call :meth:`forward` through the module's hooks."""
        prediction: Prediction = super().__call__(x_t, t, **cond)
        return prediction

    def expect(self, times: Tensor) -> None:
        """Learn of the times that will be asked for, so that what depends on time alone can be made at once.

        A denoiser around others tells them. What was expected before is forgotten; the answers are the same.

        Arguments:
            times: float64 on the CPU with shape (n,); none, to forget.
        """
        for part in self.children():
            getattr(part, "expect", _ignore)(times)

    def bind(self, **cond: Tensor) -> "Denoiser":
        """Fix the conditioning, so that solvers need not know of it."""
        return Bound(self, cond)


def _ignore(times: Tensor) -> None:
    """What a part does that is no denoiser."""
    del times


class Bound(Denoiser):
    """A denoiser with its conditioning fixed."""

    def __init__(self, denoiser: Denoiser, cond: dict[str, Tensor]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.sde = denoiser.sde
        self.cond = cond

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        """Predict with the fixed conditioning and what is given on top of it."""
        return self.denoiser(x_t, t, **{**self.cond, **cond})
