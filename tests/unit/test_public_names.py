"""The public namespace: lazily loaded names, tab completion of public names only, optional noise."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sde_gen as sg

PACKAGES = [name for name in sg.__all__ if name in sg._PACKAGES]


def test_import_loads_neither_torch_nor_hydra():
    code = "import sys, sde_gen; assert not {'torch', 'hydra', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves():
    assert set(sg.__all__) < set(dir(sg))
    assert all(getattr(sg, name) is not None for name in sg.__all__)


def test_the_stub_for_type_checkers_has_the_same_names():
    stub = ast.parse(Path(sg.__file__).with_suffix(".pyi").read_text())
    names = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(sg.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Samplr'"):
        _ = sg.Samplr


@pytest.mark.parametrize("name", PACKAGES)
def test_completion_shows_public_names_only(name):
    package = importlib.import_module(f"sde_gen.{name}")
    assert dir(package) == sorted(package.__all__)
    assert all(hasattr(package, each) for each in package.__all__)


def test_names_of_a_kind_are_listed():
    assert {"heun", "dpm_solver_pp"} <= set(sg.list("solver"))
    assert "solver" in sg.list()
    with pytest.raises(ValueError, match="expected one of"):
        sg.list("solvers")


def test_deterministic_methods_need_no_noise():
    model = sg.denoiser.GaussianDenoiser(sde=sg.sde.VP(), mean=torch.zeros(2), cov=torch.eye(2))
    x, times = torch.ones(3, 2), sg.grid.Angle()(model.sde, 4)
    heun = sg.solver.Heun()
    noise = sg.IID.seeded(0)
    assert torch.equal(heun.solve(model, x, times), heun.solve(model, x, times, noise=noise))
    exact = sg.likelihood.divergence.Exact()
    nats = sg.log_prob(model, x, divergence=exact).nats
    assert torch.equal(nats, sg.log_prob(model, x, divergence=exact, noise=noise).nats)


def test_random_methods_without_noise_name_what_to_pass():
    model = sg.denoiser.GaussianDenoiser(sde=sg.sde.VP(), mean=torch.zeros(2), cov=torch.eye(2))
    x, times = torch.ones(3, 2), sg.grid.LogSNR()(model.sde, 4)
    with pytest.raises(ValueError, match="pass noise=IID"):
        sg.solver.EulerMaruyama().solve(model, x, times)
    with pytest.raises(ValueError, match="pass noise=IID"):
        sg.log_prob(model, x)
