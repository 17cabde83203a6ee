"""Defaults in Python equal those of conf/: a notebook and the command line build the same object."""

import inspect

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

import sde_gen as sg
from tests.helpers.catalogue import CONF, names

VARIANTS = {
    ("conditioning", "target"): {"dropout"},
    ("metric", "vlb_last_step"): {"steps", "data_term"},
    ("conditioning", "text_control"): {"dropout"},
    ("metric", "vlb"): {"data_term"},
    ("metric", "vlb_density"): {"data_term"},
    ("sde", "linear"): {"breakpoints"},
    ("solver", "scipy_ode"): {"middle"},
    ("solver", "torch_diffeq"): {"middle"},
}
"""Arguments of a yaml that differ on purpose: one of several settings of a class, or an example."""


def node(name, key=None):
    config = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    return config if key is None else config[key]


def choice(command, kind):
    """The default file of a kind in a command."""
    (name,) = (
        entry[key]
        for entry in node(command, "defaults")
        if isinstance(entry, dict)
        for key in entry
        if key.split("@")[0] == kind
    )
    return instantiate(OmegaConf.load(CONF / kind / f"{name}.yaml"))


def test_denoising_score_matching_has_the_defaults_of_training():
    objective = sg.DSM()
    assert objective.time_sampler == choice("train", "time_sampler")
    assert objective.weighting == choice("train", "weighting")
    assert objective.pointwise_loss == choice("train", "pointwise_loss")
    assert objective.training_noise == choice("train", "training_noise")


def test_network_denoiser_has_the_parametrization_of_training():
    denoiser = sg.NetworkDenoiser(net=sg.model.MLP(shape=(2,)), sde=sg.sde.VP())
    assert denoiser.parametrization == choice("train", "parametrization")
    assert denoiser.sde == choice("train", "sde")


def test_sampler_has_the_defaults_of_the_command():
    command, sampler = node("sample"), sg.Sampler()
    assert (sampler.solver, sampler.grid) == (choice("sample", "solver"), choice("sample", "grid"))
    assert sampler.steps == command["steps"]
    assert sampler.denoise_final == command["sampler"]["denoise_final"]
    assert sampler.final_gain == command["sampler"]["final_gain"]


def test_log_prob_has_the_defaults_of_evaluation():
    parameters = inspect.signature(sg.log_prob).parameters
    for kind in ("integrator", "divergence"):
        assert parameters[kind].default == choice("evaluate", kind)


FILES = [
    (kind, name)
    for kind in sorted(path.name for path in CONF.iterdir() if path.is_dir())
    if kind not in ("hydra", "recipe")
    for name in names(kind)
]


@pytest.mark.parametrize(("kind", "name"), FILES, ids=lambda value: value)
def test_yaml_holds_the_defaults_of_its_constructor(kind, name):
    config = node(f"{kind}/{name}")
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    for key in config.keys() & parameters.keys() - VARIANTS.get((kind, name), set()):
        value, default = config[key], parameters[key].default
        if default is inspect.Parameter.empty or (isinstance(value, str) and value.startswith(("???", "${"))):
            continue
        if isinstance(value, dict | list) or type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            continue  # objects: the classes inside have yaml files, or are compared above
        assert value == default, f"{key}: yaml {value}, constructor {default}"
