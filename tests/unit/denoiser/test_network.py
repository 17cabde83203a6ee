"""A network behind the denoiser's interface."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sde_gen.denoiser import Denoiser, GaussianDenoiser, NetworkDenoiser
from sde_gen.denoiser.parametrization import Parametrization
from sde_gen.denoiser.prediction import Prediction
from sde_gen.noise import IID
from sde_gen.sde import SDE
from sde_gen.solver import LMS
from tests.helpers.catalogue import make, names

PAIRS = [(name, sde) for name in names("parametrization") for sde in names("sde")]


class Oracle(nn.Module):
    """The network that knows Gaussian data: asked with c_in x and c_noise, it answers with the target."""

    def __init__(self, sde: SDE, parametrization: Parametrization, t: Tensor) -> None:
        super().__init__()
        self.exact = GaussianDenoiser(
            sde=sde, mean=torch.tensor([0.3, -0.2, 0.1]), cov=0.2 * torch.eye(3) + 0.1
        )
        self.parametrization, self.t = parametrization, t

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        marginal = self.exact.sde.marginal(self.t)
        unit, label = self.parametrization.inputs(torch.ones_like(x), marginal, self.t)
        torch.testing.assert_close(c_noise, label.to(c_noise.dtype).expand(len(x)))
        p = self.exact(x / unit, self.t)
        return self.parametrization.target(p.x0, p.eps, marginal)


class Recorder(nn.Module):
    """A float32 network that remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.calls: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        self.calls.append((x, c_noise, cond))
        return self.scale * x + c_noise.reshape(-1, 1)


