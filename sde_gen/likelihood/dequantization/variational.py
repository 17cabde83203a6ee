"""Variational dequantization by a small flow, trained on a frozen model."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sde_gen.data.codec import Codec
from sde_gen.denoiser import Denoiser
from sde_gen.likelihood.dequantization.base import Dequantization, Dequantized
from sde_gen.noise import IID, Noise
from sde_gen.sde.base import Prior
from sde_gen.utils import atomic
from sde_gen.utils.broadcasting import sum_event
from sde_gen.utils.types import Shape


class Variational(nn.Module, Dequantization):
    r"""Conditional flow q(u | k) of the position u in the bin.

    .. math::
        z \sim N(0, I), \qquad z' = F_k(z), \qquad u = \Phi(z'), \qquad
        \log q(u | k) = \log N(z) - \log \left| \frac{dz'}{dz} \right| - \log N(z')

    F is a chain of affine couplings, each of which scales and shifts every other number by functions of the rest
    and of k; it begins as the identity, which is uniform dequantization.

    Sources: Ho et al., 2019, arXiv:1902.00275, section 3.1; affine couplings: Dinh et al., 2017, arXiv:1605.08803.

    Arguments:
        shape: event shape of the data.
        width: units of the hidden layer of a coupling.
        depth: number of couplings.
    """

    def __init__(self, *, shape: Shape, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        if width < 1 or depth < 2:
            raise ValueError(f"width={width}, depth={depth}: expected at least 1 unit and 2 couplings")
        self.shape, self.width, self.depth = tuple(shape), width, depth
        self.couplings = nn.ModuleList(_Coupling(math.prod(shape), width, i % 2) for i in range(depth))

    def __call__(self, denoiser: Denoiser, values: Tensor, codec: Codec, noise: Noise) -> Dequantized:
        """Draw from the flow; the density is that at the process's t_min."""
        return Dequantized(*self.clean(values, codec, noise), denoiser.sde.t_min)

    def clean(self, values: Tensor, codec: Codec, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw from the flow; gradients flow to its parameters."""
        codec.middles()  # raises an error for continuous data
        middle = codec.encode(values)
        if tuple(middle.shape[1:]) != self.shape:
            raise ValueError(f"the flow is for data of shape {self.shape}, got {tuple(middle.shape[1:])}")
        start = noise.normal(middle)
        z, log_scale = start.flatten(1), torch.zeros(len(start), dtype=torch.float64, device=start.device)
        for coupling in self.couplings:
            z, log_det = coupling(z, middle.flatten(1))
            log_scale = log_scale + log_det
        z = z.reshape(middle.shape)
        x = codec.encode(values, _Given(z))  # codecs make places in a bin from Gaussian numbers
        normal = Prior(1.0)
        log_q = normal.log_prob(start) - log_scale - normal.log_prob(z)
        return x, log_q - codec.log_det(x)

    def save(self, path: Path | str) -> None:
        """Save the weights and the constructor arguments."""
        about = {"shape": self.shape, "width": self.width, "depth": self.depth}
        atomic.write(Path(path), safetensors.torch.save(self.state_dict(), {"about": json.dumps(about)}))


class _Coupling(nn.Module):
    """Scale and shift the numbers of one parity by functions of the others and of the condition, both (B, D)."""

    def __init__(self, dim: int, width: int, parity: int) -> None:
        super().__init__()
        self.moved: Tensor
        self.register_buffer("moved", (torch.arange(dim) % 2 == parity).to(torch.float32), persistent=False)
        last = nn.Linear(width, 2 * dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(2 * dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
        )

    def forward(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved z (B, D) and the logarithm of the scale's product, float64 with shape (B,)."""
        inputs = torch.cat([z * (1 - self.moved), condition], 1)
        log_scale, shift = (self.moved * part for part in self.net(inputs).chunk(2, 1))
        log_scale = 3 * torch.tanh(
            log_scale / 3
        )  # a factor of at most 20, so that no step of training explodes
        return z * torch.exp(log_scale) + shift, sum_event(log_scale.double())


class _Given(IID):
    """Noise source that returns given numbers."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    def normal(self, x: Tensor) -> Tensor:
        return self.z.to(x.dtype)


def load(path: Path | str) -> Variational:
    """Load a flow saved by :meth:`Variational.save`.

    Raises:
        ValueError: the file is missing or contains no such flow.
    """
    if not Path(path).is_file():
        raise ValueError(f"file not found: {path}; train a flow by fit and write it by Variational.save")
    with safetensors.safe_open(str(path), "pt") as file:
        about = (file.metadata() or {}).get("about")
    if about is None:
        raise ValueError(f"{path} contains no dequantization; write one by Variational.save")
    flow = Variational(**{**json.loads(about), "shape": tuple(json.loads(about)["shape"])})
    flow.load_state_dict(safetensors.torch.load_file(str(path)))
    return flow.eval().requires_grad_(False)


def fit(
    flow: Variational,
    log_prob: Callable[[Tensor, Tensor], Tensor],
    values: Tensor,
    codec: Codec,
    *,
    noise: IID,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 2e-3,
) -> list[float]:
    r"""Train the flow to raise E[log p(x) - log q(x | k)], with the model behind ``log_prob`` frozen.

    Adam with a learning rate that falls to zero along a cosine; log_prob may be noisy, if it is unbiased. A bound
    on the density will do, and is cheap: ``lambda x, rows: bound(denoiser, x, decoder=Gaussian(), noise=noise).nats``.

    Arguments:
        flow: trained in place.
        log_prob: (points x (B, *event), rows of the data (B,)) -> log p in nats with shape (B,), differentiable.
        values: training data, integer levels with shape (N, *event).
        codec: from data to model space.
        noise: source of all draws.
        steps: updates.
        batch_size: samples per update.
        lr: first learning rate.

    Returns:
        The loss of every step, in nats: the batch's mean of -(log p - log q).
    """
    optimizer = torch.optim.Adam(flow.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        rows = (noise.uniform(torch.empty(batch_size)) * len(values)).long()
        x, log_q = flow.clean(values[rows], codec, noise)
        loss = (log_q - log_prob(x, rows)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses
