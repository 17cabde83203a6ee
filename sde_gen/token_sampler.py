"""Sampling of codes, one after the other."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.denoiser.autoregressive import AutoregressiveModel
from sde_gen.model import KeyValueCache
from sde_gen.noise import Noise
from sde_gen.solver.callbacks import Hook, StepInfo
from sde_gen.utils.arguments import Checked
from sde_gen.utils.types import Shape


@dataclass(frozen=True, kw_only=True)
class TokenSampler(Checked):
    r"""Draw codes row by row, every one given those before it.

    .. math:: k_i \sim p(k_i | k_{<i})^{1 / \tau} / Z, \qquad k_i \text{ among the } K' \text{ likeliest}

    One uniform number of every sample chooses a code by the cumulative probabilities. With tau = 0 it is the likeliest.

    Source: Fan et al., 2018, arXiv:1805.04833, section 5.1 (top-k).

    Arguments:
        temperature: tau; 1 samples the model, below 1 its likelier codes.
        top_k: number K' of the likeliest codes that are drawn from; None for all.
        cached: whether keys and values of earlier codes are stored, and not computed anew for every code.

    Raises:
        ValueError: the temperature is negative, or top_k is below 1.
    """

    temperature: float = 1.0
    top_k: int | None = None
    cached: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: expected a finite number from 0 on")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: expected at least 1, or null for all codes")

    @torch.no_grad()
    def __call__(
        self,
        model: AutoregressiveModel,
        shape: Shape,
        *,
        noise: Noise,
        hooks: Iterable[Hook] = (),
        known: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw samples.

        Arguments:
            model: the model, conditioning bound.
            shape: shape (B, 1, h, w) of the batch.
            noise: source of all randomness.
            hooks: called after every code, with the share of codes that are left as time; codes not yet drawn are 0.
            known: the first codes of every sample, int64 with shape (B, m), which are kept; None for none.
            device: of the samples.

        Returns:
            Codes int64 with shape (B, 1, h, w).

        Raises:
            ValueError: the shape holds no sample, or all codes are known.
            FloatingPointError: a probability is not finite.
        """
        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"shape={tuple(shape)}: expected (number of samples, 1, h, w), each at least 1")
        total = math.prod(shape[1:])
        codes = torch.zeros(shape[0], total, dtype=torch.int64, device=device)
        first = 0 if known is None else known.shape[1]
        if first >= total:
            raise ValueError(f"{first} of {total} codes are known: leave some to be drawn")
        if known is not None:
            codes[:, :first] = known
        cache, hooks = KeyValueCache() if self.cached else None, list(hooks)
        for i in range(first, total):
            logs = model.log_probs(codes[:, :i], cache)[:, -1]
            before = codes.clone() if hooks else codes
            codes[:, i] = self.choose(logs, noise)
            info = StepInfo(
                i - first,
                total - first,
                1 - i / total,
                1 - (i + 1) / total,
                before.view(shape),
                codes.view(shape),
            )
            for hook in hooks:
                hook(info)
        return codes.view(shape)

    def choose(self, logs: Tensor, noise: Noise) -> Tensor:
        """Draw codes int64 with shape (B,), for log-probabilities with shape (B, K).

        Raises:
            FloatingPointError: one is not finite.
        """
        if not bool(torch.isfinite(logs).all()):
            rows = (~torch.isfinite(logs)).any(1).nonzero().flatten().tolist()
            raise FloatingPointError(
                f"the probabilities of codes of samples {rows[:8]} are not finite; with precision=bfloat16 try "
                "precision=float32, else train with a smaller learning rate"
            )
        u = noise.uniform(logs)
        if self.temperature == 0:
            return logs.argmax(1)
        logs = logs.double() - logs.double().amax(1, keepdim=True)  # of a temperature near zero
        if self.top_k is not None and self.top_k < logs.shape[1]:
            kept = logs.topk(self.top_k, dim=1)
            logs = torch.full_like(logs, -math.inf).scatter(1, kept.indices, kept.values)
        sums = torch.softmax(logs / self.temperature, dim=1).cumsum(1)
        return (sums <= (u * sums[:, -1]).unsqueeze(1)).sum(1).clamp(max=logs.shape[1] - 1)
