"""Metrics of samples against closed forms, other libraries, brute force and repeated draws."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch
from torch import Tensor

from sde_gen.evaluation.features import FeatureSet, Pixels, Statistics
from sde_gen.evaluation.metric import (
    MIND,
    EnergyDistance,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Memorization,
    PrecisionRecall,
    SlicedWasserstein,
    frechet_distance,
)

PIXELS = Pixels()


def features(x: Tensor, logits: Tensor | None = None) -> FeatureSet:
    return FeatureSet(what="points", features=x, logits=logits, about=PIXELS.about())


def gaussian(d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return torch.randn(d, generator=generator, dtype=torch.float64) / 4, root @ root.mT + 0.1 * torch.eye(d)


def drawn(n: int, distribution: tuple[Tensor, Tensor], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(distribution[0]), generator=generator, dtype=torch.float64)
    return (distribution[0] + z @ torch.linalg.cholesky(distribution[1]).mT).float()


def closed_form(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """By SciPy's square root of the product, which is a general algorithm."""
    root = scipy.linalg.sqrtm((a[1] @ b[1]).numpy()).real
    return float((a[0] - b[0]).square().sum() + (a[1] + b[1]).trace() - 2 * np.trace(root))


A, B = gaussian(64, 0), gaussian(64, 1)


def test_frechet_distance_of_exact_moments() -> None:
    exact = [Statistics(mean=mean, cov=cov) for mean, cov in (A, B)]
    assert frechet_distance(*exact) == pytest.approx(closed_form(A, B), abs=1e-8)
    assert frechet_distance(exact[0], exact[0]) == pytest.approx(0, abs=1e-8)


def test_frechet_distance_of_singular_covariances() -> None:
    """Orthogonal supports: S_a S_b = 0."""
    zero, one, other = (
        torch.zeros(3).double(),
        torch.diag(torch.tensor([4.0, 0, 0])),
        torch.diag(torch.tensor([0, 9.0, 0])),
    )
    a, b = (Statistics(mean=zero, cov=cov.double()) for cov in (one, other))
    assert frechet_distance(a, b) == pytest.approx(13, abs=1e-12)


def test_frechet_distance_of_samples() -> None:
    """Within three of its standard errors of the closed form."""
    metric = FrechetDistance(features=PIXELS)
    exact = FeatureSet(what="exact", given=Statistics(mean=B[0], cov=B[1]))
    found = metric.checked(features(drawn(4000, A, 2)), exact)
    raw, extrapolated = found.quantities.values()
    truth = closed_form(A, B)
    assert found.name == "FD-pixels@4000"
    assert abs(extrapolated.value - truth) < 3 * extrapolated.se
    assert abs(raw.value - truth) < 3 * raw.se
    assert raw.se < 0.02 * truth


def test_standard_error_of_the_frechet_distance_is_that_of_repeats() -> None:
    distribution, other = gaussian(6, 3), gaussian(6, 4)
    exact = FeatureSet(what="exact", given=Statistics(mean=other[0], cov=other[1]))
    found = [
        FrechetDistance(features=PIXELS).checked(features(drawn(200, distribution, seed)), exact)
        for seed in range(120)
    ]
    repeats = torch.tensor([one.value for one in found]).std()
    mean = torch.tensor([one.se for one in found]).square().mean().sqrt()
    assert 0.75 < float(mean / repeats) < 1.33
    bias, rest = (
        torch.tensor([[*one.quantities.values()][i].value for one in found]).mean()
        - closed_form(distribution, other)
        for i in (0, 1)
    )
    error = float(repeats) / len(found) ** 0.5
    assert bias > 3 * error, "few samples raise the distance"
    assert abs(rest) < 3 * error, "which the extrapolation undoes"


def test_name_of_fid() -> None:
    d = 2
    exact = FeatureSet(
        what="exact", given=Statistics(mean=torch.zeros(d).double(), cov=torch.eye(d).double())
    )
    for n, name in ((50_000, "FD-pixels"), (49_999, "FD-pixels@49999")):
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
        assert FrechetDistance(features=PIXELS).checked(features(x), exact).name == name


