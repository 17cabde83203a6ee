"""Objects that a stored configuration may build: every class and function of the package is tried in every place."""

import collections.abc
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

import sde_gen
from sde_gen.cli import trusted
from sde_gen.cli.annotations import signature
from sde_gen.cli.data_spec import DataSpec
from sde_gen.data import HuggingFace
from sde_gen.objective import CrossEntropy
from tests.helpers import stored_run
from tests.helpers.catalogue import CONF, names

HOMES = {
    "adapter": ("model.adapter",),
    "augmentation": ("data.augment", "data.edm_augmentation"),
    "codec": ("data.codec",),
    "compile": ("training.compile",),
    "conditioning": ("data.conditioning",),
    "data": ("data",),
    "distributed": ("distributed",),
    "ema": ("training.ema",),
    "engine": ("training.config",),
    "grid": ("grid",),
    "lr_schedule": ("training.lr_schedule",),
    "model": ("model",),
    "objective": ("objective",),
    "optimizer": ("training.optimizer",),
    "parametrization": ("denoiser.parametrization",),
    "pointwise_loss": ("objective.pointwise_loss",),
    "precision": ("training.precision",),
    "sde": ("sde",),
    "solver": ("solver", "inverse"),
    "step_sampler": ("objective.step_sampler",),
    "time_sampler": ("objective.time_sampler",),
    "training_noise": ("objective.training_noise",),
    "weighting": ("objective.weighting",),
}
"""Packages of the classes of every place."""

TABLES = {
    f"sde_gen.sde.ddpm.{name}_betas" for name in ("linear", "scaled_linear", "cosine", "sigmoid", "zero_snr")
}
"""The functions that a configuration may call: numbers in, numbers out."""


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    """Every class and function of the package by its name."""
    for module in pkgutil.walk_packages(sde_gen.__path__, "sde_gen."):
        importlib.import_module(module.name)
    return {
        f"{name}.{key}": value
        for name, module in list(sys.modules.items())
        if name.startswith("sde_gen")
        for key, value in vars(module).items()
        if getattr(value, "__module__", None) == name
        and (inspect.isclass(value) or inspect.isfunction(value))
    }


def admitted(kind: Any, among: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the classes that a place of this kind accepts."""
    found = {}
    for name, value in among.items():
        try:
            trusted._check({"_target_": name, **more}, kind, trusted._Place("place", ()))
        except ValueError:
            continue
        found[name] = value
    return found


def targets(node: Any) -> set[str]:
    """All that a configuration builds."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {node["_target_"]} if isinstance(node, dict) and "_target_" in node else set()
    return own.union(*map(targets, inner))


def test_every_place_takes_its_kind_and_nothing_else(everything: dict[str, Any]) -> None:
    assert set(HOMES) == set(trusted.PLACES)
    for place, kind in trusted.PLACES.items():
        found = admitted(kind, everything)
        ours = {get_object(OmegaConf.load(CONF / place / f"{name}.yaml")._target_) for name in names(place)}
        assert set(found.values()) >= ours, place
        if place == "objective":
            assert CrossEntropy in found.values()
        homes = tuple(f"sde_gen.{home}." for home in HOMES[place])
        assert all(name.startswith(homes) for name in found), place
        assert all(inspect.isclass(value) and not inspect.isabstract(value) for value in found.values()), (
            place
        )


def test_every_argument_of_what_is_taken_takes_its_kind_and_nothing_else(everything: dict[str, Any]) -> None:
    """Places within places, to any depth: no function but the tables, no class that does anything when it is made."""
    kinds: list[Any] = []
    waiting, functions, classes = list(trusted.PLACES.values()), set(), set()
    while waiting:
        kind = waiting.pop()
        if kind in kinds or kind in (bool, int, float, str, type(None), Any, ...):
            continue
        kinds.append(kind)
        origin = typing.get_origin(kind)
        if origin in (typing.Union, types.UnionType, collections.abc.Sequence, list, tuple):
            waiting += typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            continue
        for partial in (False, True):
            for name, value in admitted(kind, everything, _partial_=partial).items():
                (classes if inspect.isclass(value) else functions).add(name)
                waiting += signature(value)[1].values()
    assert len(kinds) > 30
    assert functions == TABLES
    homes = {home.split(".")[0] for homes in HOMES.values() for home in homes} | {"ode"}  # of a solver
    encoders = {name for name in classes if name.startswith("sde_gen.interop.transformers.")}  # of texts
    assert {name.split(".")[1] for name in classes - encoders} <= homes
    assert not any(name.startswith("sde_gen.training.callbacks") for name in classes)


WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "subprocess.Popen",
    "os.system",
}
_watched: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    mode = str(arguments[1]) if event == "open" else "r"
    if event in WRITES or event.startswith("socket.") or any(letter in mode for letter in "wax+"):
        _watched.append(f"{event} {arguments}")


