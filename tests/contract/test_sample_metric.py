"""Metrics of samples: real images score best, worse ones worse; results have standard errors and provenance."""

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from sde_gen.data import Digits
from sde_gen.evaluation.features import extract
from tests.helpers.catalogue import CONF, names, target

METRICS = [name for name in names("metric") if target("metric", name).of_samples and name != "fd_dinov2"]
"""Metrics with their own class; the Frechet distance has two files."""
QUALITY = [name for name in METRICS if name != "memorization"]
FEATURES = {"_target_": "sde_gen.evaluation.features.Classifier", "weights": "digits"}
SMALL = {
    "kid": {"subset_size": 100, "subsets": 20},
    "mind": {"count": 100},
    "sliced_wasserstein": {"count": 100},
}
N = 300


def metric(name):
    """The metric in features of the digits' classifier, with fewer repetitions."""
    config = OmegaConf.to_container(OmegaConf.load(CONF / "metric" / f"{name}.yaml"), resolve=False)
    return instantiate({**config, **SMALL.get(name, {}), "features": FEATURES})


@pytest.fixture(scope="module")
def images() -> dict[str, Tensor]:
    """Digits in 8 bits: the reference, other real images, and three degraded sets."""
    splits = Digits().load()
    labels, eight = (
        splits.train.labels,
        torch.round(splits.train.values.double() * (255 / 16)).to(torch.uint8),
    )
    real = eight[-2 * N : -N].float()
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(F.pad(real, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return {
        "reference": eight[: -2 * N],
        "held out": eight[-N:],
        "real": eight[-2 * N : -N],
        "a bit noisy": (real + 45 * noise).clamp(0, 255).to(torch.uint8),
        "noisy": (real + 90 * noise).clamp(0, 255).to(torch.uint8),
        "a bit blurred": ((real + blurred) / 2).round().to(torch.uint8),
        "blurred": blurred.round().to(torch.uint8),
        "five classes": eight[(labels < 5).nonzero().flatten()][-N:],
    }


@pytest.fixture(scope="module")
def score(images):
    """The result of a metric on one of the sets; features are extracted once, and results computed once."""
    extractor, sets, found = instantiate(FEATURES), {}, {}

    def features(what):
        if what not in sets:
            sets[what] = extract(extractor, images[what], what=what)
        return sets[what]

    def get(name, what):
        if (name, what) not in found:
            given = (features(what), features("reference"), features("held out"))
            found[name, what] = metric(name).checked(*given)
        return found[name, what]

    return get


@pytest.mark.parametrize("name", METRICS)
def test_results_have_standard_errors_and_provenance(name, score):
    result = score(name, "real")
    assert (result.n, result.n_reference) == (N, 1497 - 2 * N)
    assert math.isfinite(result.value)
    assert result.se > 0
    assert len(result.settings["sha256"]) == 64
    assert result.settings["features"] == "classifier"
    assert result.settings["resize"]
    json.dumps(dict(result.settings))
    for quantity in result.quantities.values():
        assert math.isfinite(quantity.value)
        assert quantity.how
    assert metric(name).what


@pytest.mark.parametrize("name", QUALITY)
@pytest.mark.parametrize(
    "order",
    [("real", "a bit noisy", "noisy"), ("real", "a bit blurred", "blurred"), ("real", "five classes")],
)
def test_worse_images_score_worse(name, order, score):
    """By more than three standard errors of the difference; recall detects missing classes, precision does not."""
    sign = -1 if metric(name).larger_is_better else 1
    for better, worse in itertools.pairwise(order):
        number = 1 if (name, worse) == ("precision_recall", "five classes") else 0
        a, b = ([*score(name, what).quantities.values()][number] for what in (better, worse))
        assert sign * (b.value - a.value) > 3 * math.hypot(a.se, b.se), (better, worse)


@pytest.mark.parametrize("name", METRICS)
def test_images_are_compared_by_their_features(name, images, score):
    found = metric(name)(images["real"], images["reference"], images["held out"], batch_size=150)
    assert found.value == pytest.approx(score(name, "real").value, rel=1e-4, abs=1e-5)
    assert list(found.quantities) == list(score(name, "real").quantities)


@pytest.mark.parametrize("name", METRICS)
def test_invalid_images_are_rejected(name, images):
    real, reference, held_out = images["real"], images["reference"][:40], images["held out"][:40]
    for wrong, words in (
        ((real.float(), reference, held_out), "uint8"),
        ((real[:, :, :4], reference, held_out), "resize"),
        ((real[:0], reference, held_out), "expected uint8"),
        ((real[:1], reference, held_out), "least|few|give more|images"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            metric(name)(*wrong)
        assert "\n" not in str(caught.value)
