"""What every grid owes on every process."""

import pytest
import torch

from sde_gen.grid import Grid
from tests.catalogue import make, names

GRIDS = names("grid")
SDES = names("sde")


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", GRIDS)
def test_descends_between_its_ends(name: str, sde: str) -> None:
    grid, process = make("grid", name), make("sde", sde)
    for steps in (1, 2, 7, 250):
        times = grid(process, steps)
        assert times.shape == (steps + 1,)
        assert times.dtype == torch.float64
        assert times.device.type == "cpu"
        assert bool((times[1:] < times[:-1]).all())
        assert float(times[0]) == float(grid.begin(process)) <= grid.t_max
        assert float(times[-1]) == process.t_min


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", GRIDS)
def test_ends_are_the_user_s(name: str, sde: str) -> None:
    grid = make("grid", name, t_max=0.9, t_min=0.1)
    times = grid(make("sde", sde), 5)
    assert (float(times[0]), float(times[-1])) == (0.9, 0.1)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", GRIDS)
def test_begins_in_the_prior(name: str, sde: str) -> None:
    """What a grid leaves out is noise: at least 80 parts to one of data, or all there is."""
    process = make("sde", sde)
    times = make("grid", name)(process, 3)
    reach = min(80.0, float(torch.exp(-0.5 * process.log_snr(torch.ones((), dtype=torch.float64)))))
    assert float(torch.exp(-0.5 * process.log_snr(times[0]))) >= 0.999 * reach


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", GRIDS)
def test_halving_the_step_keeps_the_times(name: str, sde: str) -> None:
    """A grid is one curve: twice the steps pass through the same times."""
    grid, process = make("grid", name), make("sde", sde)
    torch.testing.assert_close(grid(process, 12)[::2], grid(process, 6), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", GRIDS)
def test_refuses_nonsense(name: str) -> None:
    process = make("sde", "vp")
    for steps in (0, -3):
        with pytest.raises(ValueError, match="at least one step"):
            make("grid", name)(process, steps)
    with pytest.raises(ValueError, match="below the process' own"):
        make("grid", name, t_min=0.0)(process, 3)
    with pytest.raises(ValueError, match="must lie above"):
        make("grid", name, t_max=process.t_min)(process, 3)
    for bad in ({"t_max": 1.5}, {"t_max": 0.0}, {"t_max": float("nan")}, {"t_min": 1.0}, {"t_min": -0.1}):
        with pytest.raises(Exception, match="must lie in"):
            make("grid", name, **bad)


@pytest.mark.parametrize("sde", SDES)
def test_each_rule_is_even_in_its_own_variable(sde: str) -> None:
    process = make("sde", sde)

    def even(grid: Grid, variable: str) -> None:
        t = grid(process, 16)
        ratio = torch.exp(-0.5 * process.log_snr(t))
        value = {"t": t, "sqrt": t.sqrt(), "root": ratio ** (1 / 7), "ratio": ratio, "log": ratio.log()}[
            variable
        ]
        steps = value.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-6, atol=1e-9)

    even(make("grid", "uniform"), "t")
    even(make("grid", "quadratic"), "sqrt")
    even(make("grid", "karras"), "root")
    even(make("grid", "karras", rho=1.0), "ratio")
    even(make("grid", "log_snr"), "log")


def test_karras_tends_to_log_snr() -> None:
    process = make("sde", "vp")
    torch.testing.assert_close(
        make("grid", "karras", rho=1e7)(process, 9), make("grid", "log_snr")(process, 9), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("name", ["karras", "log_snr"])
def test_begins_where_the_ratio_is_finite(name: str) -> None:
    """The straight path has log_snr = -inf at t = 1; the grid begins at sigma / alpha = 1000 instead."""
    times = make("grid", name)(make("sde", "rectified"), 4)
    assert float(times[0]) == pytest.approx(1000 / 1001)
    assert float(make("grid", name, ratio_max=9.0)(make("sde", "rectified"), 4)[0]) == pytest.approx(0.9)
    with pytest.raises(Exception, match="ratio_max"):
        make("grid", name, ratio_max=0.0)