sys.addaudithook(_audit)


def fill(node: dict, known: dict) -> None:
    """Fill in what a yaml, or a node inside it, leaves open."""
    for key, value in node.items():
        if value == "???":
            node[key] = known.get(key, "x")
        elif isinstance(value, dict):
            fill(value, known)


@pytest.mark.long
def test_nothing_that_is_taken_writes_when_it_is_made() -> None:
    """No file, folder, connection or process: what is made by reading is made by other methods."""
    global _watching
    data_spec = {"shape": [3, 16, 16], "levels": 256, "classes": 3, "num_classes": 3, "times": [1.0, 0.5]}
    data_spec |= {"log_snrs": [-5.0, 5.0], "ratios": [10.0, 0.1], "low": [0.0], "high": [1.0], "codes": 3}
    for place in trusted.PLACES:
        for name in names(place):
            node = OmegaConf.to_container(OmegaConf.load(CONF / place / f"{name}.yaml"))
            node.pop("defaults", None)  # names other files
            fill(node, data_spec)
            given = {}
            if name in ("mlp", "modulated_mlp", "vector_encoder"):
                given["shape"] = [2]
            if name == "token_transformer":
                given["shape"] = [1, 4, 4]
            elsewhere = {
                ("codec", "codes"),
                ("codec", "latent"),
                ("conditioning", "encoded_text"),
                ("model", "controlled"),
            }  # they open a run or an encoder
            if place == "distributed" or "${" in str(node) or (place, name) in elsewhere:
                continue  # there are no other processes; what refers to other parts is tried without them
            instantiate({**node, **given}, _convert_="all")  # what is imported late is imported by now
            _watched.clear()
            _watching = True
            try:
                instantiate({**node, **given}, _convert_="all")
            finally:
                _watching = False
            assert not _watched, (place, name, _watched)


VP = {"_target_": "sde_gen.sde.VP"}
EPS = {"_target_": "sde_gen.denoiser.parametrization.Eps"}
BOARD = {"_target_": "sde_gen.training.TensorBoard", "folder": "board"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"codec": BOARD}, "as codec, where Codec is expected"),
        ({"parametrization": BOARD}, "where Parametrization is expected"),
        (
            {"parametrization": {**EPS, "label": BOARD}},
            "as parametrization.label, where NoiseLabel is expected",
        ),
        ({"model": BOARD}, "where a network is expected"),
        (
            {"model": {"_target_": "sde_gen.model.unet.centered.CenteredInput", "net": BOARD}},
            "as model.net, where a network",
        ),
        ({"sde": EPS}, "as sde, where SDE is expected"),
        ({"sde": {**VP, "beta_min": VP}}, "as sde.beta_min, where float is expected"),
        ({"sde": {**VP, "beta_min": "x"}}, "sde.beta_min is 'x'; expected float"),
        ({"sde": {**VP, "beta_min": [1.0]}}, "sde.beta_min is .*; expected float"),
        ({"sde": {**VP, "beta_least": 1.0}}, "has the argument 'beta_least', which VP does not take"),
        ({"sde": {**VP, "_partial_": "yes"}}, "_partial_ with true or false"),
        ({"sde": {**VP, "_partial_": True}}, "where SDE is expected"),
        ({"sde": {**VP, "_args_": [1]}}, "no other word with an underscore"),
        ({"sde": {"_target_": 3}}, "the name of a class"),
        ({"sde": {"_target_": "sde_gen.sde.SDE"}}, "where SDE is expected"),
        ({"sde": {"_target_": "sde_gen.sde.no_such_module.VP"}}, "cannot be imported"),
        ({"sde": {"_target_": "sde_gen..VP"}}, "cannot be imported"),
        ({"sde": {"_target_": "sde_gen"}}, "not part of sde_gen"),
        ({"sde": {"_target_": "sde_gen.sde.ddpm.np.load"}}, "not part of sde_gen"),
        ({"sde": {"_target_": "sde_gen.sde.DDPM", "betas": "${oc.env:HOME}"}}, "interpolation"),
        (
            {"sde": {"_target_": "sde_gen.sde.DDPM", "betas": {"_target_": "sde_gen.cli.run.open_run"}}},
            "betas",
        ),
        ({"sde": []}, r"sde is \[\]; expected SDE"),
        ({"sde": {"beta_min": 0.1}}, "sde is .*; expected SDE"),
        ({"sde": "vp"}, "sde is 'vp'; expected SDE"),
        ({"model": {"_target_": "sde_gen.model.MLP", "width": 10**9}}, "size of 1000000000"),
        ({"data": BOARD}, "where DatasetSource is expected"),
        ({"optimizer": BOARD}, "where Optimizer is expected"),
        ({"engine": BOARD}, "where TrainingConfig is expected"),
        ({"distributed": BOARD}, "where Strategy is expected"),
        ([], "expected one part for each kind"),
    ],
)
def test_what_does_not_belong_there_is_named(config: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        trusted.check(config)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)


