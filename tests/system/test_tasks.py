"""Steered sampling as a user finds it: labels, guidance, tasks on images, and every mistake answered in a line."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sde_gen.cli.guidance_setup import apply_guidance, choose_conditions
from sde_gen.cli.run import load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data.conditioning import Label
from sde_gen.grid import Angle
from sde_gen.guidance import CFG
from sde_gen.inverse.method import SolverMethod
from sde_gen.inverse.projection import Projection
from sde_gen.inverse.task import Colorize, Deblur, Inpaint, Interpolate, Vary, psnr
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import Heun
from sde_gen.solver.callbacks import EffectiveSampleSize
from tests.helpers.catalogue import names
from tests.helpers.commands import enter, mistake

SHORT = [
    *(f"engine.{key}=256" for key in ("images", "log_every", "checkpoint_every")),
    "engine.validate=16",
    "optimizer.lr=1e-2",
    "lr_schedule.warmup=64",
]
TINY = [
    *SHORT,
    "model.width=8",
    "model.blocks=1",
    "model.attention_levels=[]",
    "engine.preview_every=1000",
    "preview.n=1",
    "preview.sampler.steps=1",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with classes, one without, and a classifier."""
    folder = tmp_path_factory.mktemp("tasks")
    enter("train", *TINY, "conditioning=class", f"run={folder / 'class'}")
    enter("train", *TINY, f"run={folder / 'plain'}")
    enter("train", *SHORT, "objective=cross_entropy", "model.width=8", f"run={folder / 'classifier'}")
    Image.fromarray(np.kron([[0, 1], [1, 1]], np.full((4, 4), 255)).astype(np.uint8)).save(
        folder / "mask.png"
    )
    return folder


def drawn(runs, run, out, *arguments, steps=3, n=3):
    """Return the arrays that a command saves."""
    enter("sample", f"run={runs / run}", f"out={out}", f"steps={steps}", f"n={n}", *arguments)
    return np.load(out / "samples.npz")["model_space"]


def opened(folder):
    return load_run(OmegaConf.create({"run": str(folder), "checkpoint": None, "trust": [], "device": "cpu"}))


@pytest.mark.long
def test_cfg_at_0_and_1_samples_what_the_unguided_models_sample_to_the_bit(runs):
    """On a network, through all steps of a solver."""
    run = opened(runs / "class")
    sampler, label = Sampler(solver=Heun(), grid=Angle(), steps=3), torch.tensor([3, 1, 4])

    def draw(denoiser):
        return sampler(denoiser, (3, 1, 8, 8), noise=PerSample(spawn_seeds(0, 3)))

    conditional, unconditional = draw(run.denoiser.bind(label=label)), draw(run.denoiser)
    assert not torch.equal(conditional, unconditional)
    assert torch.equal(draw(CFG(denoiser=run.denoiser, scale=1.0).bind(label=label)), conditional)
    assert torch.equal(draw(CFG(denoiser=run.denoiser, scale=0.0).bind(label=label)), unconditional)


@pytest.mark.long
def test_the_sample_command_guides(runs, tmp_path):
    plain = drawn(runs, "class", tmp_path / "plain", "label=[0,1,2]")
    one = drawn(runs, "class", tmp_path / "one", "label=[0,1,2]", "guidance=cfg", "guidance.scale=1")
    np.testing.assert_array_equal(one, plain)
    seen = [plain]
    for words in (
        ["guidance=cfg", "guidance.scale=3"],
        ["guidance=cfg", "guidance.scale=3", "guidance@threshold=dynamic_threshold", "threshold.limit=0.2"],
        ["guidance=autoguidance", "guidance.scale=2", f"guidance.weak={runs / 'class'}"],
        ["guidance=classifier", "guidance.scale=3", f"guidance.classifier={runs / 'classifier'}"],
    ):
        seen.append(drawn(runs, "class", tmp_path / str(len(seen)), "label=[0,1,2]", *words))
        assert np.isfinite(seen[-1]).all()
    assert not np.allclose(seen[1], plain)
    assert not np.allclose(seen[2], seen[1])
    np.testing.assert_allclose(seen[3], plain, atol=1e-5)  # a weak model that is the model itself
    assert not np.allclose(seen[4], plain)
    by_class = drawn(
        runs,
        "plain",
        tmp_path / "by",
        "label=3",
        "guidance=classifier",
        f"guidance.classifier={runs / 'classifier'}",
    )
    assert by_class.shape == plain.shape


