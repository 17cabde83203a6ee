"""Overrides: what is answered before Hydra composes, and what is handed on to it."""

import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from sde_gen.cli.config_files import CONF, suggest
from sde_gen.cli.override_syntax import folder_name
from sde_gen.cli.overrides import validate_overrides


@pytest.fixture(autouse=True)
def _fresh_hydra():
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def composed(command, *words):
    """The configuration of a command line, after the preflight."""
    written = validate_overrides(command, words)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, written)


@pytest.mark.parametrize(
    "text",
    ["2026_11_28", "1e3", "42", "007", "true", "inf", "a=b", "x(1)", "[a", "it's=1", "a b=c", "c=\\d\\"],
)
def test_paths_are_text_whatever_they_look_like(text):
    assert composed("sample", f"run={text}").run == text


def test_arguments_of_constructors_that_are_paths_are_text_too():
    assert composed("train", "data=image_folder", "data.root=1_000", "run=1e3").data.root == "1_000"
    assert composed("sample", "run=x", "guidance=autoguidance", "guidance.weak=1e3").guidance.weak == "1e3"
    config = composed("evaluate", "run=x", "checkpoint=000000000256", "out=2026_11_28")
    assert (config.checkpoint, config.out) == ("000000000256", "2026_11_28")


def test_paths_that_were_text_already_stay_what_they_were():
    config = composed("sample", "run=a/b", "out=${run}/x", "mask=null", "image=3")
    assert (config.out, config.mask, config.image) == ("a/b/x", None, 3)
    assert composed("sample", 'run="a=b,c"').run == "a=b,c"


def test_a_sweep_over_paths_keeps_their_digits():
    words = validate_overrides("sample", ["-m", "run=1_0,x,1e3"])
    assert words[:2] == ["-m", "run='1_0','x','1e3'"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sample", ["run=x", "guidance=null", "task=null", "guidance@threshold=null"]),
        ("train", ["recipe=null"]),
        ("convert", ["out=x", "from=null", "to=null", "data=null"]),
    ],
)
def test_null_chooses_nothing_where_nothing_is_the_default(command, words):
    config = composed(command, *words)
    for word in words:
        if word.endswith("=null"):
            assert config.get(word[: -len("=null")].rpartition("@")[2]) is None


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("sample", "+n_samples=7", "nothing reads n_samples"),
        ("sample", "++guidance_scale=7", "nothing reads guidance_scale"),
        ("train", "++preview={n:4,foo:3}", "nothing reads preview.foo"),
        ("sample", "+sampler.foo=3", "nothing reads sampler.foo"),
        ("benchmark", "+data.root=d", "nothing reads data"),
        ("train", "+optimizer=adam", "write it without +"),
        ("sample", "~n", "sample needs n"),
        ("sample", "~nothing", "there is no setting"),
        ("train", "~engine", "train needs engine"),
        ("train", "lr=1e-3", "did you mean optimizer.lr?"),
        ("train", "engine.lr=1e-3", "did you mean optimizer.lr?"),
        ("train", "nonsense_that_is_nowhere=1", "--help lists what there is"),
        ("train", "data=null", "train needs one of data; there are arrays"),
        ("train", "ema=null", "train needs one of ema"),
        ("sample", "solver=null", "sample needs one of solver"),
        ("train", "data=5", "data=5 is unknown"),
        ("sample", "label=a=b", "'label=\"a=b\"'"),
        ("sample", "run=a,b", "'run=\"a,b\"'"),
        ("sample", "grid.t_max=(1", "quotes"),
        ("sample", "nonsense", "write key=value"),
        ("sample", "sde=vp", "sample takes no sde"),
        ("train", "sde=vpp", "did you mean"),
    ],
)
def test_mistakes_give_a_one_line_error(command, word, said):
    with pytest.raises(ValueError, match=re.escape(said)) as found:
        validate_overrides(command, ["run=x", word] if word != "run=a,b" else [word])
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 700


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("evaluate", "+metric@metric.mine=bpd"),
        ("train", "++engine.images=5"),
        ("train", "~time_sampler.distribution"),
        ("train", "~recipe"),
        ("sample", "~guidance"),
        ("train", "++hydra.verbose=true"),
    ],
)
def test_what_is_read_may_be_added_or_deleted(command, word):
    assert validate_overrides(command, ["run=x", word]) == ["run=x", word]


def test_options_of_hydra_are_passed_on():
    assert validate_overrides("train", ["--cfg", "job", "run=x"]) == ["--cfg", "job", "run=x"]
    assert validate_overrides("train", ["--help"]) == ["--help"]


def test_jobs_of_a_sweep_are_named_by_what_is_swept_alone():
    words = validate_overrides("train", ["-m", "run=x", "model.width=8", "optimizer.lr=1e-3,3e-4"])
    assert words[-1] == "hydra.job.config.override_dirname.exclude_keys=[model.width,run]"


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=0.001", "engine.seed=1"],
        ["model.multipliers=[1,2,2]"],
        ["data.root=/a/b c", "x='q'"],
        [f"key{i}=value{i}" for i in range(40)],
    ],
)
def test_names_of_folders_need_no_quotes_and_fit(words):
    name = folder_name(words)
    parsed = OverridesParser.create().parse_override(f"run=runs/{name}")
    assert parsed.value() == f"runs/{name}"
    assert len(f"{name}") < 130
    assert re.fullmatch(r"[\w.+-]+", name)


def test_names_of_folders_tell_settings_apart():
    settings = [
        ["a=[1,2]"],
        ["a=[1,3]"],
        ["a=1_2"],
        ["a=1/2"],
        ["a=1"],
        ["a=" + "1" * 200],
        ["a=" + "1" * 199 + "2"],
    ]
    assert len({folder_name(words) for words in settings}) == len(settings)
    assert folder_name(["optimizer.lr=0.001"]) == "optimizer.lr_0.001"


def test_the_last_part_of_a_setting_is_matched_first():
    known = ["optimizer.lr", "optimizer.eps", "engine.images", "lr_schedule.warmup", "n"]
    assert suggest("lr", known) == "did you mean optimizer.lr?"
    assert suggest("imagess", known) == "did you mean engine.images?"
    assert suggest("warmup", known) == "did you mean lr_schedule.warmup?"
    assert suggest("qqq", [f"key{i}" for i in range(80)]) == "--help lists what there is"


@pytest.mark.parametrize(
    "key", ["loggers0", "loggers.0", "loggers[0]", "loggers.0.folder", "model.multipliers.9"]
)
def test_an_element_of_a_list_is_answered_with_the_whole_list(key):
    with pytest.raises(ValueError, match="is a list, given whole") as found:
        validate_overrides("train", [f"{key}=3"])
    name = re.match(r"[a-z.]*[a-z]", key.removesuffix(".0.folder"))[0]
    assert f"{name}=[" in str(found.value)
    assert "\n" not in str(found.value)
