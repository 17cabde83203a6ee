"""From Python: wrong kinds are refused where an object is made, numbers are times, and nothing else changes."""

import copy
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from sde_gen import ode, sde, solver
from sde_gen.cli import instantiate
from sde_gen.denoiser import GaussianDenoiser, NetworkDenoiser
from sde_gen.denoiser.decoder import GaussianDecoder
from sde_gen.denoiser.dynamics import ProbabilityFlow, ReverseSDE
from sde_gen.denoiser.parametrization import Eps
from sde_gen.grid import Karras, Uniform
from sde_gen.guidance import CFG
from sde_gen.likelihood import ELBO, discrete_vlb, log_prob
from sde_gen.likelihood.divergence import Exact
from sde_gen.noise import IID, PerSample
from sde_gen.objective.time_sampler import Mixture
from sde_gen.sampler import Sampler
from sde_gen.sde import VP
from sde_gen.sde.base import SDE
from sde_gen.sde.linear import Table
from sde_gen.solver.callbacks import Progress
from sde_gen.training.config import TrainingConfig
from sde_gen.training.optimizer import Adam
from tests.helpers.catalogue import make, names

X = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.tensor(0.5, dtype=torch.float64)
GAUSSIAN = GaussianDenoiser(sde=VP(), mean=torch.zeros(2), cov=torch.eye(2))


def gaussian(process: SDE) -> GaussianDenoiser:
    return GaussianDenoiser(sde=process, mean=torch.ones(2), cov=torch.eye(2))


def network(**other: Any) -> NetworkDenoiser:
    return NetworkDenoiser(**{"net": nn.Identity(), "sde": VP(), "parametrization": Eps(), **other})


def density(**other: Any) -> object:
    settings = {"integrator": ode.Adams(), "divergence": Exact(), "noise": IID.seeded(0), **other}
    return log_prob(gaussian(VP()), X, **settings)


def drawn(**other: Any) -> object:
    given = {"denoiser": gaussian(VP()), "shape": (3, 2), "noise": IID.seeded(0), **other}
    return Sampler(solver=solver.Heun(), grid=Uniform(), steps=2)(**given)


WRONG: list[tuple[str, Callable[[], object]]] = [
    (
        "sde=VP must be an object of SDE, such as Cosine(), DDPM(), EDMProcess(); VP is the class: write VP(...)",
        lambda: network(sde=VP),
    ),
    ("sde='vp' must be an object of SDE", lambda: network(sde="vp")),
    ("net='mlp' must be an object of Module", lambda: network(net="mlp")),
    ("parametrization=Eps must be an object of Parametrization", lambda: network(parametrization=Eps)),
    ("denoiser=VP() must be an object of Denoiser".replace("VP()", repr(VP())), lambda: CFG(denoiser=VP())),
    ("generator=0 must be an object of Generator; IID.seeded(0) makes one", lambda: IID(0)),
    ("seeds=0 must be a list of whole numbers", lambda: PerSample(0)),
    ("seeds=[0.5] must be a list of whole numbers", lambda: PerSample([0.5])),
    (
        "integrator=Heun() must be an object of Integrator, such as Adams(), ",
        lambda: density(integrator=solver.Heun()),
    ),
    (
        "must be an object of Integrator, such as Adams(), ",
        lambda: density(integrator=solver.ODESolver()),
    ),
    ("integrator=Adams must be an object of Integrator", lambda: density(integrator=ode.Adams)),
    ("divergence=Exact must be an object of Divergence", lambda: density(divergence=Exact)),
    ("noise=IID must be an object of Noise; IID is the class", lambda: density(noise=IID)),
    ("noise=0 must be an object of Noise", lambda: density(noise=0)),
    ("solver='heun' must be an object of Solver", lambda: Sampler(solver="heun", grid=Uniform(), steps=3)),
    ("grid=Uniform must be an object of Grid", lambda: Sampler(solver=solver.Heun(), grid=Uniform, steps=3)),
    (
        "steps=2.0 must be a whole number; write 2",
        lambda: Sampler(solver=solver.Heun(), grid=Uniform(), steps=2.0),
    ),
    ("steps=True must be a whole number", lambda: Sampler(solver=solver.Heun(), grid=Uniform(), steps=True)),
    (
        "denoise_final=1 must be True or False",
        lambda: Sampler(solver=solver.Heun(), grid=Uniform(), steps=1, denoise_final=1),
    ),
    ("beta_min='a' must be a finite number", lambda: VP(beta_min="a")),
    ("beta_max=inf must be a finite number", lambda: VP(beta_max=math.inf)),
    ("lr=inf must be a finite number", lambda: Adam(lr=math.inf)),
    ("lr=nan must be a finite number", lambda: Adam(lr=math.nan)),
    ("rho=True must be a finite number", lambda: Karras(rho=True)),
    (
        "rho=1000000000000000000000000000000 must be a finite number; write 1.000e+30",
        lambda: Karras(rho=10**30),
    ),
    ("t_min='a' must be a finite number or None", lambda: Karras(t_min="a")),
    ("batch_size=16.0 must be a whole number; write 16", lambda: TrainingConfig(batch_size=16.0)),
    ("seed=1000000000000000000000000000000 must be a whole number", lambda: TrainingConfig(seed=10**30)),
    ("validate=None must be a whole number", lambda: TrainingConfig(validate=None)),
    ("times=0.5 must be a list of finite numbers", lambda: Table(times=0.5, values=(1.0,))),
    ("first='a' must be an object of TimeSampler", lambda: Mixture(first="a", second=1, share=0.5)),
    ("scale='a' must be a finite number", lambda: CFG(denoiser=gaussian(VP()), scale="a")),
    ("denoiser=3 must be an object of Denoiser", lambda: ProbabilityFlow(3)),
    ("callback='print' must be a function", lambda: Progress("print")),
    ("noise=0 must be an object of Noise", lambda: drawn(noise=0)),
    ("hooks=Progress must be a list of values", lambda: drawn(hooks=Progress)),
    ("shape=3 must be a list of whole numbers", lambda: drawn(shape=3)),
    ("denoiser=GaussianDenoiser must be an object of Denoiser", lambda: drawn(denoiser=GaussianDenoiser)),
    (
        "times=[1.0, 0.5] must be an object of Tensor",
        lambda: discrete_vlb(gaussian(VP()), X, [1.0, 0.5], decoder=GaussianDecoder(), noise=IID.seeded(0)),
    ),
    (
        "decoder=GaussianDecoder must be an object of Decoder",
        lambda: ELBO()(gaussian(VP()), X, decoder=GaussianDecoder, noise=IID.seeded(0)),
    ),
]


