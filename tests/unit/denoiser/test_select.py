"""Denoisers of some samples of a batch: what belongs to a sample goes with it, whoever holds it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sde_gen import denoiser, guidance, likelihood
from sde_gen.denoiser import Denoiser, NetworkDenoiser
from sde_gen.denoiser.base import Conditioned, Padded
from sde_gen.denoiser.parametrization import V
from sde_gen.denoiser.prediction import Prediction
from sde_gen.denoiser.truncated import TruncatedProcess
from sde_gen.evaluation import verification
from sde_gen.evaluation.verification.oracles import ParametrizedOracle
from sde_gen.guidance import (
    CFG,
    Autoguidance,
    ClassifierGuidance,
    Clip,
    ComposedCFG,
    ControlStrength,
    DynamicThreshold,
)
from sde_gen.inverse import DPS, MMPS, DiffPIR, PiGDM
from sde_gen.inverse.operator import Mask
from sde_gen.solver import DPMAdaptive
from sde_gen.solver.callbacks import NFECounter
from tests.helpers import oracles
from tests.helpers.catalogue import make

COUNT, INDEX = 6, torch.tensor([1, 4, 5])
LABEL = torch.arange(COUNT) % 3
Y = torch.linspace(-1, 1, 2 * COUNT, dtype=torch.float64).reshape(COUNT, 2)
HINT = torch.stack([Y[:, 0], torch.ones(COUNT, dtype=torch.float64)], dim=1).reshape(COUNT, 2, 1, 1)
MASK = Mask(mask=torch.tensor([True, False]))
PACKAGES = (verification, denoiser, guidance, likelihood)


class Labeled(nn.Module):
    """A network whose output depends on the label, and one more time on whether there is one."""

    def forward(
        self, x: Tensor, c_noise: Tensor, label: Tensor | None = None, control: Tensor | None = None
    ) -> Tensor:
        assert label is None or len(label) == len(x)
        moved = torch.sin(3 * x) + c_noise.unsqueeze(1) / 1000
        if control is not None:  # a hint, and its strength
            moved = moved + control[:, :1].flatten(1) * control[:, 1:].flatten(1)
        return moved if label is None else moved + 0.3 * label.unsqueeze(1)

    def log_prob(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """A classifier: the more of it the nearer to the label."""
        return -((x_t - label.unsqueeze(1)) ** 2).sum(1)


class Own(Denoiser):
    """A denoiser of somebody else, who holds something for every sample and does not say so."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.sde = inner, inner.sde

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        prediction = self.inner(x_t, t, **cond)
        return prediction.with_x0(prediction.x0 + Y)


SDE, NET = make("sde", "vp"), Labeled()
NETWORK = NetworkDenoiser(net=NET, sde=SDE, parametrization=V())
WEAK = NetworkDenoiser(net=Labeled(), sde=SDE, parametrization=make("parametrization", "x0"))


def measured() -> Denoiser:
    """A denoiser that holds something for every sample, below others."""
    return DPS(denoiser=NETWORK, operator=MASK, y=Y, noise_std=0.1)


