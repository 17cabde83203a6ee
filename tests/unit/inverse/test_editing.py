"""Codes, the way back, and images made anew, on exact denoisers."""

from dataclasses import replace

import pytest
import torch

from sde_gen.grid import LogSNR
from sde_gen.inverse.editing import Editor, analogy, interpolate
from sde_gen.noise import IID, PerSample
from sde_gen.sampler import Sampler
from sde_gen.solver import Ancestral, DPMSolverPP, Heun
from tests.helpers import gaussian, oracles
from tests.helpers.catalogue import make, names


def editor(steps: int, solver=None) -> Editor:
    solver = Heun() if solver is None else solver
    return Editor(
        sampler=Sampler(solver=solver, grid=LogSNR(ratio_max=20.0), steps=steps, denoise_final=False)
    )


@pytest.mark.long
@pytest.mark.parametrize("sde", names("sde"))
def test_codes_are_those_of_the_flow_and_invert(sde: str) -> None:
    """The same code on every process, in x / alpha: where an eighth-order method takes the sample."""
    process = make("sde", sde)
    model, edit = oracles.denoiser(process), editor(100, DPMSolverPP())
    times = edit.sampler.grid(process, 100)
    ratio = [float(torch.exp(-0.5 * process.log_snr(t))) for t in (times[-1], times[0])]
    z = oracles.ends()[:6]
    x = oracles.to_x(process, z, times[-1])
    code = edit.encode(model, x)
    exact = oracles.flow(z, *ratio)
    assert abs(oracles.to_z(process, code, times[0]) - exact).max() < 0.02 * ratio[1]
    trips = [e.round_trip(model, x) for e in (edit, editor(400, DPMSolverPP()))]
    torch.testing.assert_close(trips[0].latents, code)
    torch.testing.assert_close(trips[0].reconstruction, edit.decode(model, code))
    off = [(trip.reconstruction - x).norm(dim=1) / 2**0.5 for trip in trips]
    torch.testing.assert_close([trip.error for trip in trips], off)
    coarse, fine = (float(error.max()) for error in off)
    assert fine < coarse / 8 < 0.01  # of order 2: a factor of 16 in four times the steps


def test_great_circle() -> None:
    a, b = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    a, b = (v / v.flatten(1).norm(dim=1)[:, None, None] for v in (a, b))
    torch.testing.assert_close(interpolate(a, b, torch.tensor(0.0)), a)
    torch.testing.assert_close(interpolate(a, b, torch.tensor(1.0)), b)
    weight = torch.linspace(0.1, 0.9, 5)
    on = interpolate(a, b, weight)
    torch.testing.assert_close(on.flatten(1).norm(dim=1), torch.ones(5).double())
    angle = torch.arccos((a * b).flatten(1).sum(1))
    torch.testing.assert_close(torch.arccos((a * on).flatten(1).sum(1)), weight.double() * angle)
    torch.testing.assert_close(interpolate(a, a, torch.tensor(0.3)), a)
    torch.testing.assert_close(interpolate(a, a + 1e-9 * b, weight), a, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 5.0])
def test_varied_data_are_data(ratio: float) -> None:
    """Samples of the data, noised and denoised by the exact model, keep the distribution of the data."""
    model = gaussian.denoiser(make("sde", "vp"))
    x = model.sample(4000, noise=IID.seeded(0))
    varied = editor(60, Ancestral()).sdedit(model, x, ratio=ratio, noise=IID.seeded(1))
    assert float((varied.mean(0) - gaussian.DATA.mean).norm()) < 0.05
    assert float((torch.cov(varied.T) - gaussian.DATA.cov).norm()) < 0.05


def test_a_small_ratio_keeps_and_a_large_one_forgets() -> None:
    model = gaussian.denoiser(make("sde", "vp"))
    x = model.sample(2000, noise=IID.seeded(0))
    for ratio, low, high in [(0.05, 0.95, 1.0), (15.0, -0.1, 0.1)]:
        varied = editor(40, Ancestral()).sdedit(model, x, ratio=ratio, noise=IID.seeded(1))
        together = torch.corrcoef(torch.stack([x[:, 0], varied[:, 0]]))[0, 1]
        assert low < float(together) < high


def test_varied_samples_end_as_the_sampler_says() -> None:
    """With its Tweedie step what the model predicts at the last time; and the grid's own first ratio is allowed."""
    model, edit = oracles.denoiser(make("sde", "vp")), editor(5)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double()
    final = Editor(sampler=replace(edit.sampler, denoise_final=True))
    times = edit.sampler.grid(model.sde, 5)
    first = float(torch.exp(-0.5 * model.sde.log_snr(times[0])))
    for ratio in (1.0, first):
        noisy, clean = (one.sdedit(model, x, ratio=ratio, noise=IID.seeded(0)) for one in (edit, final))
        torch.testing.assert_close(clean, model(noisy, times[-1]).x0)
        assert not torch.equal(noisy, clean)


def test_analogies() -> None:
    """An analogy adds b - a to c and keeps the norm of a code; with equal codes it is the code itself."""
    a, b, c = torch.randn(3, 5, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    found = analogy(a, b, c)
    lengths = torch.stack([z.flatten(1).norm(dim=1) for z in (a, b, c)]).mean(0)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), lengths)
    cosine = torch.cosine_similarity(found.flatten(1), (c + b - a).flatten(1))
    torch.testing.assert_close(cosine, torch.ones(5).double())
    torch.testing.assert_close(analogy(a, a, a), a)


def test_samples_are_independent_of_their_batch() -> None:
    model, edit = oracles.denoiser(make("sde", "vp")), editor(5, Ancestral())
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double()
    together = edit.sdedit(model, x, ratio=1.0, noise=PerSample(range(4)))
    alone = [edit.sdedit(model, x[i : i + 1], ratio=1.0, noise=PerSample([i])) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-10)


def test_invalid_settings_are_refused() -> None:
    model, x = oracles.denoiser(make("sde", "vp")), torch.zeros(1, 2).double()
    with pytest.raises(ValueError, match="deterministic"):
        editor(5, Ancestral()).encode(model, x)
    with pytest.raises(ValueError, match="deterministic"):
        editor(5, Ancestral()).decode(model, x)
    for ratio in (0.0, -1.0, 1e9):
        with pytest.raises(ValueError, match="outside the grid"):
            editor(5).sdedit(model, x, ratio=ratio, noise=IID.seeded(0))
