"""Conditioning of the predictions that guidance moves away from."""

from collections.abc import Collection, Mapping

from torch import Tensor


def without(
    cond: Mapping[str, Tensor], drop: Collection[str], null: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the conditioning without some of it, or with nulls in its place.

    Arguments:
        cond: conditioning with one row per sample.
        drop: names of the conditioning to leave out.
        null: by name, a row (1, ...) that takes the place of what is left out.

    Raises:
        ValueError: none of it is there.
    """
    dropped = [name for name in cond if name in drop]
    if not dropped:
        names = ", ".join(drop) or "any"
        raise ValueError(f"guidance needs conditioning to drop, {names}; bind it to the denoiser")
    kept = {name: value for name, value in cond.items() if name not in dropped}
    replaced = {
        name: null[name].to(cond[name].device).expand(len(cond[name]), *null[name].shape[1:])
        for name in dropped
        if name in null
    }
    return {**kept, **replaced}


def check_null(null: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the nulls.

    Raises:
        ValueError: one of them has not one row.
    """
    for name, row in null.items():
        if row.ndim < 1 or len(row) != 1:
            raise ValueError(
                f"null {name} has shape {tuple(row.shape)}; expected one row for all samples, (1, ...)"
            )
    return dict(null)
