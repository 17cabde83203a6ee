"""unCLIP of diffusers as runs that name each other: its samples step for step, with the noise that diffusers drew."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy.spatial import geometric_slerp
from torch import Tensor

import sde_gen as sg
from sde_gen.checkpoint import manifest
from sde_gen.cli.loaded_run import LoadedRun
from sde_gen.data.conditioning import EnlargedImage, slerp
from sde_gen.guidance import CFG, Clip
from sde_gen.interop.transformers.image_encoder import preprocessing
from sde_gen.model import NoiseExperts
from sde_gen.sampler import Sampler
from tests.helpers.commands import enter, mistake
from tests.unit.interop.test_diffusers_condition import GOLDEN
from tests.unit.interop.test_diffusers_runs import Drawn, arrays, close, first_sigma, in_float64

DATA = Path(__file__).parents[2] / "data"
TEXTS = ["a red apple on a table", "house and tree"]


def stages(root: Path) -> list[LoadedRun]:
    """Prior, decoder and enlargement, in float64."""
    run: LoadedRun | None = sg.load(root, device="cpu")
    found = []
    while run is not None:
        found.insert(0, in_float64(run))
        run = run.before
    return found


@torch.no_grad()
def sampled(
    root: Path,
    prompts: list[str],
    steps: list[int],
    scales: list[float],
    draws: list[Tensor],
    images: list[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Embeddings and images on [0, 1], for the noise that diffusers drew; scales are those of prior and decoder."""
    noise, embeddings = iter(draws), torch.empty(0)
    given: dict[str, Any] = {"text": prompts, **({} if images is None else {"image": images})}
    for run, count, scale in zip(stages(root), steps, [*scales, None], strict=True):
        own = run.sampler
        sampler = Sampler(solver=own.solver, grid=own.grid, steps=count - 1, final_gain=own.final_gain)
        model: Any = run.denoiser
        if scale is not None:
            model = CFG(denoiser=model, scale=scale, null=run.run.conditioning.omitted(1))
        if bound := run.run.config.sampling.get("clip"):
            model = Clip(denoiser=model, low=-bound, high=bound)
        own_draws = [next(noise) for _ in range(count)]
        first = own_draws[0].double() / first_sigma(run, sampler)
        bound_model = model.bind(**run.run.prompt(len(prompts), **given))
        shape = (len(prompts), *run.run.event)
        x = sampler(bound_model, shape, noise=Drawn(first, *own_draws[1:]), dtype=torch.float64)
        if len(run.run.event) == 1:
            embeddings = run.codec.decode(x)
            given = {"text": prompts, "vector": embeddings}
        else:
            given = {"image": run.codec.decode_unrounded(x)}
    assert next(noise, None) is None
    return embeddings, ((x + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)


def convert(folder: Path, out: Path) -> Path:
    enter("convert", "from=diffusers", f"file={folder}", f"out={out}")
    return out


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no folder of golden networks")
def test_golden(tmp_path: Path) -> None:
    io, asked = arrays(GOLDEN / "pipe_unclip" / "text_to_image.npz")
    shutil.copytree(GOLDEN / "pipe_unclip", tmp_path / "pipeline")
    root = convert(tmp_path / "pipeline", tmp_path / "run")
    shutil.rmtree(tmp_path / "pipeline")  # the run stands alone
    draws = [io[f"draw/{k}"] for k in range(11)]
    embeddings, image = sampled(root, asked["prompt"], asked["steps"], asked["guidance"], draws)
    close(embeddings, io["out_exact/image_embeds"], 1e-6)
    close(image, io["out_exact/image"], 5e-3)


def write(folder: Path) -> Path:
    """Write the stored pipeline."""
    with np.load(DATA / "unclip.npz") as file:
        configs, names = json.loads(str(file["config"])), json.loads(str(file["names"]))
        weights = torch.from_numpy(file["weights"]).float()
    at = 0
    for part, config in configs.items():
        place = folder / part
        if part == "model_index":
            (folder / "model_index.json").write_text(json.dumps(config))
            continue
        place.mkdir(parents=True)
        scheduler = part.endswith("scheduler")
        (place / f"{'scheduler_' if scheduler else ''}config.json").write_text(json.dumps(config))
        state = {}
        for name, shape in names.get(part, []):
            size = int(np.prod(shape))
            state[name], at = weights[at : at + size].view(shape).clone(), at + size
        if state:
            file_name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
            safetensors.torch.save_file(state, place / f"{file_name}.safetensors")
    assert at == len(weights)
    shutil.copytree(DATA / "tokenizer_clip", folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored pipeline, and its run beside it."""
    made = tmp_path_factory.mktemp("unclip")
    convert(write(made / "pipeline"), made / "run")
    return made


def test_a_pipeline_with_other_networks_and_settings(folder: Path) -> None:
    """The networks that enlarge differ, with a learned variance; one scheduler does not clip; a text is cut."""
    with np.load(DATA / "unclip.npz") as file:
        asked = json.loads(str(file["asked"]))
        draws = [torch.from_numpy(file[f"draw/{k}"]) for k in range(sum(asked["steps"]))]
        exact = [torch.from_numpy(file[name]) for name in ("embeds", "image")]
    embeddings, image = sampled(folder / "run", asked["prompts"], asked["steps"], asked["scales"], draws)
    close(embeddings, exact[0], 2e-5)
    close(image, exact[1], 2e-4)


def test_steps_are_those_of_the_scheduler() -> None:
    """Halves are rounded from zero: 166.5 to 166, for 7 steps."""
    with np.load(DATA / "unclip.npz") as file:
        for name in (key for key in file.files if key.startswith("timesteps/")):
            count = int(name.partition("/")[2])
            found = sg.grid.DDPMLinspace(from_zero=True).numbers(count) - 1
            assert found.tolist() == file[name].tolist()
    assert sg.grid.DDPMLinspace().numbers(7)[5] != sg.grid.DDPMLinspace(from_zero=True).numbers(7)[5]


def of_two_steps(run: LoadedRun) -> list[Sampler]:
    """The samplers of the stages with two steps each."""
    before = [] if run.before is None else of_two_steps(run.before)
    return [*before, replace(run.sampler, steps=2)]


def command(out: Path, *words: object) -> Tensor:
    """Samples in model space that the command draws with two steps a stage."""
    enter("sample", *words, "threads=1", "steps=2", f"out={out}")
    with np.load(out / "samples.npz") as file:
        return torch.from_numpy(file["model_space"])


def test_a_run_draws_with_the_stages_before_it(folder: Path, tmp_path: Path) -> None:
    """From the command line, in batches, as in Python; and given an embedding, without the prior."""
    run = sg.load(folder / "run", device="cpu")
    decoder = run.before
    assert decoder is not None
    assert decoder.before is not None
    both = f"text=[{TEXTS[0]},{TEXTS[1]}]"
    found = command(tmp_path / "all", f"run={folder / 'run'}", both, "n=3", "batch_size=2")
    whole = run.sample(3, text=TEXTS, sampler=of_two_steps(run), batch_size=2)
    assert torch.equal(found, whole)
    assert not torch.equal(found[0], found[2])  # the same text, other noise
    vector = decoder.before.decode(decoder.before.sample(1, text=TEXTS[0]))
    numbers = f"vector={vector[0].tolist()}".replace(" ", "")
    listed = f"run=[{decoder.run.folder},{folder / 'run'}]"
    given = {"text": TEXTS[0], "vector": vector}
    expected = run.sample(1, sampler=of_two_steps(decoder)[1:] + of_two_steps(run)[2:], **given)
    for number, words in enumerate((f"run={folder / 'run'}", listed)):
        two = command(tmp_path / f"two{number}", words, f"text={TEXTS[0]}", numbers, "n=1")
        torch.testing.assert_close(two, expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="1 samplers were given for 3 stages"):
        run.sample(1, text="a", sampler=[run.sampler])


def test_guidance_and_bounds_are_the_defaults_of_the_stages(folder: Path, tmp_path: Path) -> None:
    """Each stage has its own; an option on the command line replaces that of all stages that are guided."""
    run = sg.load(folder / "run", device="cpu")
    decoder = run.before
    assert decoder is not None
    assert decoder.before is not None
    prior = decoder.before
    x, t = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5).double()
    given = prior.run.prompt(2, text=TEXTS)
    null = prior.run.prompt(2, text="")
    plain = [prior.denoiser.bind(**cond)(x, t).x0 for cond in (given, null)]
    expected = (plain[1] + 4 * (plain[0] - plain[1])).clamp(-2, 2)
    torch.testing.assert_close(prior.guided.bind(**given)(x, t).x0, expected, rtol=0, atol=1e-5)
    assert [one.run.config.sampling.get("guidance") for one in (prior, decoder, run)] == [4.0, 8.0, None]
    assert [one.run.config.sampling.get("clip") for one in (prior, decoder, run)] == [2.0, None, 1.0]
    words = (f"run={folder / 'run'}", f"text={TEXTS[0]}", "n=1")
    with_own = command(tmp_path / "own", *words)
    other = command(tmp_path / "other", *words, "guidance.scale=1")
    assert not torch.equal(with_own, other)
    away = command(tmp_path / "away", *words, f"not_text={TEXTS[1]}")
    assert not torch.equal(with_own, away)


def test_null_of_the_decoder_is_the_learned_embedding(folder: Path) -> None:
    decoder = sg.load(folder / "run", device="cpu").before
    assert decoder is not None
    state = safetensors.torch.load_file(
        folder / "pipeline" / "text_proj" / "diffusion_pytorch_model.safetensors"
    )
    null = decoder.run.conditioning.omitted(2)
    learned = state["learned_classifier_free_guidance_embeddings"]
    assert torch.equal(null["vector"][:, 6:], learned.expand(2, -1))
    assert null["mask"].sum(1).tolist() == [2, 2]  # the marks of the empty text


def test_a_part_that_changed_or_is_gone_is_named(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    decoder = tmp_path / "run" / "parts" / "decoder"
    decoder.rename(tmp_path / "elsewhere")
    message = mistake(capfd, "sample", f"run={tmp_path / 'run'}", "text=a", "n=1")
    assert "of the stage before" in message
    assert "parts=[FOLDER]" in message
    found = sg.load(tmp_path / "run", device="cpu", parts=[tmp_path / "elsewhere"])
    assert found.before is not None
    words = (f"run={folder / 'run'}", "to=diffusers", f"out={tmp_path / 'exported'}")
    assert "is given the samples of" in mistake(capfd, "convert", *words)
    enter("bundle", f"run={folder / 'run'}", f"out={tmp_path / 'bundle'}")
    packed = sg.load(tmp_path / "bundle", device="cpu")
    steps = of_two_steps(packed)
    same = [one.sample(1, text="a", sampler=steps) for one in (packed, sg.load(folder / "run", device="cpu"))]
    assert torch.equal(*same)


@pytest.mark.parametrize(
    ("part", "changes", "answer"),
    [
        ("text_proj", {"time_embed_dim": 9}, "gives 9 numbers in the vector, the decoder takes 7"),
        ("text_proj", {"clip_embeddings_dim": 5}, "takes 5 features of a token, the encoder gives 6"),
        ("text_proj", {"depth": 5}, "UnCLIPTextProjModel has no setting depth"),
        ("prior", {"embedding_dim": 5}, "takes 5 features of a text, the encoder gives 6"),
        ("decoder_scheduler", {"beta_schedule": "linear"}, "beta_schedule='linear' is not supported"),
        ("decoder", {"out_channels": 3}, "out_channels"),
        ("super_res_last", {"out_channels": 3}, "the weights do not fit the network"),
        ("super_res_first", {"center_input_sample": True}, "or centers its input"),
        ("model_index", {"prior": ["diffusers", "UNet2DModel"]}, "expected PriorTransformer"),
        ("model_index", {"text_proj": [None, None]}, "lists no text_proj, a UnCLIPTextProjModel"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    part: str,
    changes: dict[str, Any],
    answer: str,
) -> None:
    shutil.copytree(folder / "pipeline", tmp_path / "pipeline")
    place = tmp_path / "pipeline" / "model_index.json"
    if part != "model_index":
        (place,) = (tmp_path / "pipeline" / part).glob("*config.json")
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))
    words = ("from=diffusers", f"file={tmp_path / 'pipeline'}", f"out={tmp_path / 'out'}")
    assert answer in mistake(capfd, "convert", *words)
    assert not (tmp_path / "out").exists()


def test_images_are_enlarged_as_pillow_does() -> None:
    """Cubic interpolation, both up and down, where every source pixel has its weight."""
    image = 255 * torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    for sides in ([10, 21], [3, 4]):
        given = EnlargedImage(shape=[3, *sides], given_sides=[5, 7])
        found = given.prompt({"image": image}, 1)["image"]
        planes = [Image.fromarray(plane.numpy(), mode="F") for plane in image[0] / 127.5 - 1]
        exact = [np.asarray(plane.resize(sides[::-1], Image.Resampling.BICUBIC)) for plane in planes]
        np.testing.assert_allclose(found[0].numpy(), np.stack(exact), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"given_sides=\[5\]: expected height and width"):
        EnlargedImage(shape=[3, 8, 8], given_sides=[5])


def test_every_sample_is_of_the_network_of_its_noise() -> None:
    class Times(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor, c_noise: Tensor, *, label: Tensor | None = None) -> Tensor:
            return self.factor * x

    net = NoiseExperts(net=Times(2.0), last=Times(3.0), boundary=0.5)
    x = torch.ones(3, 1, 2, 2)
    assert net(x, torch.tensor([0.0, 0.5, 7.0]))[:, 0, 0, 0].tolist() == [3.0, 2.0, 2.0]
    assert net(x, torch.zeros(3)).mean() == 3
    assert net(x, torch.ones(3)).mean() == 2


def test_a_run_that_names_itself_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its weights have the right hash, and its configuration leads in a circle."""
    shutil.copytree(folder / "run", tmp_path / "run")
    (newest,) = (tmp_path / "run" / "checkpoints").iterdir()
    found = manifest.read(newest)
    sha256 = manifest.part_digest(found.sha256, "ema")
    config = {**found.about["config"], "before": {"run": str(tmp_path / "run"), "sha256": sha256}}
    for path in newest.glob(f"{manifest.NAME}*"):
        path.unlink()
    manifest.write(newest, found._replace(about={**found.about, "config": config}))
    with pytest.raises(ValueError, match="does one name itself"):
        sg.load(tmp_path / "run", device="cpu")


@pytest.fixture(scope="module")
def variations(folder: Path) -> Path:
    """A pipeline of variations with the same networks, its run and the images, in a folder beside them."""
    made = folder / "variations"
    shutil.copytree(folder / "pipeline", made / "pipeline")
    for name in ("prior", "prior_scheduler", "model_index.json"):
        (shutil.rmtree if (made / "pipeline" / name).is_dir() else Path.unlink)(made / "pipeline" / name)
    with np.load(DATA / "unclip_variations.npz") as file:
        configs, names = json.loads(str(file["config"])), json.loads(str(file["names"]))
        weights = torch.from_numpy(file["weights"]).float().split([int(np.prod(shape)) for _, shape in names])
        for number in range(2):
            Image.fromarray(file[f"pixels{number}"]).save(made / f"{number}.png")
    places = {"image_encoder": "config.json", "feature_extractor": "preprocessor_config.json"}
    for part, name in places.items():
        (made / "pipeline" / part).mkdir()
        (made / "pipeline" / part / name).write_text(json.dumps(configs[part]))
    state = {name: part.view(shape).clone() for (name, shape), part in zip(names, weights, strict=True)}
    safetensors.torch.save_file(state, made / "pipeline" / "image_encoder" / "model.safetensors")
    (made / "pipeline" / "model_index.json").write_text(json.dumps(configs["model_index"]))
    convert(made / "pipeline", made / "run")
    return made


def test_variations_of_images(variations: Path) -> None:
    """The images are of other sizes than the encoder takes, one wide and one high."""
    with np.load(DATA / "unclip_variations.npz") as file:
        asked = json.loads(str(file["asked"]))
        draws = [torch.from_numpy(file[f"draw/{k}"]) for k in range(sum(asked["steps"]))]
        embeddings, exact = (torch.from_numpy(file[name]) for name in ("embeds", "image"))
    images = [str(variations / f"{number}.png") for number in range(2)]
    decoder = stages(variations / "run")[0]
    given = decoder.run.prompt(2, image=images)
    close(given["vector"][:, 6:], embeddings, 1e-6)
    assert torch.equal(given["tokens"], decoder.run.prompt(2, text="")["tokens"])
    _, found = sampled(variations / "run", ["", ""], asked["steps"], asked["scales"], draws, images)
    close(found, exact, 2e-4)


def test_variations_from_the_command_line(
    variations: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = variations / "0.png"
    found = command(tmp_path / "one", f"run={variations / 'run'}", f"image={image}", "n=2")
    run = sg.load(variations / "run", device="cpu")
    assert torch.equal(found, run.sample(2, image=str(image), sampler=of_two_steps(run)))
    words = (f"run={variations / 'run'}", "n=1", f"out={tmp_path / 'no'}")
    assert "leave one out" in mistake(capfd, "sample", *words, f"image={image}", "vector=[1,2,3,4,5,6]")
    assert "image not found" in mistake(capfd, "sample", *words, f"image={tmp_path / 'missing.png'}")
    encoder = tmp_path / "moved" / "parts" / "decoder" / "parts" / "image_encoder" / "config.json"
    shutil.copytree(variations / "run", tmp_path / "moved")
    encoder.write_text(encoder.read_text() + " ")
    words = (f"run={tmp_path / 'moved'}", "n=1", f"out={tmp_path / 'no'}", f"image={image}")
    assert "is not the encoder of images of the conversion" in mistake(capfd, "sample", *words)


def test_embeddings_are_interpolated_on_the_sphere() -> None:
    """Directions are those of SciPy, for angles from tiny to almost opposite; lengths are linear."""
    generator = torch.Generator().manual_seed(0)
    share = torch.linspace(0, 1, 5, dtype=torch.float64)
    u, w = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    for v in (w, u + 1e-9 * w, u + 0.3 * w, -u + 0.1 * w, 2 * u):
        found = slerp(3 * u / u.norm(), 5 * v / v.norm(), share)
        exact = geometric_slerp((u / u.norm()).numpy(), (v / v.norm()).numpy(), share.numpy())
        lengths = torch.tensor([3, 3.5, 4, 4.5, 5], dtype=torch.float64)
        torch.testing.assert_close(found, lengths[:, None] * torch.from_numpy(exact), rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="opposite directions"):
        slerp(u, -u, share)
    with pytest.raises(ValueError, match="has no direction"):
        slerp(u, 0 * u, share)
    with pytest.raises(ValueError, match=r"expected \(d,\), \(d,\) and \(n,\)"):
        slerp(u, u, share[0])


def test_images_between_two(variations: Path) -> None:
    """Ends of an interpolation are the variations of the images; the same noise is given to all."""
    run = sg.load(variations / "run", device="cpu")
    assert run.before is not None
    paths = [variations / f"{number}.png" for number in range(2)]
    ends = run.before.run.conditioning.images(paths)
    vectors = slerp(*ends, torch.linspace(0, 1, 3))
    torch.testing.assert_close(vectors[[0, 2]], ends, rtol=0, atol=1e-5)
    given = run.before.run.prompt(3, vector=vectors)
    first = run.before.run.prompt(1, image=str(paths[0]))
    torch.testing.assert_close(given["vector"][:1], first["vector"], rtol=0, atol=1e-5)


def test_preprocessing_that_is_not_supported_is_named() -> None:
    for changes, answer in (
        ({"resample": 2}, "resample=2 is not supported"),
        ({"size": {"height": 20, "width": 20}}, "expected shortest_edge"),
        ({"crop_size": {"height": 20, "width": 10}}, "expected equal height and width"),
        ({"do_normalize": False}, "do_normalize=False is not supported"),
    ):
        with pytest.raises(ValueError, match=answer):
            preprocessing(changes)
    assert preprocessing({"size": 20, "crop_size": 16})["shorter"] == 20
