"""Every setting of every command as null, text, list, fraction, negative and huge: one line each, never a traceback."""

import functools
import random

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import (
    benchmark,
    build,
    convert,
    encode,
    evaluate,
    instantiate,
    options,
    sample,
    train,
    verify,
)
from sde_gen.cli.app import MISTAKES, format_error
from sde_gen.cli.config_files import CONF, choices, names, required
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.evaluation import MetricEvaluation
from sde_gen.cli.generation import SampleGeneration
from sde_gen.cli.versions import package_versions
from sde_gen.data.digits import Digits
from sde_gen.evaluation.solver_comparison import Comparison
from sde_gen.evaluation.solver_tuning import Tuner
from sde_gen.training import Trainer

COMMANDS = {
    "train": train,
    "sample": sample,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "convert": convert,
    "verify": verify,
    "encode": encode,
}
TINY = ["model.width=8", "model.blocks=1", "model.attention_levels=[]", "run=run"]
CALLS = [
    ("train", TINY),
    ("train", ["objective=cross_entropy", "model.width=8", "model.blocks=1", "run=classifier"]),
    ("sample", ["run=RUN", "n=2"]),
    ("sample", ["run=RUN", "n=2", "task=superres", "image=0"]),
    ("sample", ["run=RUN", "n=2", "guidance=autoguidance", "guidance.weak=RUN"]),
    ("evaluate", ["run=RUN"]),
    ("benchmark", ["run=RUN"]),
    ("benchmark", ["run=RUN", "tune=true"]),
    ("convert", ["run=RUN", "to=diffusers", "out=given"]),
    ("convert", ["file=nowhere", "from=edm", "data=digits", "out=taken"]),
    ("verify", ["solvers=[heun]", "sdes=[vp]"]),
]
VALUES = [None, "text", "", [1, "a"], [], 0.5, -1, 10**30, 2.0**70, float("nan"), True, {"a": 1}]
KINDS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "recipe"))


class Begun(Exception):
    """The work has begun: everything is constructed."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a network that was never trained."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    config = composed("train", TINY)
    data_spec = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
    net = build.model(config, data_spec).net.state_dict()
    about = {
        "config": OmegaConf.to_container(config, resolve=True),
        "facts": vars(data_spec),
        "versions": package_versions(),
    }
    checkpoint.save(folder / "checkpoints", Checkpoint(images=0, net=net, ema=net, optimizer={}, about=about))
    return folder


@pytest.fixture(autouse=True)
def _no_work(monkeypatch, tmp_path):
    def begin(*_, **__):
        raise Begun

    monkeypatch.chdir(tmp_path)
    for owner, name in (
        (Trainer, "run"),
        (SampleGeneration, "samples"),
        (MetricEvaluation, "results"),
        (Comparison, "measure"),
        (Tuner, "errors"),
        (verify, "verify_solver"),
        (convert, "load_run"),
    ):
        monkeypatch.setattr(owner, name, begin)
    load = functools.cache(Digits.load)
    monkeypatch.setattr(Digits, "load", lambda source: load(source))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    GlobalHydra.instance().clear()


def composed(command, words):
    """The configuration of a command, composed as Hydra does."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, words, return_hydra_config=True)
    with open_dict(config):
        config.hydra.mode = "RUN"
        config.hydra.overrides.task = words
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


def leaves(node, prefix=""):
    """The places of all values, and of the nodes that hold them."""
    for key in node:
        child = node._get_node(key)
        yield f"{prefix}{key}"
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing()):
            if not child._is_interpolation():
                yield from leaves(child, f"{prefix}{key}.")


def mutated(config, place, value):
    """A copy with another value in a place."""
    copy = config.copy()
    parent, _, name = place.rpartition(".")
    node = OmegaConf.select(copy, parent) if parent else copy
    with open_dict(node):
        node[name] = value
    return copy


def answer(work):
    """The line that answers a mistake; None where the work begins."""
    try:
        work()
    except Begun:
        return None
    except MISTAKES as error:
        line = format_error(error)
        assert line.strip()
        assert "\n" not in line
        assert len(line) < 600, line
        return line
    return None


def try_all(command, config, cases):
    for place, value in cases:
        try:
            answer(lambda: COMMANDS[command].main.run(mutated(config, place, value)))  # noqa: B023
        except Exception as error:
            raise AssertionError(f"{command}: {place}={value!r} ended in {error!r}") from error


def cases_of(config):
    return [(place, value) for place in leaves(config) for value in VALUES]


@pytest.mark.parametrize(("command", "words"), CALLS, ids=lambda value: str(value))
def test_some_wrong_settings_give_a_one_line_error(command, words, run):
    config = composed(command, [word.replace("RUN", str(run)) for word in words])
    assert answer(lambda: COMMANDS[command].main.run(config.copy())) is None or "file=nowhere" in words
    cases = cases_of(config)
    mine = {*options.OPTIONS[command], *required(command)}
    own = [case for case in cases if case[0] in mine]
    draw = random.Random(command)
    try_all(command, config, draw.sample(own, min(len(own), 8)))
    try_all(command, config, draw.sample(cases, 4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("command", "words"), CALLS, ids=lambda value: str(value))
def test_every_wrong_setting_gives_a_one_line_error(command, words, run):
    config = composed(command, [word.replace("RUN", str(run)) for word in words])
    try_all(command, config, cases_of(config))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_argument_of_every_file_gives_a_one_line_error(kind):
    """Every constructor accepts the value or explains its error in a line."""
    whole = OmegaConf.create({})
    for command in ("evaluate", "sample"):
        whole.merge_with(OmegaConf.to_container(composed(command, ["run=x"])))
    for name in names(kind):
        with open_dict(whole):
            whole[kind] = OmegaConf.load(CONF / kind / f"{name}.yaml")
        for place, value in cases_of(OmegaConf.create({kind: whole[kind]})):
            changed = mutated(whole, place, value)

            def construct(changed=changed):
                options.check_nodes(changed)
                node = changed[kind]
                if isinstance(node, DictConfig) and "_target_" in node:
                    instantiate.make(node)

            try:
                answer(construct)
            except Exception as error:
                raise AssertionError(f"{kind}={name}: {place}={value!r} ended in {error!r}") from error


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_has_its_kind(command):
    """A setting of a command's yaml is an option, or an argument of an object."""
    config = composed(command, [] if command in ("train", "verify") else ["run=somewhere"])
    described = {
        place
        for place in leaves(config)
        for parent in [place.rpartition(".")[0]]
        if parent and "_target_" in OmegaConf.select(config, parent)
    }
    nodes = {
        place
        for place in leaves(config)
        if isinstance(OmegaConf.select(config, place, throw_on_missing=False), DictConfig | ListConfig)
        and isinstance(OmegaConf.select(config, place), DictConfig)
    }
    groups = set(choices(command))
    unknown = set(leaves(config)) - described - nodes - groups - set(options.OPTIONS[command])
    inside = {place for place in unknown if any(place.startswith(f"{one}.") for one in described)}
    assert unknown - inside == set()
    assert {key for key in options.OPTIONS[command] if not key.startswith("guidance.")} <= set(leaves(config))