@pytest.mark.parametrize(("name", "sde"), PAIRS)
def test_perfect_network_is_the_exact_denoiser(name: str, sde: str) -> None:
    process, parametrization = make("sde", sde), make("parametrization", name, sde=sde)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (
        torch.tensor(0.4, dtype=torch.float64),
        torch.tensor([0.05, 0.2, 0.6, 0.98], dtype=torch.float64),
    ):
        oracle = Oracle(process, parametrization, t)
        prediction = NetworkDenoiser(net=oracle, sde=process, parametrization=parametrization)(x, t)
        torch.testing.assert_close(prediction.x0, oracle.exact(x, t).x0, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(prediction.score, oracle.exact(x, t).score, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("net_dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes(x_dtype: torch.dtype, net_dtype: torch.dtype) -> None:
    net = Recorder().to(net_dtype)
    denoiser = NetworkDenoiser(net=net, sde=make("sde", "vp"), parametrization=make("parametrization", "eps"))
    prediction = denoiser(torch.ones(3, 2, dtype=x_dtype), torch.tensor(0.5, dtype=torch.float64))
    x, c_noise, _ = net.calls[0]
    assert x.dtype == c_noise.dtype == net_dtype
    assert c_noise.shape == (3,)
    assert prediction.x0.dtype == prediction.eps.dtype == prediction.score.dtype == x_dtype


def test_conditioning_reaches_the_network() -> None:
    net, label = Recorder(), torch.tensor([1, 2, 3])
    denoiser = NetworkDenoiser(net=net, sde=make("sde", "vp"), parametrization=make("parametrization", "eps"))
    x, t = torch.ones(3, 2), torch.tensor(0.5, dtype=torch.float64)
    direct, bound = denoiser(x, t, label=label), denoiser.bind(label=label)(x, t)
    denoiser.bind(label=label)(x, t, label=-label)
    denoiser.bind(label=label).bind(mask=x)(x, t)
    conds = [cond for _, _, cond in net.calls]
    assert torch.equal(conds[0]["label"], label)
    assert torch.equal(conds[1]["label"], label)
    assert torch.equal(conds[2]["label"], -label)
    assert set(conds[3]) == {"label", "mask"}
    assert torch.equal(direct.x0, bound.x0)
    assert denoiser.bind(label=label).sde is denoiser.sde


def test_gradients_reach_parameters_and_input() -> None:
    net = Recorder()
    denoiser = NetworkDenoiser(net=net, sde=make("sde", "vp"), parametrization=make("parametrization", "v"))
    x = torch.ones(3, 2, requires_grad=True)
    denoiser(x, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).x0.sum().backward()
    assert net.scale.grad is not None
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_state_is_the_network_alone() -> None:
    denoiser = NetworkDenoiser(
        net=Recorder(), sde=make("sde", "vp"), parametrization=make("parametrization", "eps")
    )
    assert list(denoiser.state_dict()) == ["net.scale"]


class FunctionField(nn.Module):
    """A network without parameters."""

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        return torch.sin(x) + c_noise.reshape(-1, 1) + sum(cond.values())


class Around(Denoiser):
    """A denoiser that wraps another."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.sde, self.part = inner, inner.sde, nn.Linear(2, 2)

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        return self.inner(x_t, t, **cond)


class Twice(nn.Module):
    """A network with twice the outputs of another, for a learned variance."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Tensor) -> Tensor:
        out = self.inner(x, c_noise, **cond)
        return torch.cat([out, 0.1 * out], dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "sde"), PAIRS)
def test_memoized_coefficients_give_the_prediction_of_a_batch_of_times(
    name: str, sde: str, dtype: torch.dtype
) -> None:
    """The marginal is computed once per scalar time, behind a wrapper too."""
    process, parametrization = make("sde", sde), make("parametrization", name, sde=sde)
    field = FunctionField()
    net = field if parametrization.outputs == 1 else Twice(field)
    inner = NetworkDenoiser(net=net, sde=process, parametrization=parametrization)
    denoiser = Around(inner.bind(label=torch.tensor([[0.3]], dtype=dtype)))
    x = torch.randn(4, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    expected = [denoiser(x, t.expand(4)) for t in times]
    marginals, method = [], type(process).marginal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(process), "marginal", lambda *a: marginals.append(a) or method(*a))
        for _ in range(2):
            predictions = [denoiser(x, t) for t in times]
    linear = parametrization.linear(process.marginal(times)) is not None
    assert len(marginals) == (3 if linear else 6)
    for a, b in zip(expected, predictions, strict=True):
        for part in ("x0", "eps", "x_t"):
            torch.testing.assert_close(
                getattr(a, part), getattr(b, part), rtol=8 * torch.finfo(dtype).eps, atol=1e-12
            )
        torch.testing.assert_close(a.alpha.double()[0].reshape(()), b.alpha.double(), rtol=1e-6, atol=1e-9)


def network(sde: SDE) -> NetworkDenoiser:
    return NetworkDenoiser(net=FunctionField(), sde=sde, parametrization=make("parametrization", "edm"))


def test_memo_follows_the_dtype_and_is_not_copied() -> None:
    denoiser, t = network(make("sde", "vp")), torch.tensor(0.3, dtype=torch.float64)
    for dtype in (torch.float32, torch.float64, torch.float32):
        x = torch.ones(2, 3, dtype=dtype)
        assert denoiser(x, t).x0.dtype == dtype
        assert torch.equal(denoiser(x, t).x0, network(make("sde", "vp"))(x, t).x0)
    assert len(denoiser._coefficients.values) == 2
    assert not copy.deepcopy(denoiser)._coefficients.values


def test_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = network(make("sde", "vp"))
    denoiser._coefficients.size = 3
    for t in torch.linspace(0.1, 0.9, 10).double():
        denoiser(torch.ones(1, 2), t)
        assert len(denoiser._coefficients.values) <= 3


class TrainableVP(SDE):
    """A process whose noise schedule is trained."""

    def __init__(self) -> None:
        self.rate = torch.tensor(1.0, dtype=torch.float64)

    t_min = 1e-3

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self.rate * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - self.alpha(t) ** 2)


def test_a_trained_process_is_not_memoized() -> None:
    process = TrainableVP()
    denoiser, x, t = network(process), torch.ones(2, 3), torch.tensor(0.5, dtype=torch.float64)
    solver, times = LMS(), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    before = denoiser(x, t).x0, solver.solve(denoiser, x, times, noise=IID.seeded(0))
    process.rate *= 2
    after = denoiser(x, t).x0, solver.solve(denoiser, x, times, noise=IID.seeded(0))
    other = TrainableVP()
    other.rate *= 2
    fresh = network(other)(x, t).x0, solver.solve(network(other), x, times, noise=IID.seeded(0))
    for a, b, c in zip(before, after, fresh, strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(b, c)


def test_derivatives_with_respect_to_time_are_kept() -> None:
    denoiser, x = network(make("sde", "vp")), torch.ones(2, 3, dtype=torch.float64)
    t, h = torch.tensor(0.5, dtype=torch.float64), 1e-5
    slope = (denoiser(x, t + h).x0 - denoiser(x, t - h).x0) / (2 * h)
    one = torch.ones((), dtype=torch.float64)
    tangent = torch.func.jvp(lambda t: denoiser(x, t).x0, (t,), (one,))[1]
    mapped = torch.func.vmap(lambda t: denoiser(x, t).x0)(torch.stack([t, t / 2]))
    leaf = t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser(x, leaf).x0[0, 0], leaf)
    torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gradient, slope[0, 0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(mapped[1], denoiser(x, t / 2).x0)
