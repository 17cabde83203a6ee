"""The parts of an error, against numbers whose errors are known."""

import json
import math

import torch

from sde_gen.evaluation.metric import MetricResult
from sde_gen.likelihood import budget


def test_parts_of_the_error_of_a_mean():
    """Truth of variance 4 over images and draws of variance 1 or 9; the mean of n has a variance of 9 / n."""
    generator = torch.Generator().manual_seed(0)
    n = 40_000
    width = torch.where(torch.arange(n) % 2 == 0, 1.0, 3.0).double()
    truth, draws = torch.randn(2, n, generator=generator).double()
    values = 7 + 2 * truth + width * draws
    found = budget(values, {"draws": width}, {})
    assert abs(found.total.mean - 7) < 5 * found.total.se
    assert math.isclose(found.total.se * n**0.5, 3.0, rel_tol=0.02)  # of 4 + (1 + 9) / 2
    repeats = torch.stack([(width * torch.randn(n, generator=generator)).mean() for _ in range(200)])
    assert math.isclose(found.random_errors["draws"], float(repeats.std()), rel_tol=0.2)  # four of its errors
    assert found.random_errors["draws"] < found.total.se


def test_unknown_parts_do_not_count():
    nan = math.nan
    errors = torch.tensor([3.0, nan, 4.0, nan], dtype=torch.float64)
    found = budget(torch.zeros(4), {"a": errors, "b": torch.full((4,), nan)}, {"c": errors})
    assert math.isclose(found.random_errors["a"], math.sqrt(12.5 / 4))
    assert math.isnan(found.random_errors["b"])
    assert found.biases["c"].mean == 3.5
    assert found.biases["c"].n == 2


def test_doubts_are_systematic_errors_that_are_not_small():
    values = torch.tensor([0.0, 2.0] * 50, dtype=torch.float64)  # mean 1 +- 0.1
    tiny = torch.linspace(-1e-3, 1e-3, 100).double()
    offset = {
        "small": tiny + 0.01,
        "large": tiny - 0.2,
        "scattered": 3 * (values - 1),  # 0 +- 0.3: not known to be small
        "unknown": torch.full((100,), math.nan),
    }
    assert set(budget(values, {}, offset).significant_biases()) == {"large", "scattered", "unknown"}
    assert set(budget(values, {}, {"large": offset["large"]}).significant_biases(share=3)) == set()


def test_metric_result_round_trips_through_rows_of_batches():
    nan = math.nan
    parts = [
        MetricResult(
            value=torch.full((n,), n + 1 / 3, dtype=torch.float64),
            random_errors={"a": torch.tensor([0.1, *[nan] * (n - 1)]).double()},
            biases={"b": -torch.ones(n).double()},
        )
        for n in (2, 3)
    ]
    text = json.dumps([row for part in parts for row in part.rows()], allow_nan=False)
    whole = MetricResult.of_rows(json.loads(text))
    assert whole.value.tolist() == [2 + 1 / 3] * 2 + [3 + 1 / 3] * 3
    assert whole.random_errors["a"].isnan().tolist() == [False, True, False, True, True]
    assert whole.biases["b"].tolist() == [-1.0] * 5
