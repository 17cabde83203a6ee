"""Contract of all grids on all processes."""

import math

import numpy as np
import pytest
import torch

from sde_gen.grid import (
    IDDPM,
    CosineGrid,
    Curve,
    DDPMLeading,
    DDPMLinspace,
    DDPMTrailing,
    Grid,
    Listed,
    ProcessTime,
)
from sde_gen.sde import DDPM, SDE, VE, VP, Rectified, cosine_betas
from tests.helpers.catalogue import make, names

SDES = names("sde")
LISTED = ["listed", "listed_log_snrs", "listed_ratios"]
GRIDS = [name for name in names("grid") if name not in LISTED]
CURVES = [name for name in GRIDS if isinstance(make("grid", name), Curve)]
CHAINS = ["ddpm_inner", "ddpm_interpolated", "ddpm_leading", "ddpm_linspace", "ddpm_trailing", "edm_iddpm"]
"""Grids that choose from a table of times, and so begin and end in it."""


def ratio(sde: SDE, t: torch.Tensor) -> torch.Tensor:
    return torch.exp(-0.5 * sde.log_snr(t))


def listed(name: str, sde: SDE, times: torch.Tensor) -> Grid:
    """The list that says these times of a process in its own words."""
    values = {
        "listed": ("times", times),
        "listed_log_snrs": ("log_snrs", sde.log_snr(times)),
        "listed_ratios": ("ratios", ratio(sde, times)),
    }
    key, value = values[name]
    return make("grid", name, **{key: value.tolist()})


def test_there_are_curves_and_tables() -> None:
    assert sorted(CURVES + CHAINS + LISTED) == names("grid")


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", GRIDS)
def test_descends_within_the_process(name: str, sde: str) -> None:
    grid, process = make("grid", name), make("sde", sde)
    for steps in (1, 2, 7, 250):
        times = grid(process, steps)
        assert times.shape == (steps + 1,)
        assert times.dtype == torch.float64
        assert times.device.type == "cpu"
        assert bool((times[1:] < times[:-1]).all())
        assert process.t_min <= float(times[-1]) < float(times[0]) <= 1


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", CURVES)
def test_a_curve_has_its_ends(name: str, sde: str) -> None:
    grid, process = make("grid", name), make("sde", sde)
    for steps in (1, 7):
        times = grid(process, steps)
        assert float(times[0]) == float(grid.begin(process)) <= grid.t_max
        assert float(times[-1]) == process.t_min


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", CURVES)
def test_ends_are_the_user_s(name: str, sde: str) -> None:
    grid = make("grid", name, t_max=0.9, t_min=0.1)
    times = grid(make("sde", sde), 5)
    assert (float(times[0]), float(times[-1])) == (0.9, 0.1)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", [*CURVES, "ddpm_linspace", "ddpm_trailing"])
def test_begins_in_the_prior(name: str, sde: str) -> None:
    """What a grid leaves out is noise: at least 80 parts to one of data, or all there is."""
    process = make("sde", sde)
    times = make("grid", name)(process, 3)
    reach = min(80.0, float(ratio(process, torch.ones((), dtype=torch.float64))))
    assert float(ratio(process, times[0])) >= 0.999 * reach


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", CURVES)
def test_halving_the_step_keeps_the_times(name: str, sde: str) -> None:
    """A curve is one: twice the steps pass through the same times."""
    grid, process = make("grid", name), make("sde", sde)
    torch.testing.assert_close(grid(process, 12)[::2], grid(process, 6), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", GRIDS)
def test_refuses_no_steps(name: str) -> None:
    for steps in (0, -3):
        with pytest.raises(ValueError, match="at least one step"):
            make("grid", name)(make("sde", "vp"), steps)


@pytest.mark.parametrize("name", CURVES)
def test_refuses_ends_that_are_none(name: str) -> None:
    process = make("sde", "vp")
    with pytest.raises(ValueError, match="below the process' own"):
        make("grid", name, t_min=0.0)(process, 3)
    with pytest.raises(ValueError, match="must lie above"):
        make("grid", name, t_max=process.t_min)(process, 3)
    for bad in ({"t_max": 1.5}, {"t_max": 0.0}, {"t_max": float("nan")}, {"t_min": 1.0}, {"t_min": -0.1}):
        with pytest.raises(Exception, match=r"must lie in|t_max=nan must be a finite number"):
            make("grid", name, **bad)


@pytest.mark.parametrize("sde", SDES)
def test_each_rule_is_even_in_its_own_variable(sde: str) -> None:
    process = make("sde", sde)

    def even(grid: Grid, variable: str) -> None:
        t = grid(process, 16)
        r = ratio(process, t)
        way = (r.log() - r[-1].log()) / (r[0].log() - r[-1].log())
        rest = (t - t[-1]) / (t[0] - t[-1])
        value = {
            "t": t,
            "sqrt": t.sqrt(),
            "root": r ** (1 / 7),
            "ratio": r,
            "log": r.log(),
            "way": way.clamp(min=0).sqrt(),
            "angle": torch.arccos(rest),
            "chebyshev": torch.arccos(2 * rest - 1),
        }[variable]
        steps = value.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-6, atol=1e-7)

    even(make("grid", "uniform"), "t")
    even(make("grid", "quadratic"), "sqrt")
    even(make("grid", "karras"), "root")
    even(make("grid", "karras", rho=1.0), "ratio")
    even(make("grid", "log_snr"), "log")
    even(make("grid", "exponential"), "log")
    even(make("grid", "exponential", rho=2.0), "way")
    even(make("grid", "cosine"), "chebyshev")
    even(make("grid", "cosine", half_turns=0.5), "angle")


