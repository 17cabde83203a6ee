"""Contract of guidance: exact lines between exact denoisers, and Bayes' theorem, on every process."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser, GaussianDenoiser, MixtureDenoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance import CFG, Autoguidance, ClassifierGuidance, Clip, ComposedCFG, DynamicThreshold
from sde_gen.sde import SDE
from sde_gen.solver.callbacks import NFECounter
from tests.helpers import oracles
from tests.helpers.catalogue import make, names

SDES = names("sde")
TIMES = (0.05, 0.4, 0.8)


class Labeled(Denoiser):
    """The mixture's exact denoiser, given a label that of one component, and the exact classifier of it."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde, self.whole = sde, oracles.denoiser(sde)
        means, covs, self.weights = (torch.tensor(part) for part in oracles.MIXTURE)
        self.parts = torch.nn.ModuleList(
            GaussianDenoiser(sde=sde, mean=mean, cov=cov) for mean, cov in zip(means, covs, strict=True)
        )

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        if "label" not in cond:
            return self.whole(x_t, t)
        found = [part(x_t, t) for part in self.parts]
        rows = torch.arange(len(x_t))
        x0, eps = (
            torch.stack([getattr(one, name) for one in found])[cond["label"], rows] for name in ("x0", "eps")
        )
        return Prediction(x_t, x0, eps, found[0].alpha, found[0].sigma)

    def log_prob(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Exact log p_t(label | x_t)."""
        return self.whole.responsibilities(x_t, t).log()[torch.arange(len(x_t)), label]


def samples(sde: SDE, t: float, count: int = 12) -> Tensor:
    """Samples about where p_t is, float64."""
    alpha, sigma = sde.marginal(torch.tensor(t).double())
    z = torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.sqrt(alpha**2 + sigma**2) * z


LABELS = torch.arange(12) % 3


def gradient(value: Tensor, x: Tensor) -> Tensor:
    """Gradient of a sum over samples."""
    return torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("sde", SDES)
def test_exact_classifier_turns_the_mixture_into_a_component(sde: str, t: float) -> None:
    model = Labeled(make("sde", sde))
    x, time = samples(model.sde, t), torch.tensor(t).double()
    guided = ClassifierGuidance(denoiser=model, classifier=model)(x, time, label=LABELS)
    exact = model(x, time, label=LABELS)
    torch.testing.assert_close(guided.x0, exact.x0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(guided.eps, exact.eps, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("sde", SDES)
def test_cfg_has_the_score_of_the_sharpened_density(sde: str, t: float) -> None:
    """At every t its score is the gradient of log p(x) + scale log p(y | x), here by autograd on the densities."""
    model = Labeled(make("sde", sde))
    x, time = samples(model.sde, t).requires_grad_(), torch.tensor(t).double()
    guided = CFG(denoiser=model, scale=2.5)(x.detach(), time, label=LABELS)
    density = model.whole.log_prob(x, time) + 2.5 * model.log_prob(x, time, LABELS)
    torch.testing.assert_close(guided.score, gradient(density, x), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(guided.alpha * guided.x0 + guided.sigma * guided.eps, x.detach())


@pytest.mark.parametrize(
    "times", [torch.tensor(0.4).double(), torch.full((12,), 0.4).double()], ids=["one", "each"]
)
def test_cfg_at_0_and_1_is_the_model_bit_for_bit_and_costs_one_evaluation(times: Tensor) -> None:
    model = Labeled(make("sde", "vp"))
    x = samples(model.sde, 0.4).float()
    for scale, exact in [(0.0, model(x, times)), (1.0, model(x, times, label=LABELS))]:
        with NFECounter(model) as counter:
            guided = CFG(denoiser=model, scale=scale)(x, times, label=LABELS)
        assert counter.calls == 1
        assert bool((guided.x0 == exact.x0).all() and (guided.eps == exact.eps).all())


class Tree(Denoiser):
    """The exact denoiser of a mixture of four components, numbered by two bits that may be given as conditions."""

    def __init__(self, sde: SDE) -> None:
        super().__init__()
        self.sde = sde
        generator = torch.Generator().manual_seed(3)
        self.means = torch.randn(2, 2, 2, generator=generator).double()
        self.weights = torch.tensor([[0.4, 0.3], [0.1, 0.2]]).double()

    def part(self, a: int | None, b: int | None) -> MixtureDenoiser:
        """The mixture given some of the bits."""
        index = slice(None) if a is None else slice(a, a + 1), slice(None) if b is None else slice(b, b + 1)
        weights = self.weights[index].flatten()
        covs = 0.3 * torch.eye(2).double().expand(len(weights), 2, 2)
        return MixtureDenoiser(
            sde=self.sde, means=self.means[index].flatten(0, 1), covs=covs, weights=weights / weights.sum()
        )

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        bits = [None if bit is None else int(bit[0]) for bit in (cond.get("a"), cond.get("b"))]
        return self.part(*bits)(x_t, t)


@pytest.mark.parametrize("sde", SDES)
def test_composed_cfg_has_the_score_of_both_sharpened_densities(sde: str) -> None:
    """The gradient of log p(x) + 1.5 log p(a | x) + 3 log p(b | x, a), by autograd on the densities."""
    model, time = Tree(make("sde", sde)), torch.tensor(0.4).double()
    x = samples(model.sde, 0.4).requires_grad_()
    a, b = torch.ones(12, dtype=torch.long), torch.zeros(12, dtype=torch.long)
    guided = ComposedCFG(denoiser=model, scales={"a": 1.5, "b": 3.0})(x.detach(), time, a=a, b=b)
    whole, given_a, given_both = (
        model.part(*bits).log_prob(x, time) for bits in ((None, None), (1, None), (1, 0))
    )
    density = whole + 1.5 * (given_a - whole) + 3.0 * (given_both - given_a)  # by Bayes, up to constants
    torch.testing.assert_close(guided.score, gradient(density, x), rtol=1e-8, atol=1e-8)


def test_composed_cfg_costs_no_more_predictions_than_it_needs() -> None:
    model, x, t = Tree(make("sde", "vp")), samples(make("sde", "vp"), 0.4).float(), torch.tensor(0.4).double()
    cond = {"a": torch.ones(12, dtype=torch.long), "b": torch.zeros(12, dtype=torch.long)}
    for scales, calls, exact in (
        ((1.0, 1.0), 1, model(x, t, **cond)),
        ((0.0, 0.0), 1, model(x, t)),
        ((1.0, 0.0), 1, model(x, t, a=cond["a"])),
        ((2.0, 2.0), 2, CFG(denoiser=model, scale=2.0)(x, t, **cond)),
        ((2.0, 1.0), 3, None),
    ):
        guided = ComposedCFG(denoiser=model, scales=dict(zip(("a", "b"), scales, strict=True)))
        with NFECounter(model) as counter:
            found = guided(x, t, **cond)
        assert counter.calls == calls
        if exact is not None and calls == 1:
            assert torch.equal(found.x0, exact.x0)
        elif exact is not None:
            torch.testing.assert_close(found.x0, exact.x0)
    with pytest.raises(ValueError, match="needs the conditioning b"):
        guided(x, t, a=cond["a"])
    for scales in ({}, {"a": float("inf")}):
        with pytest.raises(ValueError, match="scales="):
            ComposedCFG(denoiser=model, scales=scales)


def test_a_null_takes_the_place_of_what_is_dropped() -> None:
    """With a negative condition the line begins at the prediction given that condition."""
    model, x, t = Tree(make("sde", "vp")), samples(make("sde", "vp"), 0.4), torch.tensor(0.4).double()
    cond = {"a": torch.ones(12, dtype=torch.long), "b": torch.zeros(12, dtype=torch.long)}
    null = {"a": torch.zeros(1, dtype=torch.long)}
    away, toward = model(x, t, a=1 - cond["a"], b=cond["b"]).x0, model(x, t, **cond).x0
    found = CFG(denoiser=model, scale=3.0, drop=["a"], null=null)(x, t, **cond).x0
    torch.testing.assert_close(found, away + 3 * (toward - away))
    without = CFG(denoiser=model, scale=3.0, null=null)(x, t, **cond).x0  # b is left out
    away = model(x, t, a=1 - cond["a"]).x0
    torch.testing.assert_close(without, away + 3 * (toward - away))
    with pytest.raises(ValueError, match=r"null a has shape \(2,\); expected one row"):
        CFG(denoiser=model, null={"a": torch.zeros(2)})


def test_cfg_outside_its_interval_is_the_conditional_model() -> None:
    model = Labeled(make("sde", "vp"))
    ratio = torch.tensor([0.1, 1.0, 10.0]).double()
    t = model.sde.t_from_log_snr(-2 * ratio.log())
    x, label = samples(model.sde, 0.4)[:3], LABELS[:3]
    guided = CFG(denoiser=model, scale=3.0, ratio_min=0.5, ratio_max=5.0)
    conditional, everywhere = (
        model(x, t, label=label).x0,
        CFG(denoiser=model, scale=3.0)(x, t, label=label).x0,
    )
    found = guided(x, t, label=label).x0
    assert bool((found[[0, 2]] == conditional[[0, 2]]).all())
    torch.testing.assert_close(found[1], everywhere[1])
    assert float((everywhere - conditional).abs().min()) > 1e-3
    with NFECounter(model) as counter:
        guided(x, t[0], label=label)
    assert counter.calls == 1


def test_rescaling_gives_the_standard_deviation_back() -> None:
    model = Labeled(make("sde", "vp"))
    x, t = samples(model.sde, 0.4), torch.tensor(0.4).double()
    conditional = model(x, t, label=LABELS).x0
    plain, half, full = (
        CFG(denoiser=model, scale=4.0, rescale=phi)(x, t, label=LABELS).x0 for phi in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(full.std(1), conditional.std(1))
    torch.testing.assert_close(half, 0.5 * (plain + full))
    assert float((plain.std(1) - conditional.std(1)).abs().max()) > 1e-2


def test_guidance_does_not_mix_samples() -> None:
    model = Labeled(make("sde", "vp"))
    x, t = samples(model.sde, 0.4), torch.tensor(0.4).double()
    for guided in (
        CFG(denoiser=model, scale=2.0, rescale=0.7),
        ClassifierGuidance(denoiser=model, classifier=model, scale=2.0),
        DynamicThreshold(denoiser=CFG(denoiser=model, scale=2.0), quantile=0.5, limit=0.2),
        Autoguidance(denoiser=model, weak=Labeled(model.sde), scale=2.0),
        Clip(denoiser=CFG(denoiser=model, scale=2.0), low=-0.2, high=0.2),
    ):
        together = guided(x, t, label=LABELS).x0
        alone = torch.cat([guided(x[i : i + 1], t, label=LABELS[i : i + 1]).x0 for i in range(len(x))])
        torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


def test_autoguidance_is_the_line_through_two_models() -> None:
    """Two Gaussians that differ in the mean: the guided denoiser is that of the mean on the line through theirs."""
    sde, cov, t = make("sde", "vp"), 0.3 * torch.eye(2).double(), torch.tensor(0.4).double()
    weak, strong, beyond = (
        GaussianDenoiser(sde=sde, mean=torch.tensor(mean).double(), cov=cov)
        for mean in ([0.0, 1.0], [1.0, 0.0], [2.0, -1.0])
    )
    x = samples(sde, 0.4)
    guided = Autoguidance(denoiser=strong, weak=weak, scale=2.0)(x, t)
    torch.testing.assert_close(guided.x0, beyond(x, t).x0)
    assert bool((Autoguidance(denoiser=strong, weak=weak)(x, t).x0 == strong(x, t).x0).all())
    with pytest.raises(ValueError, match="same process"):
        Autoguidance(denoiser=strong, weak=GaussianDenoiser(sde=make("sde", "ve"), mean=x[0], cov=cov))


def test_dynamic_threshold_bounds_what_is_too_large_only() -> None:
    sde, t = make("sde", "vp"), torch.tensor(0.4).double()
    small, large = torch.tensor([0.5, -0.2]).double(), torch.tensor([3.0, -1.5]).double()
    point = torch.zeros(2, 2, 2).double()
    model = MixtureDenoiser(
        sde=sde, means=torch.stack([small, large]), covs=point, weights=torch.tensor([0.5, 0.5])
    )
    x = 10 * torch.stack([-large, large])  # so far out that the component is certain
    found = DynamicThreshold(denoiser=model, quantile=1.0)(x, t)
    torch.testing.assert_close(found.x0[1], large / 3, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.x0[0], model(x, t).x0[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.alpha * found.x0 + found.sigma * found.eps, x)
    found = DynamicThreshold(denoiser=model, quantile=1.0, most=2.0)(x, t)
    torch.testing.assert_close(found.x0[1], torch.tensor([1.0, -0.75]).double(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"most=0\.5: expected at least limit=1\.0"):
        DynamicThreshold(denoiser=model, most=0.5)


def test_invalid_settings_are_refused() -> None:
    model = Labeled(make("sde", "rectified"))
    x, one = samples(model.sde, 0.5), torch.ones(()).double()
    for bad in (
        {"scale": float("nan")},
        {"ratio_min": -1.0},
        {"ratio_min": 2.0, "ratio_max": 1.0},
        {"rescale": 1.5},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            CFG(denoiser=model, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="conditioning to drop"):
        CFG(denoiser=model, scale=2.0)(x, one)
    with pytest.raises(ValueError, match="needs a label"):
        ClassifierGuidance(denoiser=model, classifier=model)(x, one)
    with pytest.raises(ValueError, match="t_max below 1"):
        ClassifierGuidance(denoiser=model, classifier=model)(x, one, label=LABELS)
    for bad in ({"quantile": 0.0}, {"quantile": 1.1}, {"limit": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            DynamicThreshold(denoiser=model, **bad)


def test_conditioning_that_is_added_together_is_dropped_together():
    """Tokens and their mask have one scale; a class beside them another."""
    seen = []

    class Recorder(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.sde, self.inner = make("sde", "vp"), oracles.denoiser(make("sde", "vp"))

        def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
            seen.append(sorted(cond))
            return self.inner(x_t, t)

    given = {"label": LABELS, "tokens": torch.ones(12, 2, 3), "mask": torch.ones(12, 2).bool()}
    null = {"tokens": torch.zeros(1, 2, 3), "mask": torch.zeros(1, 2).bool()}
    x, t = samples(make("sde", "vp"), 0.4), torch.tensor(0.4).double()
    scales, together = {"label": 2.0, "tokens": 3.0}, {"tokens": ("tokens", "mask")}
    ComposedCFG(denoiser=Recorder(), scales=scales, together=together)(x, t, **given)
    assert seen == [[], ["label"], ["label", "mask", "tokens"]]
    seen.clear()
    ComposedCFG(denoiser=Recorder(), scales=scales, together=together, null=null)(x, t, **given)
    assert seen == [["mask", "tokens"], ["label", "mask", "tokens"], ["label", "mask", "tokens"]]
