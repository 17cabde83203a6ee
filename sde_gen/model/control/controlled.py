"""ControlNet: a frozen U-Net, and a trainable copy of its encoder that sees an image."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sde_gen.model.control.branch import ControlBranch, copied_encoder
from sde_gen.model.unet.conditioned_encoder import ConditionedEncoder


class Controlled(nn.Module):
    r"""A frozen U-Net with images that control it, the hints.

    Every hint has a branch, whose features :math:`c_k` are added to those of the encoder of the frozen network:

    .. math:: h_k \leftarrow h_k + s\, r^{1 - k / K}\, c_k

    with the scale s of the hint and k = 0, ..., K from the finest skip connection to the middle. An untrained branch is
    zero. The ramp r is 1, and 0.1 in the mode that guesses what a hint shows without a text.

    The weights of the frozen network are no part of the model: its run folder and their SHA-256 name them.

    Source: Zhang et al., 2023, arXiv:2302.05543, section 3; several hints: section 3.4; the ramp: their code.

    Arguments:
        base: the network to be controlled, opened from the run.
        run: its run folder.
        sha256: of its weights; None until a training begins.
        hint: channels of the hint.
        widths: channels of the layers that embed the hint.
        stride: 2 if their resolution is halved after every width but the last, for hints larger than the event.
        pooled: whether the features of the branch are averaged over all pixels.
        encoder: encoder of the branch; None for a copy of that of the network.

    Raises:
        ValueError: the network has no encoder and decoder to be called one after the other, or the encoder of the
            branch has other channels.
    """

    def __init__(
        self,
        *,
        base: nn.Module,
        run: str,
        sha256: str | None = None,
        hint: int,
        widths: Sequence[int] = (16, 32),
        stride: int = 1,
        pooled: bool = False,
        encoder: ConditionedEncoder | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(base, "encode") or not hasattr(base, "decode"):
            raise ValueError(
                f"{type(base).__name__} of {run} cannot be controlled; expected a network of model=unet_cross, or one "
                "imported from a UNet2DConditionModel"
            )
        del sha256
        self.run = run
        self._base = _Shared(base)
        channels = list(self.base.channels)
        own: Any = copied_encoder(base) if encoder is None else encoder
        if list(own.channels) != channels:
            raise ValueError(
                f"the encoder of the control has {list(own.channels)} channels; the network in {run} has "
                f"{channels}: it was made for another network"
            )
        self.branches = nn.ModuleList(
            [ControlBranch(encoder=own, channels=hint, widths=widths, stride=stride, pooled=pooled)]
        )

    @property
    def base(self) -> Any:
        """Return the frozen network."""
        return self._base.net

    @property
    def hints(self) -> list[int]:
        """Return the channels of every hint."""
        return [int(branch.hint_channels) for branch in self.branches]  # type: ignore[arg-type]

    def extend(self, other: "Controlled") -> None:
        """Append the branches of another control of the same network."""
        self.branches.extend(other.branches)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        control: Tensor | None = None,
        control_ramp: Tensor | None = None,
        **conditions: Tensor | None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: events with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,), for a network that has them.
            control: all hints, one after the other, and the scale of each in one channel more at their end, the same
                at all pixels, with shape (B, channels + hints, H', W'); None for no hints.
            control_ramp: r with shape (B,); None for 1.
            conditions: the other conditions of the network.

        Returns:
            The prediction of the network.

        Raises:
            ValueError: the hints have another number of channels.
        """
        given = {**conditions, **({} if label is None else {"label": label})}
        encoded = self.base.encode(x, c_noise, **given)
        if control is not None:
            hints, scales = self._parts(control)
            for branch, hint, scale in zip(self.branches, hints, scales.to(x.dtype).unbind(1), strict=True):
                residuals = branch(x, c_noise, hint, **given)
                count = len(residuals.skips)
                ramp = None if control_ramp is None or branch.pooled else control_ramp.to(x.dtype)
                factors = [
                    scale if ramp is None else scale * ramp ** (1 - k / count) for k in range(count + 1)
                ]
                encoded = encoded.plus(residuals.scaled([factor.view(-1, 1, 1, 1) for factor in factors]))
        out: Tensor = self.base.decode(encoded)
        return out

    def _parts(self, control: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """Return the hints, and their scales (B, hints)."""
        channels = self.hints
        expected = sum(channels) + len(channels)
        if control.ndim != 4 or control.shape[1] != expected:
            raise ValueError(
                f"the hints have shape {tuple(control.shape)}; expected (B, {expected}, H, W): "
                f"{' and '.join(map(str, channels))} channels, and one for the scale of each"
            )
        hints, scales = torch.split(control, [sum(channels), len(channels)], dim=1)
        return torch.split(hints, channels, dim=1), scales.flatten(2).amax(2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Controlled":
        """Move or cast the frozen network, too."""
        self.base._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class _Shared:
    """A frozen network in evaluation mode, which copies of its holder share, and which is none of its modules."""

    def __init__(self, net: Any) -> None:
        self.net = net.eval().requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self
