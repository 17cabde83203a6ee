"""A network of the distribution of codes, one after the other."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sde_gen.model import KeyValueCache, TokenTransformer
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked


class AutoregressiveModel(nn.Module, Checked):
    """A network of the distribution of codes given those before them, with its conditioning.

    Arguments:
        net: the network, a :class:`~sde_gen.model.TokenTransformer`.
        sde: process of the log; codes have no noise, and their errors count at the process's last time.
        context: factory of the context in which the network is called, such as autocast.
    """

    def __init__(
        self,
        *,
        net: TokenTransformer,
        sde: SDE,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.context = context
        self.cond: dict[str, Tensor] = {}

    def forward(self, x: Tensor, t: Tensor | None = None, **cond: Tensor) -> Tensor:
        """Return the logarithms of the probabilities of all codes in nats, with shape (B, N, K).

        Arguments:
            x: codes with shape (B, 1, h, w).
            t: no time matters, but a denoiser has one.
            **cond: conditioning with one row per sample.
        """
        del t
        return self.log_probs(x.flatten(1).long(), None, **cond)

    def log_probs(self, codes: Tensor, cache: KeyValueCache | None, **cond: Tensor) -> Tensor:
        """Return log-probabilities of codes given the first codes (B, m), as the network returns logits."""
        with self.context():
            given: dict[str, Any] = {**self.cond, **cond}
            logits = self.net(codes, cache=cache, **given)
        return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)

    def log_prob(self, x: Tensor, **cond: Tensor) -> Tensor:
        """Return log p(codes | conditions) in nats, float64 with shape (B,), for codes (B, 1, h, w)."""
        picked: Tensor = self(x, **cond).gather(2, x.flatten(1).long().unsqueeze(2))
        return picked.double().sum((1, 2))

    def bind(self, **cond: Tensor) -> "AutoregressiveModel":
        """Return the model with its conditioning fixed."""
        other = copy.copy(self)
        other.cond = {**self.cond, **cond}
        return other
