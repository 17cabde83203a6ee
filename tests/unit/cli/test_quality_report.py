"""Table of metrics of samples in the terminal."""

from sde_gen.cli.quality import QualityResults
from sde_gen.cli.quality_report import rows
from sde_gen.evaluation.features import Classifier
from sde_gen.evaluation.metric import PrecisionRecall, Quantity, SampleResult


def draw(precision: float, recall: float) -> SampleResult:
    quantities = {
        "precision k=3 n=100,1497": Quantity(precision, 0.0412, "jackknife"),
        "recall k=3 n=100,1497": Quantity(recall, 0.03, "jackknife"),
    }
    settings = {"features": "classifier", "sha256": "", "resize": "none"}
    return SampleResult(quantities=quantities, n=100, n_reference=1497, settings=settings)


def test_every_number_is_a_mean_of_the_draws_with_the_digits_of_its_error():
    table = rows(
        QualityResults(
            name="precision_recall",
            metric=PrecisionRecall(features=Classifier()),
            draws=[draw(0.512345, 0.9), draw(0.612345, 0.7)],
            baselines={"ceiling: held-out images": draw(0.75, 0.65)},
            settings={},
            conditions="",
            seeds=[(0, 99), (100, 199)],
            nfe=10.0,
            seconds=1.0,
        )
    )
    assert table["  precision_recall: precision, seeds 0 to 99"] == "0.512 +- 0.041"
    mean = "0.562 +- 0.029; largest of them 0.612 +- 0.041"
    assert table["  precision_recall: precision, mean of 2 draws"] == mean
    assert table["  precision_recall: precision, ceiling: held-out images"] == "0.750 +- 0.041"
    assert table["  precision_recall: recall, seeds 100 to 199"] == "0.700 +- 0.030"
    assert table["  precision_recall: recall, mean of 2 draws"] == "0.800 +- 0.021"
    assert table["  precision_recall: recall, ceiling: held-out images"] == "0.650 +- 0.030"
