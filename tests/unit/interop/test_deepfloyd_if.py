"""Super-resolution of DeepFloyd IF as diffusers samples it, and the cascade with a first stage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy import ndimage
from torch import Tensor

import sde_gen as sg
from sde_gen.data.conditioning import NoisedImage
from sde_gen.guidance import CFG, DynamicThreshold
from sde_gen.inverse.task import Vary
from sde_gen.sampler import Sampler
from tests.helpers.commands import enter, mistake
from tests.unit.interop.test_diffusers_runs import Drawn, close, first_sigma, in_float64, sampler_of

DATA = Path(__file__).parents[2] / "data" / "if_super_resolution.npz"


@pytest.fixture(scope="module")
def io() -> dict[str, Tensor]:
    with np.load(DATA) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if not key.endswith("_json")}


def write(folder: Path, kind: str, io: dict[str, Tensor], **schedulers: dict[str, Any]) -> None:
    """Write a pipeline with these networks; the first stage has the weights of the second that it needs."""
    with np.load(DATA) as file:
        config, scheduler = (json.loads(str(file[f"{key}_json"])) for key in ("config", "scheduler"))
    state = {key[2:]: value.float() for key, value in io.items() if key.startswith("w/")}
    if kind == "IFPipeline":
        config |= {"in_channels": 3, "class_embed_type": None, "sample_size": 2}
        state = {key: value for key, value in state.items() if not key.startswith("class_embedding")}
        state["conv_in.weight"] = state["conv_in.weight"][:, :3].clone()
    chains = {"scheduler": scheduler, **schedulers}
    for name in ("unet", *chains):
        (folder / name).mkdir(parents=True)
    for name, settings in chains.items():
        (folder / name / "scheduler_config.json").write_text(json.dumps(settings or scheduler))
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(state, folder / "unet" / "diffusion_pytorch_model.safetensors")
    parts = {name: ["diffusers", "DDPMScheduler"] for name in chains}
    index = {"_class_name": kind, "unet": ["diffusers", "UNet2DConditionModel"], **parts}
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def folder(io: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages as runs, and files of two embedded texts."""
    made = tmp_path_factory.mktemp("if")
    write(made / "first", "IFPipeline", io)
    write(made / "second", "IFSuperResolutionPipeline", io, image_noising_scheduler={})
    for name in ("first", "second"):
        enter("convert", "from=diffusers", f"file={made / name}", f"out={made / 'runs' / name}")
    for name in ("tokens", "negative"):
        for row in range(2):
            np.savez(made / f"{name}{row}.npz", tokens=io[name][row].numpy())
    return made


@torch.no_grad()
def test_super_resolution(io: dict[str, Tensor], folder: Path) -> None:
    """Four steps with the noise that diffusers drew, in float64, given an image noised to step 250."""
    run = in_float64(sg.load(folder / "runs" / "second", device="cpu"))
    sampler, found, conditioning = sampler_of(run, {"num_inference_steps": 4}), [], run.run.conditioning
    level = float(conditioning.parts["image"].table[250])
    for row in range(2):
        one, given = slice(row, row + 1), []
        for name in ("tokens", "negative"):
            text = str(folder / f"{name}{row}.npz")
            clean = run.run.prompt(1, text=text, image=io["image"][one])
            given.append(conditioning.noised(clean, level, Drawn(io["draw/1"][one])))
        assert given[0]["label"].tolist() == [250]
        guided = CFG(denoiser=run.denoiser, scale=4.0, drop=("tokens", "mask"), null=given[1])
        model = DynamicThreshold(denoiser=guided, quantile=0.95, most=1.5).bind(**given[0])
        first, *rest = (io[f"draw/{k}"][one] for k in (0, 2, 3, 4))
        noise = Drawn(first / first_sigma(run, sampler), *rest)
        found.append(sampler(model, (1, *run.run.event), noise=noise, dtype=torch.float64))
    close(torch.cat(found), io["out"], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("strength", "steps"), [(0.6, 5), (1.0, 3)])
