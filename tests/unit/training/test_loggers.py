"""Loggers for other programs: CSV, TensorBoard, Weights & Biases."""

import csv
import importlib
import types

import pytest

from sde_gen.training import CSV, MetricValue, TensorBoard, WandB


def rows(path):
    """The table as the csv module of Python reads it."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_keeps_one_header_when_columns_appear(tmp_path):
    log = CSV(tmp_path / "deep" / "log.csv")
    log.on_train_start(0, 100)
    log.on_log({"images": 10, "loss": 0.5, "error": {"low": None, "high": 2.0}})
    log.on_log({"images": 20, "loss": 0.25, "error": {"low": 1.0, "high": 1.5}, "validation, held out": 3e-5})
    log.on_log({"images": 30, "loss": 0.125})
    found = rows(log.path)
    assert list(found[0]) == ["images", "loss", "error/high", "error/low", "validation, held out"]
    assert [row["error/low"] for row in found] == ["", "1.0", ""]
    assert [float(row["loss"]) for row in found] == [0.5, 0.25, 0.125]
    assert found[1]["validation, held out"] == "3e-05"
    assert [file.name for file in log.path.parent.iterdir()] == ["log.csv"]


def test_csv_has_the_metrics_of_samples(tmp_path):
    log = CSV(tmp_path / "log.csv")
    log.on_train_start(0, 100)
    log.on_log({"images": 10, "loss": 0.5})
    log.on_metrics({"fid": MetricValue(7.5, 0.5, False)}, 20)
    log.on_metrics({}, 30)
    assert [(row["images"], row["loss"], row["metrics/fid"]) for row in rows(log.path)] == [
        ("10", "0.5", ""),
        ("20", "", "7.5"),
    ]


def test_csv_of_a_resumed_training_has_every_record_once(tmp_path):
    log = CSV(tmp_path / "log.csv")
    log.on_train_start(0, 100)
    for images in (10, 20, 30):
        log.on_log({"images": images, "loss": 1.0})
    with log.path.open("a") as file:
        file.write("4")  # truncated by a kill
    again = CSV(tmp_path / "log.csv")
    again.on_train_start(20, 100)
    again.on_log({"images": 30, "loss": 2.0, "new": 1.0})
    assert [(row["images"], row["loss"], row["new"]) for row in rows(log.path)] == [
        ("10", "1.0", ""),
        ("20", "1.0", ""),
        ("30", "2.0", "1.0"),
    ]


class Run:
    """The interface of Weights & Biases 0.31: ``define_metric``, ``log`` and ``finish`` with their arguments."""

    def __init__(self):
        self.calls = []

    def define_metric(
        self, name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None
    ):
        self.calls.append(("define_metric", name, step_metric))

    def log(self, data, step=None, commit=None):
        self.calls.append(("log", data))

    def finish(self, exit_code=None):
        self.calls.append(("finish",))


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """A module of that name, and no account."""
    module = types.ModuleType("wandb")
    module.runs, module.settings = [], []

    def init(
        entity=None, project=None, dir=None, id=None, name=None, mode=None, reinit=None, resume=None
    ):  # of the arguments of wandb.init
        module.settings.append({"project": project, "dir": dir, "id": id, "mode": mode, "resume": resume})
        module.runs.append(Run())
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(__import__("sys").modules, "wandb", module)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return module


def test_wandb_without_an_account_is_offline_and_resumes_its_run(tmp_path, wandb):
    for start in (0, 128):
        log = WandB(tmp_path / "run", project="mine")
        log.on_train_start(start, 256)
        log.on_log({"images": start + 128, "loss": 0.5, "error": {"low": None, "high": 2.0}})
        log.on_train_end(start + 128)
    first, second = wandb.settings
    assert first == second
    assert first["mode"] == "offline"
    assert (first["project"], first["dir"], first["resume"]) == ("mine", str(tmp_path / "run"), "allow")
    assert wandb.runs[1].calls == [
        ("define_metric", "*", "images"),
        ("log", {"images": 256, "loss": 0.5, "error/high": 2.0}),
        ("finish",),
    ]
    WandB(tmp_path / "other").on_train_start(0, 256)
    assert wandb.settings[2]["id"] != first["id"]


def test_wandb_mode_depends_on_an_account(tmp_path, wandb, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text("machine api.wandb.ai login user password key\n")
    WandB(tmp_path / "run").on_train_start(0, 256)
    (tmp_path / "home" / ".netrc").unlink()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandB(tmp_path / "run").on_train_start(0, 256)
    assert [each["mode"] for each in wandb.settings] == [None, None]


def test_a_finished_training_begins_no_run(tmp_path, wandb):
    WandB(tmp_path / "run").on_train_start(256, 256)
    assert not wandb.runs


def test_tensorboard_writes_every_number(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    board.on_train_start(0, 128)
    board.on_log({"images": 64, "loss": 0.5, "error_by_log_snr": {"-4 to 0": 0.25, "0 to 4": None}})
    board.on_log({"images": 128, "loss": 0.25, "error_by_log_snr": {"-4 to 0": 0.125, "0 to 4": 2.0}})
    board.on_train_end(128)
    found = events.EventAccumulator(str(tmp_path)).Reload()

    def scalars(tag):
        return [(event.step, event.value) for event in found.Scalars(tag)]

    assert scalars("loss") == [(64, 0.5), (128, 0.25)]
    assert scalars("error_by_log_snr/-4 to 0") == [(64, 0.25), (128, 0.125)]
    assert scalars("error_by_log_snr/0 to 4") == [(128, 2.0)]


@pytest.mark.parametrize(("logger", "extra"), [(TensorBoard, "log"), (WandB, "wandb")])
def test_missing_packages_are_named(tmp_path, monkeypatch, logger, extra):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=rf"pip install 'sde_gen\[{extra}\]'"):
        logger(tmp_path)


def test_tensorboard_purges_repeated_steps(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, loss in ((0, 1.0), (64, 2.0)):
        board = TensorBoard(tmp_path)
        board.on_train_start(start, 256)
        for images in range(start + 64, 193, 64):
            board.on_log({"images": images, "loss": loss})
        board.on_train_end(192)
    found = events.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [
        (64, 1.0),
        (128, 2.0),
        (192, 2.0),
    ]
