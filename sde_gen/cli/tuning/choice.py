"""The setting selected at a number of evaluations, compared with the default."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sde_gen.evaluation.solver_tuning import SolverSetting, Tuner


def named(setting: SolverSetting) -> dict[str, object]:
    """Return the names that describe a setting."""
    return {"solver": setting.solver, "grid": setting.grid, "steps": setting.steps}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The setting to use at a number of evaluations, and the default there, on noise that chose neither.

    Arguments:
        nfe: evaluations that were allowed.
        setting: what to use: the default itself where nothing beats it.
        errors: errors per dimension in model space with shape (B,).
        usual: those of the default setting.
        seconds: time of the setting for all samples.
    """

    nfe: int
    setting: SolverSetting
    errors: Tensor
    usual: Tensor
    seconds: float

    def gain(self) -> tuple[float, float | None]:
        """Mean over samples of log(default's error / error), in nepers, and its standard error, if B > 1."""
        gains = torch.log(self.usual.clamp(min=1e-12) / self.errors.clamp(min=1e-12))
        return float(gains.mean()), float(gains.std() / len(gains) ** 0.5) if len(gains) > 1 else None

    def record(self) -> dict[str, object]:
        """The choice as numbers and names."""
        gain, se = self.gain()
        errors = {"error": float(self.errors.median()), "default": float(self.usual.median())}
        return {
            "nfe": self.nfe,
            **named(self.setting),
            **errors,
            "gain": gain,
            "se": se,
            "seconds": self.seconds,
        }


def evaluate_selection(judge: Tuner, nfe: int, best: SolverSetting, default: SolverSetting) -> Selection:
    """Compare the best setting with the default, which is kept unless beaten by two standard errors."""
    usual, seconds = _timed(judge, default)
    kept = Selection(nfe=nfe, setting=default, errors=usual, usual=usual, seconds=seconds)
    errors, seconds = _timed(judge, best)
    tuned = Selection(nfe=nfe, setting=best, errors=errors, usual=usual, seconds=seconds)
    gain, se = tuned.gain()
    return tuned if se is not None and gain > 2 * se else kept


def _timed(judge: Tuner, setting: SolverSetting) -> tuple[Tensor, float]:
    """Errors, and the time to get them when the reference is there."""
    assert judge.reference
    begin = time.perf_counter()
    errors = judge.errors(setting)
    return errors, time.perf_counter() - begin