def brute_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate in two loops."""
    kernel = lambda a, b: (float(a @ b) / len(a) + 1) ** 3  # noqa: E731
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_kernel_distance_of_all_points() -> None:
    x, y = torch.randn(2, 25, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    y = y + 0.3
    found = KernelDistance(features=PIXELS, subset_size=25, subsets=2).checked(features(x), features(y))
    assert found.value == pytest.approx(brute_mmd(x.double(), y.double()), rel=1e-10)


def test_standard_errors_of_two_sample_statistics_are_those_of_repeats() -> None:
    """Independent draws of both sets; at 120 repeats the ratio of deviations is within a quarter of 1."""
    generator = torch.Generator().manual_seed(0)
    for metric in (
        KernelDistance(features=PIXELS, subset_size=60, subsets=1),
        EnergyDistance(features=PIXELS),
        SlicedWasserstein(features=PIXELS, count=60),
    ):
        values, errors = [], []
        for _ in range(120):
            x, y = torch.randn(2, 60, 3, generator=generator).unbind(0)
            found = metric.checked(features(x), features(1.5 * y + 0.8))
            values.append(found.value)
            errors.append(found.se)
        ratio = float(torch.tensor(errors).square().mean().sqrt() / torch.tensor(values).std())
        low, high = (
            (0.9, 1.8) if "subsets" in vars(metric) else (0.7, 1.4)
        )  # of one subset the spread counts twice
        assert low < ratio < high, (type(metric).__name__, ratio)


def test_energy_distance_is_scipys() -> None:
    """In one dimension SciPy has the square root of the biased statistic; unbiased, its diagonal is left out."""
    x, y = torch.randn(2, 40, 1, generator=torch.Generator().manual_seed(0)).double().unbind(0)
    y = y[:30] + 0.5
    found = EnergyDistance(features=PIXELS).checked(features(x.float()), features(y.float())).value
    biased = scipy.stats.energy_distance(x.flatten(), y.flatten()) ** 2
    own = [scipy.spatial.distance.pdist(one.numpy()).mean() for one in (x, y)]
    assert found == pytest.approx(biased - own[0] / 40 - own[1] / 30, rel=1e-5)


@pytest.mark.parametrize("m", [50, 35, 20])
def test_sliced_wasserstein_in_one_dimension_is_scipys(m: int) -> None:
    """All directions of the line are the same; sets of different sizes are matched by quantiles."""
    generator = torch.Generator().manual_seed(m)
    x, y = torch.randn(50, 1, generator=generator), torch.randn(m, 1, generator=generator) * 2 + 1
    found = SlicedWasserstein(features=PIXELS, count=2).checked(features(x), features(y)).value
    n = 50 * m  # quantiles at a common denominator
    a, b = (np.repeat(np.sort(one.double().flatten().numpy()), n // len(one)) for one in (x, y))
    assert found == pytest.approx(math.sqrt(np.mean((a - b) ** 2)), rel=1e-5)


def test_mind_of_a_shift() -> None:
    """Between a set and itself shifted by v the distance along theta is (theta . v)^2, on average |v|^2 / d."""
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    v = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0])
    found = MIND(features=PIXELS, count=4000).checked(features(x + v), features(x))
    assert found.value == pytest.approx(3 * float(v @ v), abs=4 * found.se)
    assert found.se < 0.5


def test_inception_score_of_known_classes() -> None:
    """Certain and balanced over 8 classes: 8; independent of the image: 1; the reference does not matter."""
    certain = 50 * torch.eye(8).repeat(100, 1)
    for logits, score in ((certain, 8.0), (torch.zeros(800, 8), 1.0)):
        points = features(torch.zeros(800, 2), logits)
        found = InceptionScore(features=PIXELS, splits=2).checked(points, features(torch.zeros(3, 2)))
        assert found.value == pytest.approx(score, rel=0.01)
    with pytest.raises(ValueError, match="logits"):
        InceptionScore(features=PIXELS).checked(features(torch.zeros(20, 2)), features(torch.zeros(3, 2)))


def test_precision_and_recall_by_brute_force() -> None:
    x, y = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    y = y[:30] * 0.6
    found = PrecisionRecall(features=PIXELS, k=3).checked(features(x), features(y))

    def inside(points: Tensor, balls: Tensor) -> float:
        tree = scipy.spatial.KDTree(balls.numpy())
        radii = tree.query(balls.numpy(), k=4)[0][:, -1]
        return float(
            np.mean([(np.linalg.norm(balls.numpy() - p.numpy(), axis=1) <= radii).any() for p in points])
        )

    precision, recall = found.quantities.values()
    assert (precision.value, recall.value) == pytest.approx((inside(x, y), inside(y, x)))


def test_planted_copies_are_found() -> None:
    """5 % of the samples are training points, the others are new draws from the same distribution."""
    generator = torch.Generator().manual_seed(0)
    train, test, new = (torch.randn(n, 8, generator=generator) for n in (2000, 1000, 2000))
    metric = Memorization(features=PIXELS, level=0.01)
    copied = torch.cat([new[:1900], train[:100]])
    clean, planted = (metric.checked(features(x), features(train), features(test)) for x in (new, copied))
    (share, nearer, authentic), (share_5, nearer_5, authentic_5) = (
        [*found.quantities.values()] for found in (clean, planted)
    )
    assert abs(share.value - 0.01) < 3 * share.se
    assert abs(nearer.value - 0.5) < 3 * nearer.se
    assert abs(share_5.value - (0.05 + 0.95 * share.value)) < 3 * share_5.se
    assert share_5.value - share.value > 6 * share_5.se
    assert nearer_5.value > nearer.value + 0.02
    assert authentic_5.value == pytest.approx(0.95 * authentic.value, abs=0.01)


def test_held_out_images_in_the_place_of_samples_are_the_null_of_memorization() -> None:
    """Then all distances are those of the held-out images: the quantile is met exactly, and all pairs are ties."""
    generator = torch.Generator().manual_seed(0)
    train, test = (features(torch.randn(n, 3, generator=generator)) for n in (50, 100))
    for level, few in ((0.05, False), (0.004, True)):
        found = Memorization(features=PIXELS, level=level).compare(test, train, test)
        share, nearer, _ = found.quantities.values()
        assert share.value == pytest.approx(max(level, 0.01))
        assert nearer.value == pytest.approx(0.5)
        assert any("100 held-out images are few" in note for note in found.notes) == few


@pytest.mark.parametrize(("n", "singular"), [(4, True), (5, False)])
def test_a_covariance_of_as_many_samples_as_features_is_singular(n: int, singular: bool) -> None:
    """Its rank is at most n - 1."""
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    assert bool(torch.linalg.matrix_rank(torch.cov(x.double().mT)) < 4) == singular
    found = FrechetDistance(features=PIXELS, groups=2).compare(features(x), features(x))
    assert any("singular" in note for note in found.notes) == singular


def test_the_error_of_a_part_of_the_images_is_scaled_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are four times the same ones, so that a quarter of them is as good as all."""
    x, y = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(0)).repeat(1, 4, 1).unbind(0)
    metric = KernelDistance(features=PIXELS, subset_size=400, subsets=1)
    whole = metric.compare(features(x), features(y + 1)).se
    monkeypatch.setattr("sde_gen.evaluation.metric.kid.MOST_FOR_ERROR", 100)
    assert metric.compare(features(x), features(y + 1)).se == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("kind", [PrecisionRecall, EnergyDistance])