def test_great_depth_and_great_numbers_of_values_are_refused_at_once() -> None:
    deep: Any = {"_target_": "sde_gen.denoiser.parametrization.Eps"}
    for _ in range(90):
        deep = {"_target_": "sde_gen.denoiser.parametrization.LearnedVariance", "mean": deep}
    with pytest.raises(ValueError, match="nested more than"):
        trusted.check({"parametrization": deep})
    with pytest.raises(ValueError, match="values"):
        trusted.check({"sde": {"_target_": "sde_gen.sde.DDPM", "betas": [0.1] * 10**6}})


def test_what_no_command_builds_is_not_passed_on() -> None:
    config = {"sde": VP, "loggers": [BOARD], "run": "x", "extra": {"_target_": "os.system"}}
    assert trusted.check(config) == {"sde": VP}


def test_packages_of_the_user_are_taken_when_they_are_trusted(tmp_path: Path, monkeypatch: Any) -> None:
    """With any argument; but where they take no kind in particular, no more than other places do."""
    (tmp_path / "ours_alone.py").write_text("class Own:\n    def __init__(self, part, **more): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "ours_alone.Own", "part": VP, "number": [1, {"a": "b"}]}
    with pytest.raises(ValueError, match=r"add trust=\[ours_alone\]"):
        trusted.check({"sde": node})
    assert trusted.check({"sde": node}, ("ours_alone",)) == {"sde": node}
    with pytest.raises(ValueError, match="TensorBoard"):
        trusted.check({"sde": {**node, "part": BOARD}}, ("ours_alone",))


def test_stored_data_fetch_nothing_and_make_no_copies(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "header.json").touch()
    data = {"download": True, "cache": str(tmp_path / "new"), "index": str(tmp_path / "made"), "root": "x"}
    assert trusted.reading(data) == {**data, "download": False, "cache": None}


def test_a_hostile_run_folder_writes_nothing(tmp_path: Path) -> None:
    config = stored_run.config_of("data=moons", "model=mlp", "codec=affine", "model.width=8")
    path = stored_run.write(tmp_path / "run", config, DataSpec(shape=(2,), levels=None, classes=0))
    stored_run.opened(tmp_path / "run")
    header = stored_run.header_of(path)
    for place in ("codec", "parametrization", "model", "sde", "data"):
        changed = {**config, place: {**BOARD, "folder": str(tmp_path / "loot")}}
        stored_run.write_header(path, {**header, "about": {**header["about"], "config": changed}})
        with pytest.raises(ValueError, match=f"as {place}"):
            stored_run.opened(tmp_path / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_stored_configuration_fetches_nothing_unless_the_user_asks():
    """Neither by default nor by leaving the setting out."""
    for more in ({}, {"download": True}):
        for target in ("HuggingFace", "FashionMNIST"):
            data = {"_target_": f"sde_gen.data.{target}", **more}
            assert trusted.reading(data)["download"] is False
    assert "download" not in trusted.reading({"_target_": "sde_gen.data.ImageFolder", "root": "x"})
    source = HuggingFace(path="x", download=False)
    assert source.settings() == HuggingFace(path="x").settings()
    assert "download" in source.idle, "so that the user may ask for it: data.download=true"
