"""Validation of the arguments of processes."""


def check_t_min(t_min: float, *, zero: str = "") -> None:
    """Raise ValueError for a smallest time outside [0, 1).

    Arguments:
        t_min: the smallest time.
        zero: reason why t_min = 0 is excluded; empty if it is allowed.

    Raises:
        ValueError: t_min is not in [0, 1), or is 0 with a reason against it.
    """
    if zero and not 0 < t_min < 1:
        raise ValueError(f"t_min={t_min} must lie strictly between 0 and 1: {zero}")
    if not 0 <= t_min < 1:
        raise ValueError(f"t_min={t_min} must lie in [0, 1)")