def test_the_command_clips_to_the_range_of_the_data(runs, tmp_path):
    """The middles of the first and of the last level's bin, or what is given."""
    codec = opened(runs / "plain").codec
    low, high = (float(value) for value in codec.middles()[[0, -1]])
    plain = drawn(runs, "plain", tmp_path / "plain")
    clipped = drawn(runs, "plain", tmp_path / "clipped", "guidance@threshold=clip")
    given = drawn(
        runs, "plain", tmp_path / "given", "guidance=clip", f"guidance.low={low}", f"guidance.high={high}"
    )
    narrow = drawn(
        runs, "plain", tmp_path / "narrow", "guidance=clip", "guidance.low=-0.1", "guidance.high=0.1"
    )
    assert plain.min() < low or plain.max() > high
    assert low - 1e-6 <= clipped.min() <= clipped.max() <= high + 1e-6
    np.testing.assert_allclose(given, clipped, atol=1e-6)
    assert np.abs(narrow).max() < 0.1 + 1e-6


@pytest.mark.long
@pytest.mark.parametrize("method", names("method"))
def test_every_method_inpaints_what_is_hidden(runs, tmp_path, method):
    mask = runs / "mask.png"
    words = [
        "task=inpaint",
        "image=0",
        f"mask={mask}",
        f"method={method}",
        "grid=log_snr",
        "grid.ratio_max=20",
    ]
    x = drawn(runs, "plain", tmp_path, *words, steps=8, n=2)
    assert np.isfinite(x).all()
    image = np.load(tmp_path / "samples.npz")["given"][0]
    known = np.asarray(Image.open(mask)) > 0
    off, hidden_off = (np.abs(x - image)[..., part].mean() for part in (known, ~known))
    if method in (
        "diffpir",
        "projection",
        "repaint",
    ):  # the others lean on derivatives, here of a bad network
        assert off < 0.05 < 0.2 < hidden_off
    with Image.open(tmp_path / "samples.png") as picture:
        zoom = picture.height // 10
        assert picture.size == (zoom * (5 * 9 + 1), zoom * 10)  # image, measurement, two samples, deviation


