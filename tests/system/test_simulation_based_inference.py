"""Commands on simulations: training in both directions, samples, metrics of posteriors, and what is refused."""

import json

import numpy as np
import pytest
import torch

import sde_gen as sg
from tests.helpers.commands import enter, mistake
from tests.helpers.stored_run import header_of

SMALL = [
    "recipe=sbi",
    "model.width=16",
    "model.depth=1",
    "data.count=400",
    "data.test_count=60",
    "lr_schedule.warmup=256",
    "engine.images=2048",
    "engine.batch_size=128",
    "engine.log_every=1024",
    "engine.checkpoint_every=1024",
    "engine.validate=60",
    "threads=1",
]
LINEAR = ["+simulator@data.simulator=gaussian_linear", "data.simulator.dim=2"]
METRICS = [
    "metric.sbc.draws=20",
    "metric.tarp.draws=20",
    "metric.coverage.draws=4",
    "metric.c2st.draws=20",
    "metric.c2st.folds=2",
    "steps=4",
    "threads=1",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulations")
    for direction in ("posterior", "likelihood"):
        enter("train", *SMALL, *LINEAR, f"data.direction={direction}", f"run={folder / direction}")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("direction", ["posterior", "likelihood"])
def test_a_run_stores_the_statistics_of_what_it_models_and_opens_as_a_posterior(runs, direction):
    run = sg.load(runs / direction, device="cpu")
    train = run.data.train
    path = next((runs / direction / "checkpoints").glob("0*"))
    stored = header_of(path)["about"]["codec"]
    np.testing.assert_allclose(stored["mean"], train.values.double().mean(0), rtol=1e-12)
    encoded = run.encode(train.values)
    torch.testing.assert_close(encoded.std(0, unbiased=False), torch.ones(2))
    torch.testing.assert_close(run.decode(encoded), train.values)
    posterior = run.posterior(proposals=50, integrator=sg.ode.Adams(steps=4))
    x = torch.tensor([0.1, -0.2])
    theta = posterior.sample((6,), x=x)
    assert theta.shape == (6, 2)
    found = posterior.log_prob(theta, x=x)
    assert bool(found.isfinite().all())
    if direction == "posterior":
        options = {"integrator": sg.ode.Adams(steps=4), "divergence": sg.likelihood.divergence.Exact()}
        nats = run.log_prob(run.encode(theta), vector=x.expand(6, 2), **options).nats
        torch.testing.assert_close(found, nats - np.log(stored["std"]).sum())


@pytest.mark.long
@pytest.mark.parametrize("direction", ["posterior", pytest.param("likelihood", marks=pytest.mark.slow)])
def test_metrics_of_posteriors_are_saved_with_baselines_and_plots(runs, direction, capfd):
    out = runs / f"evaluation-{direction}"
    command = [f"run={runs / direction}", "n=8", *METRICS, f"out={out}"]
    enter("evaluate", *command, "metrics=[c2st,sbc,tarp,coverage]")
    shown = capfd.readouterr().out
    for name in ("c2st", "sbc", "tarp", "coverage"):
        (path,) = out.glob(f"{name}-*.json")
        report = json.loads(path.read_text())
        assert 0 <= report["mean"] <= 1
        assert report["standard_error"] > 0
        assert report["observations"] == 8
        assert any(what.startswith("ceiling") for what in report["baselines"])
        assert path.with_suffix(".png").stat().st_size > 5000
        assert report["name"] in shown
    before = {path: path.stat().st_mtime_ns for path in out.glob("draws-*.npz")}
    (path,) = out.glob("sbc-*.json")
    first = json.loads(path.read_text())["quantities"]
    enter("evaluate", *command, "metrics=[sbc,tarp,coverage]")  # c2st's draws are those of sbc
    assert json.loads(path.read_text())["quantities"] == first
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("draws-*.npz")}


def test_a_table_has_no_exact_posterior(tmp_path, capfd):
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((300, 2))
    np.savez(tmp_path / "pairs.npz", theta=theta, x=theta + rng.standard_normal((300, 2)))
    run = tmp_path / "run"
    words = [word for word in SMALL if "count" not in word]
    enter("train", *words, "data=simulation_table", f"data.path={tmp_path / 'pairs.npz'}", f"run={run}")
    assert "c2st compares with an exact posterior, and SimulationTable data have none" in mistake(
        capfd, "evaluate", f"run={run}", "metrics=[c2st]", "n=4", *METRICS
    )
    enter("evaluate", f"run={run}", "metrics=[sbc]", "n=8", *METRICS)
    assert list((run / "evaluation").glob("sbc-*.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["n=61", "metrics=[sbc]"], "observations=61: the test split has 60"),
        (["n=1", "metrics=[sbc]"], "observations=1"),
        (["draws=5", "metrics=[sbc]"], "draws"),
    ],
)
def test_impossible_evaluations(runs, capfd, words, message):
    assert message in mistake(capfd, "evaluate", f"run={runs / 'posterior'}", *words)


def test_metrics_of_posteriors_need_vectors(tmp_path, capfd):
    run = tmp_path / "run"
    enter("train", "data=moons", "codec=affine", "model=mlp", "model.width=8", *SMALL[6:], f"run={run}")
    assert "train one with conditioning=vector" in mistake(
        capfd, "evaluate", f"run={run}", "metrics=[sbc]", "n=4"
    )


def test_a_codec_of_continuous_numbers_rejects_levels(tmp_path, capfd):
    assert "codec=standardized is for continuous numbers" in mistake(
        capfd, "train", "data=digits", "codec=standardized", f"run={tmp_path / 'run'}"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trained_posterior_of_a_gaussian_is_the_closed_one(tmp_path):
    """Mean and covariance of samples within 2 %, log-density within 0.02 nats, with a tenth of the weights."""
    run, small = tmp_path / "run", ["model.width=64", "model.depth=2", "engine.validate=0", "threads=1"]
    large = ["data.count=200000", "engine.batch_size=512", "engine.images=2560000", "ema.rate=0.9995"]
    enter("train", "recipe=sbi", *LINEAR, *small, *large, f"run={run}")
    posterior = sg.load(run, device="cpu").posterior()
    root = 0.05**0.5  # prior and noise have the variance 0.1: the posterior is N(x / 2, 0.05 I)
    for x in torch.tensor([[0.5, -0.3], [-0.2, 0.6]]):
        theta = posterior.sample((40_000,), x=x).double()
        assert float((theta.mean(0) - x / 2).norm() / (x / 2).norm()) < 0.02
        assert float((theta.mT.cov() / 0.05 - torch.eye(2)).norm() / 2**0.5) < 0.02
        exact = x / 2 + root * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        expected = torch.distributions.Normal(x / 2, root).log_prob(exact).sum(1)
        assert float((posterior.log_prob(exact, x=x) - expected).abs().mean()) < 0.02
