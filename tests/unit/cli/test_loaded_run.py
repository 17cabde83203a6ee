"""A run folder opened from Python."""

import pytest
import torch

import sde_gen as sg
from sde_gen.cli.data_spec import DataSpec
from tests.helpers.stored_run import SMALL, config_of, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "digits"
    write(path, config_of(*SMALL), DataSpec(shape=(1, 8, 8), levels=17, classes=10))
    return path


def test_samples_do_not_depend_on_the_batch_size(folder):
    run = sg.load(folder, device="cpu")
    sampler = sg.Sampler(solver=sg.solver.Euler(), steps=2)
    whole, parts = (run.sample(3, sampler=sampler, seed=1, batch_size=size) for size in (3, 2))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    assert not torch.equal(whole, run.sample(3, sampler=sampler, seed=2))


def test_samples_are_those_of_the_denoiser_alone(folder):
    run = sg.load(folder, device="cpu")
    sampler = sg.Sampler(steps=2)
    noise = sg.PerSample(sg.noise.spawn_seeds(0, 2))
    assert torch.equal(run.sample(2, sampler=sampler), sampler(run.denoiser, (2, 1, 8, 8), noise=noise))


def test_codec_and_likelihood_of_a_run(folder):
    run = sg.load(folder, device="cpu")
    values = torch.arange(64).reshape(1, 1, 8, 8) % 17
    x = run.encode(values)
    assert torch.equal(run.decode(x), values)
    integrator = sg.ode.Adams(steps=4)
    noise = sg.IID.seeded(0)
    expected = sg.log_prob(run.denoiser, x, integrator=integrator, noise=noise).nats
    assert torch.equal(run.log_prob(x, integrator=integrator).nats, expected)


def test_the_density_of_levels_or_of_another_shape_is_refused(folder):
    """Before the network is called; levels are encoded first."""
    run = sg.load(folder, device="cpu")
    with pytest.raises(ValueError, match=r"x has dtype torch.uint8; .*encode levels of data first"):
        run.log_prob(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x has shape \(1, 8, 8\); expected \(B, 1, 8, 8\)"):
        run.log_prob(torch.zeros(1, 8, 8))


def test_repr_of_a_run_and_the_error_of_a_wrong_name_are_one_line(folder):
    shown = repr(sg.load(folder, device="cpu"))
    assert all(word in shown for word in (str(folder), "NCSNpp", "VP", "(1, 8, 8)"))
    assert len(shown) < 300
    with pytest.raises(ValueError, match=r"pretrained model.*digits-vp"):
        sg.load("digits-vpp")


def test_missing_folder_and_wrong_numbers_are_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="run folder"):
        sg.load(tmp_path / "missing")
    with pytest.raises(ValueError, match="at least 1"):
        sg.load(folder, device="cpu").sample(0)
