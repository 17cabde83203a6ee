"""Samples of another height and width than the data of a run."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from sde_gen.cli.image_sizes import refusal
from sde_gen.cli.run import Run
from sde_gen.data.image import sides


def of_size(run: Run, size: Sequence[int]) -> Run:
    """Return a run whose samples have another height and width than its data.

    Arguments:
        run: the run.
        size: height and width, or the side of a square alone.

    Raises:
        ValueError: the run draws no images or is given images, or its network does not take the size.
    """
    given = f"size={[*size]}"
    if len(run.data_spec.shape) != 3:
        raise ValueError(f"{given}: {run.folder} draws no images but samples of shape {run.data_spec.shape}")
    if {"image", "control"}.intersection(run.conditioning.names):
        raise ValueError(f"{given}: {run.folder} is given images of one size as condition; leave it out")
    shape = run.data_spec.shape[0], *sides(size[0] if len(size) == 1 else size)
    other = replace(run, data_spec=replace(run.data_spec, shape=shape))
    null = {key: rows.to(run.device) for key, rows in run.conditioning.null(1).items()}
    reason = refusal(run.denoiser, torch.zeros(1, *other.event, device=run.device), null)
    if reason:
        raise ValueError(
            f"{given}: {type(run.denoiser.net).__name__} takes no images of this size ({reason})"
        )
    return other
