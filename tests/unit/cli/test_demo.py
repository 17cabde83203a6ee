"""The page of the demo: what its button draws, and its inputs."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.cli import demo as module
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.demo import EVERY_CLASS, Demo, page, without_settings
from sde_gen.cli.loaded_run import LoadedRun
from sde_gen.utils.images import as_picture
from tests.helpers.stored_run import SMALL, config_of, opened, write

SPEC = DataSpec(shape=(1, 8, 8), levels=17, classes=10)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "plain"
    write(folder, config_of(*SMALL), SPEC)
    return Demo(run=opened(folder))


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "class"
    write(folder, config_of(*SMALL, "conditioning=class"), SPEC)
    demo = Demo(run=opened(folder))
    generator = torch.Generator().manual_seed(0)
    for parameter in demo.run.denoiser.net.parameters():  # so that labels have an effect
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return demo


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "text"
    words = ["model=unet_cross", "model.width=8", "model.head_channels=8", "model.inputs.encoder.depth=1"]
    words += ["model.inputs.encoder.heads=2", "conditioning=text", "conditioning.length=4"]
    write(folder, config_of(*words, "conditioning.tokenizer.words=[three,top,left]"), SPEC)
    demo = Demo(run=opened(folder))
    generator = torch.Generator().manual_seed(0)
    for parameter in demo.run.denoiser.net.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return demo


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def test_the_button_draws_the_samples_of_the_run(plain):
    picture, cost = plain.draw(3, 4, "straight_adams", "angle", 5)
    same = LoadedRun(plain.run).sample(4, seed=3, sampler=module.Sampler(steps=5))
    assert np.array_equal(pixels(picture), pixels(as_picture(plain.run.codec.decode_image(same))))
    assert cost.startswith("6 network evaluations per sample, ")
    other, _ = plain.draw(4, 4, "straight_adams", "angle", 5)
    assert not np.array_equal(pixels(picture), pixels(other))
    assert (plain.classes, plain.guided) == ([], False)


def test_classes_and_guidance(labeled):
    assert labeled.guided
    assert labeled.classes == [str(label) for label in range(10)]
    settings = (0, 2, "heun", "log_snr", 3)
    one, cost = labeled.draw(*settings, {"label": 7}, 1.0)
    same = LoadedRun(labeled.run).sample(
        2, label=torch.tensor([7, 7]), sampler=module.Sampler(solver=_heun(), grid=_log_snr(), steps=3)
    )
    assert np.array_equal(pixels(one), pixels(as_picture(labeled.run.codec.decode_image(same))))
    guided, twice = labeled.draw(*settings, {"label": 7}, 3.0)
    assert not np.array_equal(pixels(one), pixels(guided))
    assert float(twice.split()[0]) == 2 * float(cost.split()[0])
    every, _ = labeled.draw(*settings)
    assert not np.array_equal(pixels(one), pixels(every))


def _heun():
    return module.instantiate.make(module.load("solver", "heun"))


def _log_snr():
    return module.instantiate.make(module.load("grid", "log_snr"))


def test_wrong_settings_are_value_errors(plain, labeled):
    with pytest.raises(ValueError, match="is unknown"):
        plain.draw(0, 1, "heunn", "angle", 3)
    with pytest.raises(ValueError, match="class '77' is unknown"):
        labeled.typed("label", "77")
    assert [labeled.typed("label", value) for value in (EVERY_CLASS, "7")] == [None, 7]
    with pytest.raises(ValueError, match="the run was trained without captions"):
        labeled.draw(0, 1, "heun", "angle", 3, {"text": "one"})


def test_texts_and_vectors_reach_the_network_as_in_the_command(texts):
    settings = (0, 2, "heun", "log_snr", 3)
    assert (texts.run.conditioning.names, texts.guided, texts.classes) == (("text",), True, [])
    typed = texts.typed("text", "three top left")
    found, _ = texts.draw(*settings, {"text": typed})
    same = LoadedRun(texts.run).sample(
        2, text="three top left", sampler=module.Sampler(solver=_heun(), grid=_log_snr(), steps=3)
    )
    assert np.array_equal(pixels(found), pixels(as_picture(texts.run.codec.decode_image(same))))
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    given, without = (
        texts._model(2, {"text": texts.typed("text", text)}, 1.0)(x, t).x0 for text in ("three top left", "")
    )
    assert not torch.equal(given, without)
    assert torch.equal(without, texts.run.denoiser(x, t).x0)
    with pytest.raises(ValueError, match="a guidance scale of 2 needs a condition: give text"):
        texts.draw(*settings, {}, 2.0)
    assert texts.typed("vector", "[0.5, -1]") == [0.5, -1.0]
    with pytest.raises(ValueError, match="expected numbers separated by commas"):
        texts.typed("vector", "red")


def test_menus_list_names_without_required_settings():
    assert {"heun", "dpm_solver_pp"} <= set(without_settings("solver"))
    assert "angle" in without_settings("grid")
    assert "listed" not in without_settings("grid")


class Widget:
    """Any part of a page, as gradio makes them: used as a context, with events."""

    made: list[tuple[str, tuple, dict]]

    def __init__(self, *arguments, **settings):
        Widget.made.append((type(self).__name__, arguments, settings))
        self.handler = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def click(self, function, inputs, outputs):
        Widget.made.append(("click", (function, inputs, outputs), {}))

    load = click


class Error(Exception):
    """The message that gradio shows."""


def stub():
    names = "Blocks Row Column Number Slider Dropdown Button Image Textbox Markdown".split()
    Widget.made = []
    return SimpleNamespace(Error=Error, **{name: type(name, (Widget,), {}) for name in names})


def test_the_page_has_an_input_for_every_setting(plain, labeled):
    for source, count in ((plain, 5), (labeled, 7)):
        page(source, 64, stub())
        clicks = [arguments for name, arguments, _ in Widget.made if name == "click"]
        function, inputs, outputs = clicks[0]
        assert len(inputs) == count
        assert len(outputs) == 2
        picture, _ = function(0, 1, "ddim", "angle", 2, *(["3", 2.0] if count == 7 else []))
        assert isinstance(picture, Image.Image)
        with pytest.raises(Error, match="is unknown"):
            function(0, 1, "no solver", "angle", 2)


def test_a_missing_gradio_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"no {name} or what it needs")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"\(no gradio or what it needs\): pip install 'sde_gen\[demo\]'"):
        module.demo(None)
