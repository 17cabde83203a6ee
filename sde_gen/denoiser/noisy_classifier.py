"""A classifier network of noisy samples."""

import torch
from torch import Tensor, nn

from sde_gen.denoiser.parametrization.base import Parametrization
from sde_gen.sde.base import SDE
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import times


class NoisyClassifier(nn.Module, Checked):
    """Classifier network of noisy samples, with its process and input scaling.

    Arguments:
        net: a module ``net(x, c_noise)`` from (B, *event) and (B,) to logits (B, classes).
        sde: the process.
        parametrization: input scaling and noise label of the network; its output is unused.
    """

    def __init__(self, *, net: nn.Module, sde: SDE, parametrization: Parametrization) -> None:
        super().__init__()
        self.net = net
        self.sde = sde
        self.parametrization = parametrization

    def log_probs(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Log-probabilities of all classes in nats with shape (B, classes), in the dtype of x_t."""
        t = times(t)
        x_in, c_noise = self.parametrization.inputs(x_t, self.sde.marginal(t), t.double())
        dtype = next(self.net.parameters()).dtype
        logits = self.net(x_in.to(dtype), c_noise.to(x_t.device, dtype).expand(len(x_t)))
        return torch.log_softmax(logits.to(x_t.dtype), 1)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the blocks of the network for data at the first time, each (B, C, H, W).

        Raises:
            ValueError: the network has no blocks.
        """
        path = getattr(self.net, "path", None)
        if not isinstance(path, nn.ModuleList):
            raise ValueError(
                f"{type(self.net).__name__} has no blocks to compare features of; use model=encoder"
            )
        found: list[Tensor] = []
        handles = [block.register_forward_hook(lambda _, __, out: found.append(out)) for block in path]
        try:
            self.log_probs(x, self.sde.t_min)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def log_prob(self, x_t: Tensor, t: Tensor | float, label: Tensor) -> Tensor:
        """Log-probability of one class each, in nats with shape (B,)."""
        return self.log_probs(x_t, t).gather(1, label.unsqueeze(1)).squeeze(1)
