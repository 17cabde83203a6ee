"""Variational bounds as metrics, and their data terms."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser, TruncatedProcess
from sde_gen.evaluation.metric.base import Metric, MetricResult, code_length
from sde_gen.likelihood import Decoder, DiscretizedGaussian, GaussianDecoder, LastStep
from sde_gen.likelihood.dequantization import Dequantization, UniformDequantization
from sde_gen.noise import Noise, PerSample
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import event_numel


class ReconstructionInputs(NamedTuple):
    """Inputs of a variational bound.

    Arguments:
        denoiser: the model, its process ended where the decoder takes over.
        x0: clean points in model space with shape (B, *event).
        log_q: log q(x0 | data) in nats with shape (B,).
        decoder: distribution of x0 given x_t at t_min.
    """

    denoiser: Denoiser
    x0: Tensor
    log_q: Tensor
    decoder: Decoder


class DataTerm(Checked, abc.ABC):
    """A preparation of data for a bound: clean points and a decoder."""

    uses_dequantization: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise
    ) -> ReconstructionInputs:
        """Prepare a batch.

        Arguments:
            denoiser: the model, conditioning bound.
            values: data with shape (B, *event), integer levels or continuous.
            codec: from data to model space.
            noise: source of draws.
        """


@dataclass(frozen=True, kw_only=True)
class DequantizedData(DataTerm):
    """Dequantized or continuous data, whose density is bounded down to the process's t_min.

    Arguments:
        dequantization: gives clean points.
    """

    dequantization: Dequantization = field(default_factory=UniformDequantization)
    uses_dequantization: ClassVar[bool] = True

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise
    ) -> ReconstructionInputs:
        """Dequantize the values, and return them with a Gaussian decoder."""
        return ReconstructionInputs(
            denoiser, *self.dequantization.clean(values, codec, noise), GaussianDecoder()
        )


@dataclass(frozen=True, kw_only=True)
class DiscreteData(DataTerm):
    r"""Integer levels themselves, without dequantization: every level is the middle of its bin.

    The process ends where its noise sigma / alpha is ``width`` of a bin, if that is before t_min, and the decoder
    gives every bin its mass. What the process would spend further down, on places within a bin, is no information
    about the levels. Any width gives a bound; the best one depends on the model.

    Source: Ho et al., 2020, arXiv:2006.11239, section 3.3 (whose noise ends at 1.3 bins).

    Arguments:
        width: sigma / alpha at the end, in bins.

    Raises:
        ValueError: width is not positive; or later the data are continuous, or the width is beyond the process.
    """

    width: float = 0.5

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width={self.width} must be positive")

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise
    ) -> ReconstructionInputs:
        """Take the middles of the bins, which needs no noise."""
        del noise
        first, second = codec.middles()[:2]
        sde = denoiser.sde
        end = sde.t_from_log_snr(-2 * torch.log(self.width * (second - first))).clamp(min=sde.t_min)
        x0 = codec.encode(values)
        return ReconstructionInputs(
            TruncatedProcess(denoiser, float(end)), x0, -codec.log_det(x0), DiscretizedGaussian(codec=codec)
        )


@dataclass(frozen=True, kw_only=True)
class LastStepLevels(DataTerm):
    """Integer levels themselves, each the middle of its bin, met by one more step of the chain to clean data.

    The chain goes down to the last time of its grid, and the decoder has the variance that its steps have
    (:class:`~sde_gen.likelihood.LastStep`): the bound of DDPM and of guided-diffusion.

    Sources: Ho et al., 2020, arXiv:2006.11239, section 3.3; Nichol and Dhariwal, 2021, arXiv:2102.09672.
    """

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise
    ) -> ReconstructionInputs:
        """Take the middles of the bins, which needs no noise."""
        del noise
        x0 = codec.encode(values)
        return ReconstructionInputs(denoiser, x0, -codec.log_det(x0), LastStep(codec=codec))


@dataclass(frozen=True, kw_only=True)
class BoundMetric(Metric):
    """An upper bound on the code length of the data, of a model and a data term.

    Arguments:
        data_term: data term at t_min.
    """

    data_term: DataTerm
    unit: ClassVar[str] = "bits/dim"

    @property
    def uses_dequantization(self) -> bool:
        """Return whether the data term uses dequantization."""
        return self.data_term.uses_dequantization

    @abc.abstractmethod
    def evaluate(self, inputs: ReconstructionInputs, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the lower bound on log p(x0) in nats and its standard error, both with shape (B,)."""

    def __call__(
        self, denoiser: Denoiser, values: Tensor, codec: Codec, seeds: Sequence[int]
    ) -> MetricResult:
        """Return the bound in bits per dimension."""
        noise = PerSample(seeds)
        with torch.no_grad():
            inputs = self.data_term(denoiser, values, codec, noise)
            nats, se = self.evaluate(inputs, noise)
        return MetricResult(
            value=code_length(nats, inputs.log_q, inputs.x0, codec),
            random_errors={"draws": se / (event_numel(inputs.x0) * math.log(2))},
        )
