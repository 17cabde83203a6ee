"""All commands on a small run, from training to benchmark, and a one-line error for every mistake."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli import options, stages, train, versions
from sde_gen.cli.config_files import groups, load
from sde_gen.model import NCSNpp
from tests.helpers.commands import TINY, enter, mistake

STEP = [
    *(word for word in TINY if not word.startswith("engine.images")),
    "engine.preview_every=1000000",
    "engine.images=64",
]
"""A training of one step, without a picture."""


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("commands") / "digits")


def test_training_leaves_checkpoints_log_and_picture(run):
    assert [path.name for path in sorted((run / "checkpoints").glob("[0-9]*"))] == [
        "000000000128",
        "000000000256",
    ]
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records] == [64, 128, 192, 256]
    assert all(np.isfinite(record["loss"]) for record in records)
    with Image.open(run / "previews" / "000000000256.png") as picture:
        assert len(picture.getcolors()) > 2


def test_samples_do_not_depend_on_the_batch_size(run, tmp_path):
    drawn = []
    for batch in (5, 2):
        enter(
            "sample",
            f"run={run}",
            "n=5",
            "steps=3",
            "seed=7",
            f"batch_size={batch}",
            f"out={tmp_path / str(batch)}",
        )
        drawn.append(np.load(tmp_path / str(batch) / "samples.npz"))
    assert drawn[0]["model_space"].shape == (5, 1, 8, 8)
    np.testing.assert_allclose(drawn[0]["model_space"], drawn[1]["model_space"], atol=1e-4)
    assert 0 <= drawn[0]["data"].min() <= drawn[0]["data"].max() <= 16


def test_strip_shows_samples_and_predictions(run, tmp_path):
    enter("sample", f"run={run}", "n=3", "steps=6", "trajectory_frames=4", "batch_size=2", f"out={tmp_path}")
    with Image.open(tmp_path / "trajectory.png") as strip:
        zoom = strip.width // (4 * 9 + 1)
        assert strip.size == (
            zoom * (4 * 9 + 1),
            zoom * (2 * 2 * 9 + 1),
        )  # four moments, two of the first batch
        predicted = np.asarray(strip.convert("L"))[::zoom, ::zoom][
            10:18, 28:36
        ]  # of the first sample, at last
    end = np.load(tmp_path / "samples.npz")["data"][0, 0]
    np.testing.assert_allclose(predicted, end * 255 / 16, atol=1)


def test_insufficient_memory_is_reported(capfd, monkeypatch, run):
    def greedy(*_, **__):
        torch.empty(2**60)

    monkeypatch.setattr(stages, "load_run", greedy)
    assert "smaller batch_size" in mistake(capfd, "sample", f"run={run}")


def test_film_shows_every_step(run, tmp_path):
    enter("sample", f"run={run}", "n=2", "steps=3", "gif=true", f"out={tmp_path}")
    with Image.open(tmp_path / "trajectory.gif") as film:
        assert 3 <= film.n_frames <= 5  # noise, three steps, clean; equal frames are merged


@pytest.mark.long
def test_evaluation_covers_the_data_whatever_the_batch(run, tmp_path):
    loose = [
        "integrator=torch_diffeq",
        "integrator.rtol=1e-1",
        "integrator.atol=1e-1",
        "metric.bpd.diagnose_every=null",
    ]
    reports = []
    for batch in (3, 2):
        out = tmp_path / str(batch)
        fixed = ["integrator=runge_kutta", "integrator.steps=4", "metric.bpd.diagnose_every=null"]
        enter("evaluate", f"run={run}", "n=5", f"batch_size={batch}", f"out={out}", *fixed)
        reports.append(json.loads((out / "bpd.json").read_text()))
    assert reports[0]["images"] == len(reports[0]["per_image"]) == 5
    np.testing.assert_allclose(reports[0]["per_image"], reports[1]["per_image"], atol=1e-3)
    assert reports[0]["mean"] == pytest.approx(np.mean(reports[0]["per_image"]))
    assert reports[0]["standard_error"] == pytest.approx(np.std(reports[0]["per_image"], ddof=1) / 5**0.5)
    enter("evaluate", f"run={run}", "n=2", f"out={tmp_path / 'adaptive'}", *loose)


@pytest.mark.long
def test_benchmark_measures_errors_that_fall(run, tmp_path):
    enter(
        "benchmark",
        f"run={run}",
        "solvers=[heun]",
        "steps=[4,16]",
        "n=3",
        "reference.steps=32",
        f"out={tmp_path}",
    )
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["nfe"] for row in rows] == [8, 32]
    assert rows[1]["median"] < rows[0]["median"]
    assert (tmp_path / "benchmark.png").stat().st_size > 0


@pytest.mark.long
def test_a_reference_may_choose_its_own_steps(run, tmp_path):
    rows = []
    for name, more in (("steps", []), ("adaptive", ["solver@reference.solver=torch_diffeq"])):
        few = ["solvers=heun", "steps=4", "n=2", "reference.steps=100", *more]
        enter("benchmark", f"run={run}", *few, f"out={tmp_path / name}")
        rows += json.loads((tmp_path / name / "benchmark.json").read_text())["rows"]
    assert rows[0]["median"] == pytest.approx(rows[1]["median"], rel=0.02)
    assert rows[0]["reference_error"] < 0.01 * rows[0]["median"]
    assert rows[1]["reference_error"] is None


def test_other_samples_go_to_another_folder(run):
    calls = [
        ["n=2"],
        ["n=3"],
        ["n=2", "grid=karras"],
        ["n=2", "seed=1"],
        ["n=2", "sampler.denoise_final=false"],
    ]
    for call in [*calls, ["n=2", "batch_size=1"]]:
        enter("sample", f"run={run}", "steps=2", *call)
    found = list((run / "samples").rglob("samples.npz"))
    assert len(found) == len(calls), "the batch size changes nothing"


def test_finished_training_starts_no_step_again(run):
    weights = (run / "checkpoints" / "000000000256" / "net.safetensors").read_bytes()
    enter("train", *TINY, f"run={run}")
    assert (run / "checkpoints" / "000000000256" / "net.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sde=vpp"], "did you mean"),
        (["engine.imagess=1"], "engine.images"),
        (["modell=ncsnpp"], "model"),
        (["nonsense"], "key=value"),
        (["sde.beta_min=30"], "beta_min"),
        (["sde=ve", "sde.sigma_min=-1"], "sigma_min"),
        (["model.multipliers=[1,2,2,2,2]"], "8x8"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["data=fashion_mnist", "data.root=nowhere"], "nowhere"),
        (["data=moons"], "model=mlp"),
        (["engine.images=0"], "images"),
        (["device=tpu"], "device"),
        (["model.num_classes=3"], "classes"),
        (["preview.n=0"], "n=0"),
        (["data=image_folder"], "data.root=... must be given"),
        (["model.width=abc"], "model"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_in_training(arguments, words, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in mistake(capfd, "train", *TINY, *arguments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("sample", ["n=0"], "n=0"),
        ("sample", ["n=many"], "n=many"),
        ("sample", ["steps=0"], "steps=0"),
        ("sample", ["batch_size=0"], "batch_size=0"),
        ("sample", ["seed=-1"], "seed=-1"),
        ("sample", ["solver=huen"], "heun"),
        ("sample", ["checkpoint=123"], "000000000256"),
        ("sample", ["label=1"], "without classes"),
        ("evaluate", ["metrics=[bdp]"], "bpd"),
        ("evaluate", ["metrics=[]"], "bpd"),
        ("evaluate", ["n=0"], "n=0"),
        ("evaluate", ["n=few"], "n=few"),
        ("evaluate", ["batch_size=0"], "batch_size=0"),
        ("sample", ["device=meta"], "device=meta"),
        ("sample", ["run=???"], "run=... must be given"),
        ("sample", ["out=/dev/null/x"], "/dev/null"),
        ("evaluate", ["n=100000"], "300"),
        ("evaluate", ["split=val"], "train and test"),
        ("evaluate", ["metrics=[bpd,importance]", "dequantization=noised"], "bpd does not use it"),
        ("benchmark", ["solvers=[hoin]"], "heun"),
        ("benchmark", ["steps=[0]"], "steps"),
        ("benchmark", ["steps=few"], "steps"),
    ],
)
def test_mistakes_after_training(command, arguments, words, run, tmp_path, capfd):
    assert words in mistake(capfd, command, f"run={run}", f"out={tmp_path}", *arguments)


def test_run_folder_that_is_none(tmp_path, capfd):
    assert "no run folder" in mistake(capfd, "sample", f"run={tmp_path / 'nowhere'}")
    assert "no checkpoint" in mistake(capfd, "sample", f"run={tmp_path}")


def test_checkpoint_of_another_model(run, capfd):
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    wide = [word.replace("width=8", "width=16") for word in TINY]
    assert "another" in mistake(capfd, "train", *wide, f"run={run}", "engine.images=512")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


def test_foreign_code_in_a_run_is_not_called(run, tmp_path, capfd):
    """A run folder from somebody else cannot name a function of another module."""
    copy, loot = tmp_path / "hostile", tmp_path / "loot"
    shutil.copytree(run, copy)
    copying = "{_target_: shutil.copyfile, src: %s, dst: %s}" % (__file__, loot)  # noqa: UP031
    for model, words in (
        ({"_target_": "shutil.copyfile", "src": __file__, "dst": str(loot)}, "not part of sde_gen"),
        ({"_target_": "sde_gen.checkpoint.store.shutil.copyfile", "src": __file__}, "not part of sde_gen"),
        (
            {"_target_": "sde_gen.data.download.fetch", "url": "file:///", "path": str(loot)},
            "a network is expected",
        ),
        ("${oc.create:'%s'}" % copying, "interpolation"),  # noqa: UP031
        ({"_target_": "${oc.env:HOME}"}, "not part of sde_gen"),
    ):
        for path in (copy / "checkpoints").glob("[0-9]*"):
            header = json.loads((path / "checkpoint.json").read_text())
            header["about"]["config"]["model"] = model
            text = json.dumps(header)
            (path / "checkpoint.json").write_text(text)
            (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())
        assert words in mistake(capfd, "sample", f"run={copy}", f"out={tmp_path}")
    assert not loot.exists()


def test_a_run_without_network_or_data_spec_gives_a_one_line_error(run, tmp_path, capfd):
    shutil.copytree(run, tmp_path / "copy")
    path = checkpoint.paths(tmp_path / "copy" / "checkpoints")[-1]
    header = json.loads((path / "checkpoint.json").read_text())
    for kind, content, words in (
        *(
            ("facts", data_spec, "invalid data metadata")
            for data_spec in ([], {}, {**header["about"]["facts"], "shape": 3})
        ),
        ("facts", {**header["about"]["facts"], "classes": "x"}, "invalid data metadata"),
        *(("config", config, "no network") for config in ([], {**header["about"]["config"], "model": None})),
    ):
        text = json.dumps({**header, "about": {**header["about"], kind: content}})
        (path / "checkpoint.json").write_text(text)
        (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())
        assert words in mistake(capfd, "sample", f"run={tmp_path / 'copy'}", f"out={tmp_path}")


def test_resuming_never_changes_the_parametrization(run, tmp_path, capfd):
    """Nor is the configuration of a run that refuses touched."""
    before = (run / "config.yaml").read_text()
    assert "sde." in mistake(capfd, "train", *TINY, f"run={run}", "sde=ve", "engine.images=512")
    wide = [word.replace("width=8", "width=16") for word in TINY]
    mistake(capfd, "train", *wide, f"run={run}", "engine.images=512")
    assert (run / "config.yaml").read_text() == before


def test_a_preview_that_fails_does_not_stop_the_training(tmp_path, monkeypatch):
    def fail(*_):
        raise FloatingPointError("sampling produced non-finite values")

    monkeypatch.setattr(train, "save_samples", fail)
    with pytest.warns(UserWarning, match="was not made"):
        enter("train", *TINY, f"run={tmp_path / 'run'}")
    assert (tmp_path / "run" / "checkpoints" / "000000000256").is_dir()


def test_versions_need_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    uncached = versions._own_commit.__wrapped__  # which would remember that there is one
    monkeypatch.setattr(versions, "_own_commit", uncached)
    assert "commit" not in versions.package_versions()
    assert versions.package_versions()["torch"] == torch.__version__


def test_vectors_train_and_sample_too(tmp_path):
    mlp = ["data=moons", "codec=affine", "model=mlp", "model.width=16", *TINY[3:]]
    enter("train", *mlp, f"run={tmp_path / 'moons'}", "sde=rectified", "parametrization=velocity")
    enter("sample", f"run={tmp_path / 'moons'}", "n=8", "steps=4")
    found = list((tmp_path / "moons" / "samples").rglob("samples.npz"))
    assert np.isfinite(np.load(found[0])["data"]).all()
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.long
def test_classes_are_learned_sampled_and_checked(trained, tmp_path, capfd):
    folder = trained(tmp_path / "classes", "conditioning=class")
    enter("sample", f"run={folder}", "n=3", "steps=2", "label=[3,7]", f"out={tmp_path / 'some'}")
    enter("benchmark", f"run={folder}", "solvers=ddim", "steps=2", "n=2", "reference.steps=8")
    enter("evaluate", f"run={folder}", "n=2", "integrator=runge_kutta", "integrator.steps=4")
    assert "0 to 9" in mistake(capfd, "sample", f"run={folder}", "label=10")
    assert "0 to 9" in mistake(capfd, "sample", f"run={folder}", "label=cat")


def test_previews_are_given_classes(tmp_path, monkeypatch):
    """The null class is never trained, so no preview may show it."""
    seen = []
    forward = NCSNpp.forward

    def watched(self, x, c_noise, *, label=None):
        seen.append(label)
        return forward(self, x, c_noise, label=label)

    monkeypatch.setattr(NCSNpp, "forward", watched)
    enter("train", *TINY, f"run={tmp_path / 'run'}", "conditioning=class")
    assert len(seen) > 4
    assert all(label is not None for label in seen)


@pytest.mark.long
def test_a_sweep_gives_every_job_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    enter("train", "-m", *STEP, "sde=vp,sub_vp", "engine.seed=1,2")
    assert len(list((tmp_path / "runs").iterdir())) == 4
    enter("train", "-m", *STEP, "sde=vp,sub_vp", "run=named/one")
    assert len(list((tmp_path / "named").iterdir())) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "named"}


def test_names_of_a_sweep_are_taken_by_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = [f"optimizer.beta{i}=0.{i}5" for i in (1, 2)]
    enter(
        "train",
        "-m",
        *STEP[:-1],
        "engine.images=6.4e1",
        *long,
        "model.multipliers=[1],[1,2]",
        "optimizer.lr=1e-3",
        "run=2026_11_28",
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert all(name.startswith("2026_11_28-model.multipliers_") and "lr" not in name for name in names)
    enter("sample", f"run={names[0]}", "n=1", "steps=2")
    assert list((tmp_path / names[0] / "samples").iterdir())


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "benchmark"])
def test_help_shows_groups_settings_and_an_example(command, capfd):
    with pytest.raises(SystemExit) as stop:
        enter(command, "--help")
    out = capfd.readouterr().out
    assert not stop.value.code
    assert f"python -m sde_gen.{command}" in out
    assert "device: auto" in out
    shown = set(re.findall(r"^  ([\w.]+(?:@[\w.]+)?)[:=]", out, re.MULTILINE))
    own = {key for key in options.OPTIONS[command] if not key.startswith("guidance.")}
    assert shown >= own, own - shown
    taken = {
        line.partition("=")[0].strip().rpartition("@")[2]
        for line in out.partition("Settings")[0].splitlines()
    }
    assert taken >= {group.place for group in groups(command) if not group.fixed}
    assert not {group.key for group in groups(command) if group.fixed} & shown
    assert "augmentation" not in shown or command == "train", "groups of other commands are not listed"


def test_one_image_has_no_standard_error_and_the_json_stays_valid(run, tmp_path):
    enter("evaluate", f"run={run}", "n=1", f"out={tmp_path}", "integrator=runge_kutta", "integrator.steps=2")
    report = json.loads((tmp_path / "bpd.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert report["standard_error"] is None


def test_numbers_that_are_not_finite_are_no_result(run, tmp_path, capfd, monkeypatch):
    from sde_gen.evaluation.metric import BitsPerDim, MetricResult

    monkeypatch.setattr(
        BitsPerDim, "__call__", lambda *_: MetricResult(value=torch.tensor([1.0, float("nan")]))
    )
    assert re.search(r"images \[\d+\] of", mistake(capfd, "evaluate", f"run={run}", "n=2", f"out={tmp_path}"))
    assert not (tmp_path / "bpd.json").exists()


LIST = f"[{','.join(str(1 - 0.0475 * i) for i in range(20))},0.05]"
"""Twenty steps."""


@pytest.mark.long
def test_folders_of_samples_have_names_that_fit_and_tell_settings_apart(run, tmp_path):
    """A list of 21 times gave a name that no file system takes; files of one name shared a folder."""
    enter("sample", f"run={run}", "n=1", "grid=listed", f"grid.times={LIST}", "steps=20")
    other = LIST.replace("0.05]", "0.04]")
    enter("sample", f"run={run}", "n=1", "grid=listed", f"grid.times={other}", "steps=20")
    found = list((run / "samples").glob("*n1-seed0-grid.times*"))
    assert len(found) == 2
    assert all(len(folder.name.encode()) < 150 for folder in found)
    before = set((run / "samples").iterdir())
    for steps in (2, 3):
        path = tmp_path / str(steps) / "mine.yaml"
        path.parent.mkdir()
        parts = {"solver": load("solver", "ddim"), "grid": load("grid", "karras"), "steps": steps}
        OmegaConf.save(parts, path)
        enter("sample", f"run={run}", "n=1", f"settings={path}")
        enter("sample", f"run={run}", "n=1", f"settings={path}", "batch_size=1")
    assert len(set((run / "samples").iterdir()) - before) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trajectory_frames=5", "steps=3"], "trajectory_frames=5"),
        (["grid=listed", "grid.times=0.5"], "grid.times=0.5 must be a list of finite numbers"),
        (["grid=listed", "grid.times=abc"], "grid.times=abc must be a list of finite numbers"),
        (["grid=listed", "grid.times=[1,half]"], "must be a list of finite numbers"),
        (["grid=listed", "grid.times=[1,0.5]"], "set steps=1"),
        (["grid=listed_log_snrs", "grid.log_snrs=[5,0,-5]", "steps=2"], "that ascend"),
        (["sde=ve"], "sde"),
        (["solver=euler_maruyama", "solver.eta=-1"], "eta=-1"),
        (["settings=SETTINGS", "solver=heun"], "solver=heun has no effect"),
        (["settings=SETTINGS", "grid.middle=1"], "grid.middle=1 has no effect"),
        (["settings=SETTINGS", "steps=3"], "steps=3 has no effect"),
        (["settings=SETTINGS", "sampler.steps=3"], "sampler.steps=3 has no effect"),
        (["settings=SETTINGS", "trajectory_frames=9"], "trajectory_frames=9"),
        (["label=1"], "without classes"),
        (["gif=perhaps"], "true or false"),
        (["settings=BROKEN"], "is not a YAML file"),
        (["settings=MANY"], "steps=many"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_refused_samples_leave_no_folder(arguments, words, run, tmp_path, capfd):
    out = tmp_path / "out"
    parts = {"solver": load("solver", "ddim"), "grid": load("grid", "karras"), "steps": 2}
    OmegaConf.save(parts, tmp_path / "mine.yaml")
    OmegaConf.save({**parts, "steps": "many"}, tmp_path / "many.yaml")
    (tmp_path / "broken.yaml").write_text("solver: [1")
    files = {"SETTINGS": "mine", "MANY": "many", "BROKEN": "broken"}
    asked = [
        re.sub("[A-Z]{4,}", lambda found: f"{tmp_path / files[found[0]]}.yaml", word) for word in arguments
    ]
    assert words in mistake(capfd, "sample", f"run={run}", f"out={out}", *asked)
    assert not out.exists()