@pytest.mark.parametrize(("words", "make_it"), WRONG, ids=[words for words, _ in WRONG])
def test_another_kind_raises_a_one_line_error(words: str, make_it: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        make_it()
    assert "\n" not in str(caught.value)


def test_what_counts_as_a_number_or_a_list() -> None:
    assert VP(beta_min=1, beta_max=np.float32(20.0)) == VP(beta_min=1.0, beta_max=20.0)
    assert Table(times=np.linspace(0, 1, 4), values=[0, 1, 2, 3]).times[-1] == 1.0
    assert solver.EDMChurn(s_max=math.inf).s_max == math.inf, "its default: no upper end"
    assert TrainingConfig(seed=np.int64(3)).seed == 3
    assert PerSample(torch.arange(2)).seeds == PerSample(range(2)).seeds == [0, 1]


def test_a_dataclass_stays_one() -> None:
    made = VP(beta_max=10.0)
    for same in (
        copy.copy(made),
        copy.deepcopy(made),
        pickle.loads(pickle.dumps(made)),
        replace(VP(), beta_max=10.0),
    ):
        assert same == made
        assert hash(same) == hash(made)
    with pytest.raises(FrozenInstanceError):
        made.beta_max = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        VP(0.1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="beta_max=None must be a finite number"):
        replace(made, beta_max=None)


def test_a_user_s_class_is_checked_too() -> None:
    """Nobody has to ask for it: a subclass of ours is enough, with a constructor of whatever form."""

    class Straight(SDE):
        def __init__(self, *, rate: float, t_min: float = 1e-3) -> None:
            self.rate, self.t_min = rate, t_min

        def alpha(self, t: torch.Tensor) -> torch.Tensor:
            return torch.exp(-self.rate * t)

        def sigma(self, t: torch.Tensor) -> torch.Tensor:
            return torch.sqrt(-torch.expm1(-2 * self.rate * t))

    assert float(Straight(rate=2.0).alpha(0.5)) == math.exp(-1)
    with pytest.raises(ValueError, match="rate='fast' must be a finite number"):
        Straight(rate="fast")


@pytest.mark.parametrize("name", names("sde"))
def test_numbers_are_times(name: str) -> None:
    """A number is the float64 scalar of its value, a list the tensor: in every method, of every process."""
    process, s = make("sde", name), torch.tensor(0.25, dtype=torch.float64)
    for method in (
        "alpha",
        "sigma",
        "marginal",
        "log_snr",
        "alpha_dot",
        "sigma_dot",
        "drift_rate",
        "diffusion",
    ):
        of = getattr(process, method)
        for number, tensor in ((0.5, T), ([0.25, 0.5], torch.stack([s, T])), (np.float64(0.5), T)):
            if method in vars(process):
                continue  # a user's function of tensors
            torch.testing.assert_close(of(number), of(tensor), rtol=0, atol=0)
    torch.testing.assert_close(process.transition(0.25, 0.5), process.transition(s, T), rtol=0, atol=0)
    torch.testing.assert_close(process.posterior(0.5, s=0.25), process.posterior(T, s), rtol=0, atol=0)
    torch.testing.assert_close(process.drift(X, 0.5), process.drift(X, T), rtol=0, atol=0)
    torch.testing.assert_close(
        process.t_from_log_snr(1), process.t_from_log_snr(torch.ones_like(T)), rtol=0, atol=0
    )
    torch.testing.assert_close(process.marginal(0.5, like=X), process.marginal(T, like=X), rtol=0, atol=0)
    with pytest.raises(ValueError, match="t='half' must be a time"):
        process.alpha("half")


def test_numbers_are_times_of_denoisers_too() -> None:
    exact = gaussian(VP())
    for model in (exact, network(net=Still()), exact.bind()):
        for number in (0.5, np.float32(0.5)):
            assert torch.equal(model(X, number).x0, model(X, T).x0)
        assert torch.equal(ProbabilityFlow(model)(X, 0.5), ProbabilityFlow(model)(X, T))
        assert torch.equal(ReverseSDE(model).drift(X, 0.5), ReverseSDE(model).drift(X, T))
    assert torch.equal(exact.log_prob(X, 0.5), exact.log_prob(X, T))
    assert torch.equal(exact.responsibilities(X, 0.5), exact.responsibilities(X, T))
    assert sde.Rectified().prior.std == float(sde.Rectified().sigma(1))
    with pytest.raises(ValueError, match=r"times=.* must be a tensor; write torch\.tensor"):
        solver.Heun().solve(exact, X, [1.0, 0.5], noise=IID.seeded(0))


class Still(nn.Module):
    """A network without parameters."""

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return x * c_noise[:, None]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: GAUSSIAN([1, 2], 0.5), r"x_t=\[1, 2\] must be a tensor"),
        (lambda: GAUSSIAN(X.numpy(), 0.5), r"x_t=array.* must be a tensor"),
        (lambda: Uniform()(VP(), 3.5), r"steps=3\.5 must be a whole number"),
        (lambda: Uniform()(VP, 3), r"sde=VP must be an object of SDE.*write VP\("),
        (lambda: IID.seeded("a"), r"seed='a' must be a whole number"),
        (lambda: IID.seeded(2**64), r"seed=18446744073709551616 must be .* between"),
    ],
)
def test_calls_with_another_kind_raise_a_one_line_error(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as found:
        call()
    assert "\n" not in str(found.value)


def test_a_setting_is_named_by_where_the_user_sets_it() -> None:
    """An interpolated part is set where it is, not where it is used."""
    config = OmegaConf.create(
        {
            "weighting": {"_target_": "sde_gen.objective.weighting.MinSNR", "gamma": "much"},
            "objective": {
                "_target_": "sde_gen.objective.DSM",
                "weighting": "${weighting}",
                "time_sampler": {"_target_": "sde_gen.sde.VP"},
            },
        }
    )
    with pytest.raises(ValueError, match=r"^weighting\.gamma=much must be a finite number$"):
        instantiate.make(config.objective)
    config.weighting.gamma = 5.0
    with pytest.raises(
        ValueError, match=r"^objective\.time_sampler=VP\(\) must be an object of TimeSampler, such as "
    ):
        instantiate.make(config.objective)
    config.objective.time_sampler = {
        "_target_": "sde_gen.objective.time_sampler.UniformTime",
        "_partial_": True,
    }
    with pytest.raises(
        ValueError, match=r"^objective\.time_sampler=UniformTime must be an object of TimeSampler"
    ):
        instantiate.make(config.objective)