def test_karras_tends_to_log_snr() -> None:
    process = make("sde", "vp")
    torch.testing.assert_close(
        make("grid", "karras", rho=1e7)(process, 9), make("grid", "log_snr")(process, 9), rtol=1e-5, atol=1e-9
    )


def test_half_a_turn_is_chebyshev_s() -> None:
    points = np.polynomial.chebyshev.chebpts2(11)[::-1]
    times = CosineGrid(t_min=0.2, t_max=0.8)(make("sde", "vp"), 10)
    np.testing.assert_allclose(times.numpy(), 0.5 + 0.3 * points, rtol=1e-14)


@pytest.mark.parametrize("sde", SDES)
def test_process_time_another_process_is_even_there(sde: str) -> None:
    process = make("sde", sde)
    for other in (VP(), VE()):
        tau = other.t_from_log_snr(process.log_snr(ProcessTime(process=other)(process, 12)))
        torch.testing.assert_close(tau.diff(), tau.diff().mean().expand(12), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        make("grid", "edm_ve")(process, 9), make("grid", "log_snr")(process, 9), rtol=1e-9, atol=1e-12
    )


def test_edm_s_first_column_is_vp_s_own_time() -> None:
    """Karras et al., table 1: beta 0.1 to 20, time steps from 1 to 1e-3 in equal steps of t."""
    process = VP(t_min=1e-3)
    torch.testing.assert_close(make("grid", "edm_vp")(process, 35), make("grid", "uniform")(process, 35))


def test_iddpm_s_levels_are_those_of_its_chain() -> None:
    """The recursion in sigma is Nichol and Dhariwal's cosine table, counted from the other end."""
    process = DDPM(betas=cosine_betas(steps=1000, offset=0.008, beta_limit=0.999))
    numbers = 1000 * IDDPM(first=8)(process, 991)
    torch.testing.assert_close(numbers, torch.arange(992, 0, -1).double(), rtol=0, atol=1e-6)
    assert 80 <= IDDPM().ratios()[8] < 81  # u_8, the sigma_max that EDM's sampler has for this column
    assert (1000 * IDDPM()(process, 3)).round().tolist() == [992, 662, 331, 1]


def test_iddpm_has_no_level_twice() -> None:
    process = make("sde", "edm")
    with pytest.raises(ValueError, match="take 990"):
        IDDPM()(process, 992)
    IDDPM()(process, 990)


