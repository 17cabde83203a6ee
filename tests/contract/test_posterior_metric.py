"""Metrics of conditional samples: exact posteriors are at their ceiling, wrong ones are found, on closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sde_gen.evaluation.metric import (
    C2ST,
    SBC,
    TARP,
    ConditionalSamples,
    Coverage,
    Uniformity,
    two_sample_accuracy,
)
from tests.helpers.catalogue import make, names, target

METRICS = [name for name in names("metric") if target("metric", name).of_posteriors]
CALIBRATION = [name for name in METRICS if not target("metric", name).needs_reference]
N, L, DIM = 300, 100, 2


def samples(shift=0.0, scale=1.0, seed=0, n=N, draws=L):
    """Posteriors N(c, 0.5 I) of truths c + noise; those of the model are shifted and scaled."""
    rng = np.random.default_rng(seed)
    given, truth, own, exact = (
        torch.from_numpy(rng.standard_normal(shape))
        for shape in ((n, DIM), (n, DIM), (n, draws, DIM), (n, draws, DIM))
    )
    root = math.sqrt(0.5)
    draws = given[:, None] + shift + scale * root * own

    def log_prob(y):
        mean = given.reshape(n, *[1] * (y.ndim - 2), DIM) + shift
        return torch.from_numpy(stats.norm(mean, scale * root).logpdf(y).sum(-1))

    truth = given + root * truth
    return ConditionalSamples(
        given=given,
        truth=truth,
        draws=draws,
        reference=given[:, None] + root * exact,
        log_prob_truth=log_prob(truth),
        log_prob_draws=log_prob(draws),
    )


def rng():
    return np.random.default_rng(1)


def of(name):
    return make("metric", name, **({"observations": 10, "draws": 200} if name == "c2st" else {}))


@pytest.mark.parametrize("name", CALIBRATION)
def test_exact_posteriors_are_calibrated_and_wrong_ones_are_found(name):
    metric = of(name)
    exact = metric(samples(), rng())
    p = "p-value of uniformity"
    assert exact.quantities[p].value > 1e-5
    assert exact.value < 0.05
    assert 0 < exact.se < 0.03
    for wrong in ({"scale": 0.5}, {"scale": 2.0}, *([{"shift": 1.0}] if name != "coverage" else [])):
        found = metric(samples(**wrong), rng())
        assert found.quantities[p].value < 1e-5, wrong
        assert found.value > exact.value + 5 * exact.se, wrong


def test_signs_of_coverage():
    """Draws too narrow have regions that cover too little."""
    metric = of("coverage")
    assert metric(samples(scale=0.5), rng()).quantities["signed distance"].value < -0.1
    assert metric(samples(scale=2.0), rng()).quantities["signed distance"].value > 0.1


def test_coverage_of_gaussians_is_the_closed_form():
    """The region of credibility a of N(c, s^2 v I) in the plane covers 1 - (1 - a)^(s^2) of N(c, v I)."""
    found = of("coverage")(samples(scale=0.6, n=4000), rng())
    (curve,) = found.curves
    inner = curve.x < 0.95  # beyond, the steps of the draws are seen
    torch.testing.assert_close(curve.y[inner], (1 - (1 - curve.x) ** 0.36)[inner], rtol=0, atol=0.03)


def test_sbc_of_gaussians_is_the_closed_form():
    """Ranks of truths among draws of twice the spread: the distribution of Phi(z / 2)."""
    found = of("sbc")(samples(scale=2.0, n=4000), rng())
    assert len(found.curves) == DIM
    expected = stats.norm.cdf(2 * stats.norm.ppf(found.curves[0].x.clamp(1e-9, 1 - 1e-9)))
    for curve in found.curves:
        np.testing.assert_allclose(curve.y, expected, atol=0.035)


def test_sbc_and_tarp_do_not_see_that_the_prior_ignores_the_observation():
    """What the pages say: draws of the marginal are calibrated."""
    rows = torch.from_numpy(np.random.default_rng(2).standard_normal((N, L, DIM))) * math.sqrt(1.5)
    for name in ("sbc", "tarp"):
        found = of(name)(replace(samples(), draws=rows), rng())
        assert found.quantities["p-value of uniformity"].value > 1e-5


def test_ties_are_broken_at_random():
    """Whole numbers: without it ranks of a calibrated posterior would pile up at their lower ends."""
    exact = samples()
    whole = replace(exact, truth=exact.truth.round(), draws=exact.draws.round())
    assert of("sbc")(whole, rng()).quantities["p-value of uniformity"].value > 1e-5


@pytest.mark.long
def test_c2st_of_gaussians_is_that_of_the_best_classifier():
    """Shifted by d standard deviations, the best accuracy is Phi(d / 2)."""
    exact, shifted = (samples(shift=shift, n=2, draws=800) for shift in (0.0, 1.0))
    metric = C2ST(observations=2, draws=800, folds=3)
    distance = math.sqrt(DIM) / math.sqrt(0.5)
    best = stats.norm.cdf(distance / 2)
    found = metric(shifted, rng())
    assert found.name == "C2ST@800"
    assert abs(found.value - best) < 0.03
    assert abs(metric(exact, rng()).value - 0.5) < 0.06
    assert found.quantities["largest"].value >= found.value


def test_c2st_does_not_depend_on_units_and_is_reproducible():
    one, other = samples(n=2, draws=100).draws[0], samples(shift=0.7, n=2, draws=100).draws[0]
    units = torch.tensor([1e6, 1e-6])
    assert two_sample_accuracy(one, other, seed=3) == two_sample_accuracy(one, other, seed=3)
    assert two_sample_accuracy(one * units, other * units, seed=3) == pytest.approx(
        two_sample_accuracy(one, other, seed=3), abs=0.02
    )


@pytest.mark.parametrize("name", ["tarp", "sbc"])
def test_calibration_does_not_depend_on_units(name):
    """The same random numbers give the same values of parameters in other units, about another origin."""
    here, units = samples(shift=0.4, scale=0.7), torch.tensor([1e4, 1e-4])
    there = replace(here, truth=3 + here.truth * units, draws=3 + here.draws * units)
    found, other = (of(name)(part, rng()).quantities for part in (here, there))
    assert {key: one.value for key, one in other.items()} == pytest.approx(
        {key: one.value for key, one in found.items()}, rel=1e-6
    )


def test_a_metric_without_what_it_needs_is_refused():
    bare = replace(samples(), reference=None, log_prob_truth=None)
    with pytest.raises(ValueError, match="exact distribution"):
        C2ST()(bare, rng())
    with pytest.raises(ValueError, match="densities"):
        Coverage()(bare, rng())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: SBC(draws=1), "draws=1"),
        (lambda: TARP(observations=1), "observations=1"),
        (lambda: C2ST(folds=1), "folds=1"),
        (lambda: C2ST(draws=4), "folds=5: expected 2 to draws=4"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


def test_uniformity_of_known_statistics():
    """Squares of uniform numbers: F(a) = sqrt(a), at an area of 1/6; its error is that of repeated draws."""
    rng = np.random.default_rng(3)
    areas = [Uniformity(u=torch.from_numpy(rng.random((500, 1)) ** 2)) for _ in range(30)]
    assert np.mean([one.area for one in areas]) == pytest.approx(1 / 6, abs=0.01)
    assert np.mean([one.signed for one in areas]) == pytest.approx(1 / 6, abs=0.01)
    assert np.mean([one.se for one in areas]) == pytest.approx(np.std([one.area for one in areas]), rel=0.5)
    assert areas[0].band == pytest.approx(1.358 / 500**0.5, rel=0.02)  # Kolmogorov's asymptotic quantile