DENOISERS: dict[type[Denoiser], Callable[[], Denoiser]] = {
    NetworkDenoiser: lambda: NETWORK,
    denoiser.NetworkFlowMap: lambda: denoiser.NetworkFlowMap(net=NET, sde=SDE, parametrization=V()),
    denoiser.GaussianFlowMap: lambda: denoiser.GaussianFlowMap(sde=SDE, mean=torch.ones(2), cov=torch.eye(2)),
    denoiser.MixtureDenoiser: lambda: oracles.denoiser(SDE),
    denoiser.GaussianDenoiser: lambda: denoiser.GaussianDenoiser(
        sde=SDE, mean=torch.ones(2), cov=torch.eye(2)
    ),
    Conditioned: lambda: NETWORK.bind(label=LABEL),
    Padded: lambda: Padded(NETWORK, torch.arange(COUNT), COUNT),
    TruncatedProcess: lambda: TruncatedProcess(NETWORK.bind(label=LABEL), 0.01),
    ParametrizedOracle: lambda: ParametrizedOracle(NETWORK.bind(label=LABEL), V()),
    CFG: lambda: CFG(denoiser=measured(), scale=2.0).bind(label=LABEL),
    ComposedCFG: lambda: ComposedCFG(denoiser=measured(), scales={"label": 2.0}).bind(label=LABEL),
    ClassifierGuidance: lambda: ClassifierGuidance(denoiser=measured(), classifier=NET).bind(label=LABEL),
    Autoguidance: lambda: Autoguidance(
        denoiser=NETWORK.bind(label=LABEL), weak=WEAK.bind(label=LABEL), scale=2.0
    ),
    Clip: lambda: Clip(denoiser=NETWORK.bind(label=LABEL), low=-0.5, high=0.5),
    DynamicThreshold: lambda: DynamicThreshold(denoiser=NETWORK.bind(label=LABEL), quantile=0.5),
    **{
        method: lambda method=method: method(  # type: ignore[misc]
            denoiser=NETWORK.bind(label=LABEL), operator=MASK, y=Y, noise_std=0.1
        )
        for method in (DPS, MMPS, PiGDM, DiffPIR)
    },
    ControlStrength: lambda: ControlStrength(denoiser=NETWORK, scale=[0.5], t_max=[0.6]).bind(
        label=LABEL, control=HINT
    ),
    Own: lambda: Own(NETWORK.bind(label=LABEL)),
}


@pytest.mark.parametrize("kind", DENOISERS, ids=lambda kind: kind.__name__)
def test_some_are_predicted_as_among_all(kind: type[Denoiser]) -> None:
    """At separate times, for a float32 batch too, and once more of some of the some; the whole stays whole."""
    x, t = Y.flip(0), torch.linspace(0.2, 0.9, COUNT, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        model = DENOISERS[kind]()
        whole, some = model(x.to(dtype), t), model.select(INDEX, COUNT)
        for index, part in ((INDEX, some), (INDEX[1:], some.select(torch.tensor([1, 2]), len(INDEX)))):
            with NFECounter(NETWORK) as counter:
                found = part(x[index].to(dtype), t[index])
            for name in ("x_t", "x0", "eps", "alpha", "sigma"):
                torch.testing.assert_close(getattr(found, name), getattr(whole, name)[index])
            asked = COUNT if kind in (Own, Padded) else len(index)
            assert counter.samples == counter.calls * asked
        for name in ("x0", "eps"):
            assert torch.equal(getattr(model(x.to(dtype), t), name), getattr(whole, name))


def test_every_denoiser_is_tried() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(sub) for sub in kind.__subclasses__()))

    ours = {kind for kind in below(Denoiser) if kind.__module__.startswith("sde_gen.")}
    tried = {
        *DENOISERS,
        denoiser.ConsistencyModel,
        denoiser.DenoisingGAN,
    }  # which are no denoisers and say so
    assert {kind for kind in ours if not kind.__abstractmethods__} <= tried  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", [DPS, MMPS])
def test_one_measurement_may_serve_all(method: type[DPS]) -> None:
    model = method(denoiser=NETWORK, operator=MASK, y=Y[:1], noise_std=0.1)
    t = torch.full((COUNT,), 0.5, dtype=torch.float64)
    found = model.select(INDEX, COUNT)(Y[INDEX], t[INDEX])
    torch.testing.assert_close(found.x0, model(Y, t).x0[INDEX])


@pytest.mark.long
@pytest.mark.parametrize("kind", [CFG, DPS, DynamicThreshold], ids=lambda kind: kind.__name__)
def test_samples_keep_their_conditions_when_others_have_finished(kind: type[Denoiser]) -> None:
    """In a solver with steps of every sample's own, from whose batch samples leave at different times."""
    times, solver = torch.tensor([0.9, 0.1], dtype=torch.float64), DPMAdaptive(rtol=1e-2, atol=1e-2)
    x = 3 * Y.flip(0)
    many = solver.integrate(DENOISERS[kind](), x, times)
    assert len(many.nfe.unique()) > 1
    for row in range(COUNT):
        alone = DENOISERS[kind]().select(torch.tensor([row]), COUNT)
        found = solver.integrate(alone, x[row : row + 1], times)
        torch.testing.assert_close(found.x, many.x[row : row + 1], rtol=1e-11, atol=1e-11)
