"""Invalid arguments of solvers: each is refused by the constructor, with a remedy in the message."""

from collections.abc import Callable

import pytest
import torch

from sde_gen.noise import PerSample
from sde_gen.solver import (
    DEISTAB,
    LMS,
    AdaptiveSDE,
    AnnealedLangevin,
    DPMAdaptive,
    EulerMaruyama,
    PredictorCorrector,
    Restart,
    StraightAdams,
    TorchSDE,
    UniPC,
)
from sde_gen.solver.base import Solver
from sde_gen.solver.langevin import Langevin
from sde_gen.solver.ode_solver import dormand_prince, scipy_ode, torch_diffeq
from tests.helpers import oracles
from tests.helpers.catalogue import integrators, make

WRONG: dict[str, Callable[[], object]] = {
    "inner=ODESolver.*adaptive solver cannot be inside another": lambda: Restart(inner=dormand_prince()),  # type: ignore[arg-type]
    "predictor=ODESolver.*adaptive solver cannot be inside another": lambda: PredictorCorrector(
        predictor=dormand_prince()
    ),  # type: ignore[arg-type]
    "repeats=1.5 must be a whole number": lambda: Restart(repeats=1.5),  # type: ignore[arg-type]
    "steps=2.5 must be a whole number": lambda: Restart(steps=2.5),  # type: ignore[arg-type]
    "steps=0 must be a whole number, at least 1": lambda: Langevin(steps=0),
    "moves=1.5 must be a whole number": lambda: AnnealedLangevin(moves=1.5),  # type: ignore[arg-type]
    "ratio_max=inf": lambda: Restart(ratio_max=float("inf")),
    "order=2.0 must be a whole number; write 2": lambda: DEISTAB(order=2.0),  # type: ignore[arg-type]
    "order=True must be a whole number": lambda: LMS(order=True),
    "higher_order=3.0 must be a whole number; write 3": lambda: DPMAdaptive(higher_order=3.0),  # type: ignore[arg-type]
    "predictor_order=0 must be": lambda: UniPC(predictor_order=0),
    "middle=1e-12 must lie in": lambda: StraightAdams(middle=1e-12),
    "middle=nan must be a finite number": lambda: StraightAdams(middle=float("nan")),
    r"eta=50 must lie in \[0, 10\]": lambda: EulerMaruyama(eta=50),
    "eta=inf must be a finite number": lambda: TorchSDE(eta=float("inf")),
    "eta=0 puts no noise back": lambda: TorchSDE(eta=0.0),
    "rtol=0": lambda: AdaptiveSDE(rtol=0.0),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused_at_construction(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


@pytest.mark.parametrize("name", integrators())
def test_an_empty_batch_stays_empty(name: str) -> None:
    steps = {"annealed_langevin": 32, "pndm": 3}.get(name, 2)
    model, times = oracles.denoiser(make("sde", "vp")), oracles.ratio_times(make("sde", "vp"), steps)
    seen: list[int] = []
    out = make("solver", name).solve(
        model,
        torch.empty(0, 2).double(),
        times,
        noise=PerSample([]),
        hooks=[lambda info: seen.append(info.index)],
    )
    assert out.shape == (0, 2)


@pytest.mark.parametrize("solver", [scipy_ode(), torch_diffeq(), torch_diffeq(method="rk4")], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_named(solver: Solver, bad: float) -> None:
    """Not a step that vanishes, nor an initial state: what the user sees is the samples."""
    model, times = oracles.denoiser(make("sde", "vp")), oracles.ratio_times(make("sde", "vp"), 2)
    x = torch.tensor([[0.0, 1.0], [bad, 1.0]]).double()
    with pytest.raises(FloatingPointError, match="the velocity is not finite at t="):
        solver.solve(model, x, times, noise=PerSample([0, 1]))