@pytest.mark.long
def test_other_tasks(runs, tmp_path, capfd):
    for words in (
        ["task=deblur"],
        ["task=jpeg", "method=dps"],
        ["task=vary", "task.ratio=0.5"],
        ["task=superres", "factor=2"],
    ):
        x = drawn(runs, "plain", tmp_path, *words, "image=1", "grid.t_max=0.99")
        assert x.shape == (3, 1, 8, 8)
    assert "PSNR" in capfd.readouterr().out
    with Image.open(tmp_path / "samples.png") as picture:
        pixels = np.asarray(picture.convert("L"))[:: picture.height // 10, :: picture.height // 10]
    measured = pixels[1:9, 10:18]  # each of its pixels as a block
    small = measured[::2, ::2]
    assert (measured == np.kron(small, np.ones((2, 2)))).all()
    Image.fromarray(small).save(tmp_path / "small.png")
    drawn(runs, "plain", tmp_path, "task=superres", "factor=2", f"image={tmp_path / 'small.png'}")
    assert "PSNR" not in capfd.readouterr().out  # nobody knows the truth


def test_interpolation_begins_and_ends_with_the_images(runs, tmp_path):
    path = drawn(runs, "plain", tmp_path, "task=interpolate", "a=0", "b=1", steps=40, n=3)
    given = np.load(tmp_path / "samples.npz")["given"]
    assert np.abs(path[[0, 2]] - given).mean() < 0.05
    assert np.abs(path[1] - given).mean() > 0.1


@pytest.mark.long
def test_mistakes_are_answered(runs, tmp_path, capfd):
    plain, labeled = f"run={runs / 'plain'}", f"run={runs / 'class'}"
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inpaint = [plain, "task=inpaint", "image=0"]
    for words, answer in (
        ([labeled, "label=10"], "the classes are 0 to 9"),
        ([plain, "guidance=cfg"], "needs a run trained with conditions, such as conditioning=label"),
        ([labeled, "guidance=cfg", "guidance.scales=2"], "did you mean guidance.scale"),
        ([labeled, "guidance=autoguidance"], "guidance.weak=... must be given"),
        ([labeled, "guidance=autoguidance", f"guidance.weak={runs / 'plain'}"], "other conditioning"),
        ([labeled, "guidance=cfg", "task=vary", "image=0"], "give label="),
        ([plain, "image=0"], "no task is chosen"),
        ([plain, "task=vary", "image=0", "mask=x.png"], "the task does not use it"),
        (inpaint, "needs mask=FILE"),
        ([plain, "task=vary"], "needs image=FILE"),
        ([plain, "task=vary", "image=300"], "are 0 to 299"),
        ([plain, "task=vary", "image=none.png"], "image not found: none.png"),
        ([plain, "task=vary", f"image={tmp_path / 'broken.png'}"], "not a readable image"),
        ([plain, "task=colorize", "image=0"], "C > 1"),
        ([plain, "task=jpeg", "image=0", "method=mmps"], "JPEG is not linear, as MMPS needs"),
        (
            [*inpaint, f"mask={runs / 'mask.png'}", "method=twisted_smc", "solver=heun"],
            "provides its own solver",
        ),
        (
            [*inpaint, f"mask={runs / 'mask.png'}", "method=repaint", "solver=dormand_prince"],
            "an adaptive solver cannot be inside another",
        ),
        ([plain, "task=vary", "image=0", "n=100"], "one batch"),
    ):
        assert answer in mistake(capfd, "sample", *words), words


@pytest.mark.filterwarnings("ignore:.* of the values outside")
def test_collapsed_particles_are_reported(runs, capfd, tmp_path):
    """The number stands in the table; the warning appears below 2 particles, or a tenth of them."""
    plain = [f"run={runs / 'plain'}", "task=superres", "image=0", "steps=3", f"out={tmp_path}"]
    with pytest.warns(UserWarning, match=r"effective sample size .* of 4 particles .*larger n"):
        enter("sample", *plain, "method=twisted_smc", "n=4", "noise_std=0.001", "method.solver.gamma=0")
    assert re.search(r"effective sample size\s+\S\s+\d\.\d of 4, in the worst\s+step", capfd.readouterr().out)
    assert not EffectiveSampleSize.collapsed(2.0, 8)
    assert EffectiveSampleSize.collapsed(1.9, 8)
    assert EffectiveSampleSize.collapsed(9.9, 100)
    assert not EffectiveSampleSize.collapsed(10.0, 100)
    enter("sample", *plain, "method=mmps", "n=2")
    assert "effective sample size" not in capfd.readouterr().out


def test_tasks_refuse_images_that_do_not_fit():
    event, gray, method = (3, 8, 8), torch.zeros(1, 1, 8, 8), SolverMethod(solver=Projection)
    for task in (
        partial(Vary, image=gray),
        partial(Interpolate, a=gray, b=gray),
        partial(Deblur, image=gray, method=method),
    ):
        with pytest.raises(ValueError, match=r"has shape \(1, 8, 8\); expected the model's, \(3, 8, 8\)"):
            task(event=event)
    assert Colorize(image=gray, event=event, method=method).reference is None
    for mask, answer in ((torch.zeros(8, 8), "hides everything"), (torch.ones(1, 1), "the mask has shape")):
        with pytest.raises(ValueError, match=answer):
            Inpaint(image=torch.zeros(1, *event), event=event, method=method, mask=mask.bool())
    with pytest.raises(ValueError, match="noise_std=-1"):
        Colorize(image=gray, event=event, method=method, noise_std=-1)


def test_a_measurement_made_here_is_noisy() -> None:
    image = torch.zeros(1, 3, 32, 32)
    task = Colorize(image=image, event=(3, 32, 32), method=SolverMethod(solver=Projection), noise_std=0.3)
    assert float(task.y.std()) == pytest.approx(0.3, rel=0.1)
    assert torch.equal(task.y, task.y)


def test_classes_are_taken_in_turn(runs):
    run = opened(runs / "class")

    def chosen(label, **more):
        config = OmegaConf.create({"label": label, "n": 5, "guidance": None, "task": None, **more})
        cond = choose_conditions(config, run)
        return cond["label"].tolist() if cond else None

    assert chosen([3, 7]) == [3, 7, 3, 7, 3]
    assert chosen(4) == [4] * 5
    assert chosen(None) == [0, 1, 2, 3, 4]
    assert chosen(None, task={"_target_": "any"}) is None  # the network does without


def test_a_file_s_image_has_the_model_s_levels(runs, tmp_path):
    """Of 17 levels, kept as gray values in a file: the held-out image itself."""
    run = opened(runs / "class")
    levels = open_data(run).test.values[2, 0]
    Image.fromarray((levels.double() * 255 / 16).round().byte().numpy()).save(tmp_path / "two.png")
    by_index, by_file = (
        drawn(runs, "class", tmp_path / f"out{n}", "task=vary", f"image={image}", n=1)
        for n, image in enumerate((2, tmp_path / "two.png"))
    )
    np.testing.assert_array_equal(by_file, by_index)


def test_pictures_of_any_size_and_storage_are_given_to_tasks(runs, tmp_path, capfd):
    """A gray picture as RGB equals that of gray values; a mask is resized with its picture, which is said."""
    levels = open_data(opened(runs / "plain")).test.values[0, 0]
    image = Image.fromarray((levels.double() * 255 / 16).round().byte().numpy())
    image.convert("RGB").save(tmp_path / "rgb.png")
    image.convert("P").save(tmp_path / "palette.png")
    vary = {"steps": 1, "n": 1}
    by_index = drawn(runs, "plain", tmp_path / "index", "task=vary", "image=0", **vary)
    for name in ("rgb", "palette"):
        by_file = drawn(runs, "plain", tmp_path / name, "task=vary", f"image={tmp_path / name}.png", **vary)
        np.testing.assert_array_equal(by_file, by_index)
    large, mask = tmp_path / "large.png", tmp_path / "mask.png"
    image.convert("RGB").resize((32, 32), Image.Resampling.NEAREST).save(large)
    with Image.open(runs / "mask.png") as small:
        small.resize((32, 32), Image.Resampling.NEAREST).save(mask)
    words = ["task=inpaint", f"image={large}", f"mask={mask}", "method=projection", "grid.t_max=0.99"]
    with pytest.warns(UserWarning, match="resized") as said:
        drawn(runs, "plain", tmp_path / "large", *words, **vary)
    for path in (large, mask):
        assert any(
            f"{path}: resized from 32x32 and cropped to 8x8 pixels" in str(one.message) for one in said
        )
    given = np.load(tmp_path / "large" / "samples.npz")["given"]
    assert given.shape[-2:] == (8, 8)
    assert (given[1][..., :4, :4] == 0).all()  # hidden


@pytest.mark.long
def test_a_weak_model_is_one_of_the_same_data(runs, tmp_path, capfd):
    moons = [
        "data=moons",
        "codec=affine",
        "model=mlp",
        "model.width=8",
        "engine.preview_every=1000",
        "preview.n=1",
    ]
    enter("train", *SHORT, *moons, f"run={tmp_path / 'moons'}")
    enter("train", *TINY, "codec.high=2.0", f"run={tmp_path / 'codec'}")
    for name, word in (("moons", "other data"), ("codec", "other codec")):
        guidance = ["guidance=autoguidance", f"guidance.weak={tmp_path / name}", "guidance.scale=2"]
        assert word in mistake(capfd, "sample", f"run={runs / 'plain'}", "n=1", "steps=1", *guidance)


def test_psnr_of_a_known_error():
    """All of 255, and a fifth of it in a quarter of the pixels: a mean square of a hundredth."""
    truth = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    images = torch.tensor([[[[255, 255], [255, 255]]], [[[51, 0], [0, 0]]]], dtype=torch.uint8)
    torch.testing.assert_close(psnr(images, truth), torch.tensor([0.0, 20.0]).double())


def test_guidance_without_label_dropout_is_refused(runs):
    run = opened(runs / "class")
    config = OmegaConf.create({"guidance": {"_target_": "sde_gen.guidance.CFG", "drop": ["label"]}})
    with pytest.raises(ValueError, match=r"conditioning.dropout=0, always with labels"):
        apply_guidance(config, replace(run, conditioning=Label(classes=10, dropout=0.0)))


def error_of(capfd, *arguments):
    """Return the output of the command without line breaks and borders of tables."""
    capfd.readouterr()
    enter("sample", *arguments)
    out, _ = capfd.readouterr()
    return " ".join(out.replace("│", " ").split())


def test_samples_far_outside_the_data_are_never_silent(runs, tmp_path, capfd):
    """Twenty steps are too few for three times the noise of the reverse SDE."""
    wild = (
        "solver=euler_maruyama",
        "solver.eta=3",
        "grid=log_snr",
        "steps=20",
        "n=2",
        f"run={runs / 'plain'}",
        f"out={tmp_path}",
    )
    with pytest.warns(UserWarning, match="more than data and noise explain"):
        said = error_of(capfd, *wild)
    x = np.load(tmp_path / "samples.npz")["model_space"]
    share = float((np.abs(x) > 1.2).mean())
    assert share > 0.3  # so that this test tests something
    assert f"out of range {100 * share:.3g} % of the values outside [-1.2, 1.2]" in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "solver"),
    [
        ("repaint", "straight_adams"),
        *(
            pytest.param(method, solver, marks=pytest.mark.slow)
            for method in names("method")
            if method != "twisted_smc"
            for solver in ("straight_adams", "dpm_solver_pp_sde_3m", "unipc_bh2")
        ),
    ],
)
def test_methods_keep_solvers_in_range(runs, tmp_path, method, solver):
    """On a network that has learnt a little, within 3 times the data's range, which is [-1, 1]."""
    given = ("task=superres", "factor=2", "image=0", f"method={method}", f"solver={solver}")
    assert np.abs(drawn(runs, "plain", tmp_path, *given, steps=8, n=2)).max() < 3


def test_solvers_that_couple_a_batch_say_so_where_there_is_more_than_one(runs, tmp_path, capfd):
    given = (f"run={runs / 'plain'}", f"out={tmp_path}", "n=3", "steps=2")
    words = "with another batch_size than 2, or another n than 3"
    coupled = ("solver=torch_diffeq", "solver.integrator.rtol=0.1", "solver.integrator.atol=0.1")
    assert words in error_of(capfd, *given, *coupled, "batch_size=2")
    assert words not in error_of(capfd, *given, *coupled, "batch_size=3")
    assert words not in error_of(capfd, *given, "solver=ddim", "batch_size=2")
