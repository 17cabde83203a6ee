"""Configuration is the constructor: every yaml binds to a signature, every recipe and every command composes."""

import inspect

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import OmegaConf

from sde_gen.cli import build, trusted
from sde_gen.cli.data_spec import DataSpec
from tests.helpers.catalogue import CONF, names

NO_KINDS = ("hydra", "recipe")
KINDS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in NO_KINDS)
FILES = [(kind, name) for kind in KINDS for name in names(kind)]
COMMANDS = (
    "train",
    "sample",
    "evaluate",
    "benchmark",
    "bundle",
    "soup",
    "compare",
    "encode",
    "demo",
    "verify",
)


def nodes(config):
    """All parts of a configuration that name a target."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from nodes(value)


@pytest.fixture(autouse=True)
def _fresh_hydra():
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(("kind", "name"), FILES, ids=lambda value: value)
def test_yaml_is_the_constructor(kind, name):
    config = OmegaConf.to_container(OmegaConf.load(CONF / kind / f"{name}.yaml"), resolve=False)
    config.pop("defaults", None)  # other files that go with it
    assert "_target_" in config
    for node in nodes(config):
        target = get_object(node["_target_"])
        signature = inspect.signature(target)
        given = {key for key in node if not key.startswith("_")}
        if node.get("_partial_"):
            assert given <= set(signature.parameters)
        else:
            assert given == set(signature.parameters), node["_target_"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(command, [])


@pytest.mark.parametrize("recipe", names("recipe"))
def test_every_recipe_composes_and_fits_its_constructors(recipe):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"recipe={recipe}", "run=somewhere"])
    for node in nodes(OmegaConf.to_container(config, resolve=True)):
        target = get_object(node["_target_"])
        given = {key for key in node if not key.startswith("_")}
        assert given <= set(inspect.signature(target).parameters), node["_target_"]


MILLIONS = {
    "edm_cifar10_vp": (55.7, 0),
    "edm_cifar10_ve": (56.4, 0),
    "edm_imagenet64_adm": (296, 1000),
    "score_sde_cifar10_vp": (61.8, 0),
    "score_sde_cifar10_ve": (62.8, 0),
}
"""Published numbers of parameters in millions, with the number of classes."""


@pytest.mark.long
@pytest.mark.parametrize("recipe", names("recipe"))
def test_every_recipe_builds_the_network_of_its_source(recipe):
    """Of the size of its data, without memory; and nothing of it is refused in a stored configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"recipe={recipe}", "run=somewhere"])
    millions, classes = MILLIONS.get(recipe, (None, 10))
    shape = (config.data.get("channels", 1), *[config.data.get("size", 28)] * 2)
    vectors = config.conditioning._target_.endswith("Vector")
    spec = DataSpec(shape=(2,) if vectors else shape, levels=None if vectors else 256, classes=classes)
    images, texts = {"shape": list(shape), "levels": 256}, {"length": 8, "tokenizer": {"words": ["one"]}}
    given = build.conditioning(config, spec, {**images, **texts, "mean": [0.0], "std": [1.0]})
    with torch.device("meta"):
        net = build.network(config, spec, given)
    if millions is not None:
        count = sum(parameter.numel() for parameter in net.parameters())
        assert count / 1e6 == pytest.approx(millions, rel=1e-3)
    plain = OmegaConf.to_container(config, resolve=True)
    assert trusted.check(plain) == {key: plain[key] for key in trusted.PLACES if plain.get(key) is not None}


@pytest.mark.long
def test_every_choice_of_a_training_composes():
    """No yaml clashes with the rest of the command's configuration, or is refused when the run is opened again."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        choices = {kind: names(kind) for kind in KINDS if kind in compose("train")}
        for number in range(max(map(len, choices.values()))):  # one of every kind at a time
            config = compose(
                "train", [f"{kind}={those[number % len(those)]}" for kind, those in choices.items()]
            )
            for kind in choices:
                assert config[kind]._target_
                trusted.check({kind: OmegaConf.to_container(config[kind], resolve=True)})


def test_every_integrator_of_an_evaluation_composes():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("evaluate", ["integrator.steps=5"]).metric.bpd.integrator.steps == 5
        for name in names("integrator"):
            node = compose("evaluate", [f"integrator={name}"]).integrator
            given = {key for key in node if not key.startswith("_")}
            assert given == set(inspect.signature(get_object(node._target_)).parameters), name
