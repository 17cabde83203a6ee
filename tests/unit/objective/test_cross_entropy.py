"""The classification of noised samples against the exact classifier of a mixture."""

import torch
from torch import nn

from sde_gen.denoiser import NoisyClassifier
from sde_gen.denoiser.parametrization import EDM
from sde_gen.noise import IID
from sde_gen.objective import CrossEntropy
from sde_gen.objective.time_sampler import Stratified
from tests.helpers import oracles
from tests.helpers.catalogue import make


class Exact:
    """The classifier by Bayes' theorem, its logits turned about a direction."""

    def __init__(self, turn: torch.Tensor) -> None:
        self.sde = make("sde", "vp")
        self.model, self.turn = oracles.denoiser(self.sde), turn

    def log_probs(self, x_t, t):
        return torch.log_softmax(self.model.responsibilities(x_t, t).log() + self.turn, 1)


def labeled(n: int):
    """Samples of the mixture, and the component each was drawn from."""
    means, covs, weights = (torch.tensor(part) for part in oracles.MIXTURE)
    generator = torch.Generator().manual_seed(0)
    label = torch.multinomial(weights, n, replacement=True, generator=generator)
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return means[label] + torch.einsum("bij,bj->bi", torch.linalg.cholesky(covs)[label], z), label


def test_its_minimum_is_bayes_theorem() -> None:
    """The gradient by any change of the logits vanishes there, within five standard errors, and elsewhere not."""
    x0, label = labeled(20_000)
    objective = CrossEntropy(time_sampler=Stratified())
    for shift, still in [(0.0, True), (0.5, False)]:
        turn = torch.tensor([[shift, 0.0, -shift]]).double().repeat(len(x0), 1).requires_grad_()
        loss = objective(Exact(turn), x0, noise=IID.seeded(1), label=label)
        (slope,) = torch.autograd.grad(loss.per_sample.sum(), turn)
        away = (slope.mean(0) / (slope.std(0) / len(x0) ** 0.5)).abs()
        assert bool((away < 5).all()) == still


def test_its_error_is_the_share_of_wrong_guesses() -> None:
    x0, label = labeled(2000)
    objective = CrossEntropy(time_sampler=Stratified())
    exact = objective(Exact(torch.zeros(1, 3)), x0, noise=IID.seeded(1), label=label).error.mean()
    stubborn = objective(
        Exact(torch.tensor([[1e9, 0, 0]]).double()), x0, noise=IID.seeded(1), label=label
    ).error
    assert abs(float(stubborn.mean()) - float((label != 0).double().mean())) < 1e-12
    assert float(exact) < float(stubborn.mean())


def test_a_network_s_probabilities_sum_to_one_and_are_looked_up() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x, c_noise):
            return self.layer(torch.cat([x, c_noise.unsqueeze(1)], 1))

    classifier = NoisyClassifier(net=Net(), sde=make("sde", "vp"), parametrization=EDM())
    x, t = torch.randn(6, 2), torch.linspace(0.1, 0.9, 6).double()
    logs = classifier.log_probs(x, t)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(6))
    label = torch.arange(6) % 4
    torch.testing.assert_close(classifier.log_prob(x, t, label), logs[torch.arange(6), label])
    assert classifier.log_probs(x.double(), t[0]).dtype == torch.float64
