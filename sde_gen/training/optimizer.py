"""Optimizers: hyper-parameters that build a PyTorch optimizer."""

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sde_gen.utils.arguments import Checked


@dataclass(frozen=True, kw_only=True)
class Optimizer(Checked, abc.ABC):
    """Hyper-parameters of an Adam-type optimizer.

    Arguments:
        lr: learning rate.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        eps: constant added to the root of the second moment.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not (
            0 < self.lr < math.inf and 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and 0 < self.eps < math.inf
        ):
            raise ValueError(
                f"lr={self.lr}, beta1={self.beta1}, beta2={self.beta2}, eps={self.eps}: "
                "expected lr > 0, betas in [0, 1) and eps > 0, all finite"
            )

    @abc.abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer for the given parameters."""


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980), fused."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the fused optimizer."""
        return torch.optim.Adam(
            parameters, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv:1711.05101), fused.

    Arguments:
        weight_decay: fraction of the weights, times the learning rate, subtracted at every step.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay} must be finite and not negative")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the fused optimizer."""
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


def step(optimizer: torch.optim.Optimizer, *, lr: float, skip: Tensor) -> None:
    """Take a step of the optimizer, or skip it, without synchronizing with the device.

    Arguments:
        optimizer: a fused optimizer, which decides on the device whether to skip.
        lr: learning rate of this step.
        skip: shape (), float32 on the device of the parameters; 1 skips the step.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    # the attributes by which PyTorch's gradient scaler makes an optimizer skip a step
    vars(optimizer).update(grad_scale=None, found_inf=skip)
    optimizer.step()