def test_of_many_images_the_first_ones_are_compared(kind: type[PrecisionRecall | EnergyDistance]) -> None:
    x, y = torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    few = kind(features=PIXELS).compare(features(x[:12]), features(y[:12]))
    many = kind(features=PIXELS, most=12).compare(features(x), features(y))
    assert many.quantities == few.quantities


def test_standard_error_of_the_inception_score_is_that_of_the_mean_of_its_parts() -> None:
    logits = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    points = features(torch.zeros(90, 2), logits)
    score, spread = InceptionScore(features=PIXELS, splits=3).compare(points, points).quantities.values()
    assert score.se == pytest.approx(spread.value / 2**0.5), "s / sqrt(n), s with n - 1"


def test_few_samples_are_warned_of() -> None:
    x = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="singular.*kid, which is unbiased"):
        FrechetDistance(features=PIXELS).checked(features(x), features(x + 1))
    with pytest.raises(ValueError, match=r"subset_size=1000 .* metric.kid.subset_size=5"):
        KernelDistance(features=PIXELS).checked(features(x), features(x))


def test_statistics_alone_or_of_another_extractor_are_refused() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    moments = Statistics.of(x, {"features": "Inception", "sha256": "12"})
    alone = FeatureSet(what="cifar10.npz", given=Statistics.of(x))
    with pytest.raises(ValueError, match=r"needs the images of the reference, but cifar10.npz"):
        KernelDistance(features=PIXELS, subset_size=10).checked(features(x), alone)
    with pytest.raises(ValueError, match="made with features Inception"):
        FrechetDistance(features=PIXELS).checked(features(x), FeatureSet(what="cifar10.npz", given=moments))
    with pytest.raises(ValueError, match=r"has 3 features, pixels has 4"):
        FrechetDistance(features=PIXELS).checked(features(torch.randn(40, 4)), alone)
    with pytest.raises(ValueError, match="held out"):
        Memorization(features=PIXELS).checked(features(x), features(x))