PUBLISHED = {
    DDPMLeading: [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
    DDPMLinspace: [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1],
    DDPMTrailing: [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
}
"""Lin et al., 2023, arXiv:2305.08891, table 2: T = 1000, ten steps."""


@pytest.mark.parametrize("kind", PUBLISHED)
def test_respacing_is_the_published_one(kind: type[Grid]) -> None:
    times = kind()(make("sde", "ddpm"), 9)
    assert (1000 * times).round().tolist() == PUBLISHED[kind]
    assert times.tolist() == [n / 1000 for n in PUBLISHED[kind]]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_respacing_asks_only_trained_times_and_none_twice(kind: type[Grid]) -> None:
    """Duplicates and an index beyond the table stood in releases of diffusers (defect 11)."""
    process = make("sde", "ddpm")
    for steps in range(1, 1000):
        numbers = 1000 * kind()(process, steps)
        assert bool((numbers.round().diff() <= -1).all())
    for steps in (1000, 5000):
        with pytest.raises(ValueError, match="take at most 999"):
            kind()(process, steps)


def test_respacing_stays_within_the_process() -> None:
    with pytest.raises(ValueError, match="shorter chain"):
        DDPMLeading(chain=4000)(make("sde", "ddpm"), 10)
    with pytest.raises(ValueError, match="another offset"):
        DDPMLeading(offset=102)(make("sde", "ddpm"), 9)
    assert float(DDPMLeading(offset=2)(make("sde", "ddpm"), 9)[-1]) == 0.002


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", LISTED)
def test_a_list_is_what_was_given(name: str, sde: str) -> None:
    process = make("sde", sde)
    times = make("grid", "karras")(process, 6)
    grid = listed(name, process, times)
    torch.testing.assert_close(grid(process, 6), times, rtol=1e-9, atol=1e-12)
    assert process.t_min <= float(grid(process, 6)[-1])
    for steps in (5, 7):
        with pytest.raises(ValueError, match="set steps=6"):
            grid(process, steps)


def test_a_list_stays_within_the_process() -> None:
    process = make("sde", "edm")
    make("grid", "listed_ratios", ratios=[80.0, 1.0, 0.002])(process, 2)
    for bad in ([81.0, 1.0], [80.0, 1e-3]):
        with pytest.raises(ValueError, match=r"outside \[t_min="):
            make("grid", "listed_ratios", ratios=bad)(process, 1)
    for times in ((1.1, 0.5), (0.5, 0.0)):
        with pytest.raises(ValueError, match=r"outside \[t_min="):
            Listed(times=times)(process, 1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("listed", {"times": [0.5]}),
        ("listed", {"times": [0.5, 0.5]}),
        ("listed", {"times": [0.2, 0.5]}),
        ("listed", {"times": [float("nan"), 0.5]}),
        ("listed_ratios", {"ratios": [1.0, 2.0]}),
        ("listed_ratios", {"ratios": [1.0, 0.0]}),
        ("listed_log_snrs", {"log_snrs": [1.0, -2.0]}),
    ],
)
def test_a_list_that_does_not_descend_is_refused(name: str, values: dict[str, list[float]]) -> None:
    with pytest.raises(
        Exception, match=r"without repeats|must be positive|nan.* must be a list of finite numbers"
    ):
        make("grid", name, **values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cosine", {"half_turns": 0.0}),
        ("cosine", {"half_turns": 1.5}),
        ("exponential", {"rho": 0.0}),
        ("exponential", {"rho": math.inf}),
        ("karras", {"rho": 0.5}),
        ("angle", {"middle": 0.0}),
        ("ddpm_linspace", {"chain": 1}),
        ("ddpm_leading", {"offset": 0}),
        ("edm_iddpm", {"first": 999}),
        ("edm_iddpm", {"c_1": 0.0}),
    ],
)
def test_refuses_settings_that_are_none(name: str, values: dict[str, float]) -> None:
    with pytest.raises(Exception, match=next(iter(values))):
        make("grid", name, **values)


@pytest.mark.parametrize("name", ["karras", "log_snr", "exponential", "edm_vp"])
def test_begins_where_the_ratio_is_finite(name: str) -> None:
    """The linear path has log_snr = -inf at t = 1; the grid begins at sigma / alpha = 1000 instead."""
    times = make("grid", name)(make("sde", "rectified"), 4)
    assert float(times[0]) == pytest.approx(1000 / 1001)
    assert float(make("grid", name, ratio_max=9.0)(make("sde", "rectified"), 4)[0]) == pytest.approx(0.9)
    with pytest.raises(Exception, match="ratio_max"):
        make("grid", name, ratio_max=0.0)


def test_a_shift_multiplies_the_ratio_of_the_straight_path() -> None:
    """Noise over signal is the shift times that of equal steps of another time, and shift 1 changes nothing."""
    process = Rectified()
    times = make("grid", "shifted", shift=3.0)(process, 9)
    even = make("grid", "uniform", t_min=float(times[-1] / (3 - 2 * times[-1])))(Rectified(t_min=1e-4), 9)
    torch.testing.assert_close(ratio(process, times)[1:], 3 * ratio(process, even)[1:])
    assert torch.equal(make("grid", "shifted", shift=1.0)(process, 9), make("grid", "uniform")(process, 9))