def test_variations_of_images_of_the_first_stage(strength: float, steps: int, folder: Path) -> None:
    """The last three steps, with the noise that diffusers drew; its tables are float32."""
    run = in_float64(sg.load(folder / "runs" / "first", device="cpu"))
    sampler, found = sampler_of(run, {"num_inference_steps": steps}), []
    with np.load(DATA.with_name("if_img2img.npz")) as file:
        io = {key: torch.from_numpy(file[key]) for key in file.files}
    for row in range(2):
        one = slice(row, row + 1)
        texts = (str(folder / f"{name}{row}.npz") for name in ("tokens", "negative"))
        given, negative = (run.run.prompt(1, text=text) for text in texts)
        guided = CFG(denoiser=run.denoiser, scale=4.0, drop=("tokens", "mask"), null=negative)
        model = DynamicThreshold(denoiser=guided, quantile=0.95, most=1.5).bind(**given)
        noise = Drawn(*(io[f"{strength}/draw/{k}"][one] for k in range(3)))
        task = Vary(image=io["image"][one], event=run.run.event, strength=strength)
        found.append(task(sampler)(model, (1, *run.run.event), noise=noise))
    close(torch.cat(found), io[f"{strength}/out"], 5e-5)


def test_images_are_enlarged_as_scipy_does(io: dict[str, Tensor]) -> None:
    """Linear interpolation with corners on corners."""
    image = NoisedImage(shape=[3, 8, 8], betas=[0.1], factor=4).prompt({"image": io["image"]}, 2)["image"]
    exact = ndimage.zoom(io["image"].double().numpy(), (1, 1, 4, 4), order=1) / 127.5 - 1
    torch.testing.assert_close(image.double(), torch.from_numpy(exact), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"have shape \(3, 4, 4\); expected \(3, 2, 2\)"):
        NoisedImage(shape=[3, 8, 8], betas=[0.1], factor=4).prompt({"image": torch.zeros(1, 3, 4, 4)}, 1)
    with pytest.raises(ValueError, match="factor=3: expected a divisor"):
        NoisedImage(shape=[3, 8, 8], betas=[0.1], factor=3)


@torch.no_grad()
def test_cascade(folder: Path, tmp_path: Path) -> None:
    """The second stage is given what the first has drawn, noised, and the step of the noise."""
    runs, text = folder / "runs", f"text=[{folder / 'tokens0.npz'}]"
    common = (
        f"run=[{runs / 'first'},{runs / 'second'}]",
        "n=2",
        "steps=2",
        "threads=1",
        text,
        "image_noise=0.3",
    )
    enter("sample", *common, f"out={tmp_path / 'out'}")
    found = torch.from_numpy(np.load(tmp_path / "out" / "samples.npz")["data"])
    base, stage = (sg.load(runs / name, device="cpu") for name in ("first", "second"))
    typed = str(folder / "tokens0.npz")
    steps = [Sampler(solver=r.sampler.solver, grid=r.sampler.grid, steps=2) for r in (base, stage)]
    low = base.decode(base.sample(2, text=typed, sampler=steps[0]))
    seeds = [sg.noise.spawn_seeds(seed, 2) for seed in sg.noise.spawn_seeds(0, 2)]
    given = stage.run.prompt(2, text=typed, image=low)
    given = stage.run.conditioning.noised(given, 0.3, sg.noise.PerSample([second for _, second in seeds]))
    assert int(given["label"][0]) > 100
    noise = sg.noise.PerSample([first for first, _ in seeds])
    x = steps[1](stage.run.bind(given), (2, *stage.run.event), noise=noise)
    assert torch.equal(stage.decode(x), found)
    guided = (
        "guidance.scale=4",
        f"not_text={folder / 'negative0.npz'}",
        "guidance@threshold=dynamic_threshold",
    )
    enter("sample", *common, *guided, f"out={tmp_path / 'guided'}")
    assert (np.load(tmp_path / "guided" / "samples.npz")["data"] != found.numpy()).any()


def test_a_run_is_written_back(folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        enter("convert", f"run={folder / 'runs' / name}", "to=diffusers", f"out={tmp_path / name}")
        path = f"{name}/unet/diffusion_pytorch_model.safetensors"
        found, exact = (safetensors.torch.load_file(place / path) for place in (tmp_path, folder))
        assert found.keys() == exact.keys()
        assert all(torch.equal(found[key], exact[key]) for key in exact)


def test_stages_of_other_pipelines_are_refused(
    io: dict[str, Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a", "IFSuperResolutionPipeline", io, image_noising_scheduler={})
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    index = {**index, "_class_name": "IFPipeline", "image_noising_scheduler": [None, None]}
    (tmp_path / "a" / "model_index.json").write_text(json.dumps(index))
    words = ("from=diffusers", f"file={tmp_path / 'a'}", f"out={tmp_path / 'out'}")
    assert "it is of another pipeline than IFPipeline" in mistake(capfd, "convert", *words)
