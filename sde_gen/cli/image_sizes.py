"""Check that a network takes images of all sizes of the data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sde_gen.data import Splits
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning


@torch.no_grad()
def check_sizes(trained: Any, splits: Splits, codec: Codec, given: Conditioning) -> None:
    """Predict for an image of every size; nothing is done for data of one size.

    Arguments:
        trained: the denoiser.
        splits: the data.
        codec: map from data to model space.
        given: the conditioning.

    Raises:
        ValueError: the prediction fails or has another size.
    """
    if splits.train.buckets is None:
        return
    net = trained.net
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    sizes = set()
    for data in (splits.train, splits.test):
        assert data.buckets is not None
        for bucket in sorted(set(data.buckets.tolist())):
            index = (data.buckets == bucket).nonzero()[0]
            values = data.values[index]
            if tuple(values.shape) in sizes:
                continue
            sizes.add(tuple(values.shape))
            cond = {key: rows.to(device) for key, rows in given.given(data.given(index)).items()}
            try:
                codec.event(tuple(values.shape[1:]))
                reason = refusal(trained, codec.encode(values).to(device), cond)
            except ValueError as error:
                reason = str(error)
            if reason:
                height, width = values.shape[-2:]
                raise ValueError(
                    f"{type(net).__name__} takes no images of {height}x{width}, one of the sizes of the data "
                    f"({reason}): choose a U-Net and a data.multiple that its levels divide, or data=image_folder"
                )
    net.train(training)


@torch.no_grad()
def refusal(denoiser: Any, x: Tensor, cond: Mapping[str, Tensor]) -> str:
    """Return why a denoiser cannot predict for a sample (1, C, H, W) of model space; empty if it can."""
    t = torch.full((1,), 0.5, dtype=torch.float64, device=x.device)
    try:
        found = denoiser(x, t, **cond).x0
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    return "" if found.shape == x.shape else f"its output has shape {tuple(found.shape[1:])}"
