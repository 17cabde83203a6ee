"""Converted networks and stored trainings open in all commands and sample, with all options."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import build
from sde_gen.cli.annotations import Network
from sde_gen.cli.build import networks
from sde_gen.cli.config_files import names
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import Run, load_classifier
from sde_gen.denoiser import Denoiser
from sde_gen.grid import Angle
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.diffusers import reader as diffusers
from sde_gen.interop.diffusers.schedulers import CHAINS, FLOWS, LEVELS, PREDICTIONS
from sde_gen.interop.edm import reader as edm
from sde_gen.interop.guided_diffusion import reader as guided_diffusion
from sde_gen.interop.k_diffusion import reader as k_diffusion
from sde_gen.interop.score_sde import reader as score_sde
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver import DDIM
from tests.helpers import stored_run
from tests.helpers.stored_run import SMALL, config_of, opened
from tests.reference import adm
from tests.reference import score_sde as score_sde_reference
from tests.reference.unet2d import random_tensors
from tests.unit.interop import test_diffusers as from_diffusers
from tests.unit.interop import test_edm as from_edm
from tests.unit.interop import test_guided_diffusion as from_guided
from tests.unit.interop import test_k_diffusion as from_k_diffusion
from tests.unit.interop import test_score_sde as from_score_sde


def reopened(found: ConvertedModel, at: Path) -> Run:
    """The run of a network that was converted."""
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    about = {"config": found.config, "facts": vars(data_spec)}
    saved = Checkpoint(images=0, net=found.state, ema=found.state, optimizer={}, about=about)
    checkpoint.save(at / "checkpoints", saved)
    return opened(at)


def samples(run: Run) -> bool:
    """Check that two steps give finite samples of the data's shape."""
    model: Denoiser = run.bind(run.prompt(2))
    noise, shape = PerSample(spawn_seeds(0, 2)), (2, *run.data_spec.shape)
    x = Sampler(solver=DDIM(), grid=Angle(), steps=2)(model, shape, noise=noise, device=run.device)
    return x.shape == shape and bool(x.isfinite().all())


def schedulers() -> Iterator[dict[str, Any]]:
    """Every scheduler of diffusers that has a counterpart, with every setting that decides over the process."""
    tables = ("linear", "scaled_linear", "sigmoid", "squaredcos_cap_v2", "trained")
    for kind, rescaled, table in itertools.product(PREDICTIONS, (False, True), tables):
        said = {**from_diffusers.CHAIN, "prediction_type": kind, "rescale_betas_zero_snr": rescaled}
        yield {
            **said,
            **(
                {"trained_betas": [0.01, 0.02, 0.03, 0.05, 0.1]}
                if table == "trained"
                else {"beta_schedule": table}
            ),
        }
    for name in CHAINS:
        yield {**from_diffusers.CHAIN, "_class_name": f"{name}Scheduler"}
    for name, kind in itertools.product(LEVELS, ("epsilon", "v_prediction")):
        yield {**from_diffusers.LEVELS_OF_EDM, "_class_name": f"{name}Scheduler", "prediction_type": kind}
    for name in FLOWS:
        yield {"_class_name": f"{name}Scheduler", "num_train_timesteps": 1000}


@pytest.mark.slow
def test_every_scheduler_of_diffusers(tmp_path: Path) -> None:
    """One network; the reopened process and conventions equal the converted ones."""
    tensors = random_tensors(from_diffusers.PLAIN)
    found = diffusers.read(tensors, from_diffusers.PLAIN, from_diffusers.CHAIN)
    run, tried = reopened(found, tmp_path / "run"), 0
    seen: list[dict[str, Any]] = []
    path = next((tmp_path / "run" / "checkpoints").iterdir())
    assert samples(run)
    for said in schedulers():
        tried += 1
        found = diffusers.read(tensors, from_diffusers.PLAIN, said)
        if found.config in seen:
            continue
        seen.append(found.config)
        header = stored_run.header_of(path)
        stored_run.write_header(path, {**header, "about": {**header["about"], "config": found.config}})
        again = opened(tmp_path / "run").denoiser
        assert again.sde == build.model(OmegaConf.create(found.config), run.data_spec).sde, said
    assert tried == 30 + len(CHAINS) + 4 + 2


@pytest.mark.parametrize("changes", [{"rescale_betas_zero_snr": True}, {"beta_schedule": "sigmoid"}])
def test_unusual_beta_tables_sample(tmp_path: Path, changes: dict[str, Any]) -> None:
    said = {**from_diffusers.CHAIN, **changes}
    assert samples(
        reopened(diffusers.read(random_tensors(from_diffusers.PLAIN), from_diffusers.PLAIN, said), tmp_path)
    )


def of_guided_diffusion(config: dict[str, Any]) -> ConvertedModel:
    """A network of guided-diffusion, with the tensors that the reference network reads."""
    classes = torch.tensor([0, 1]) if "num_classes" in config else None
    tensors, weights = score_sde_reference.drawn()
    adm.forward(config, weights, torch.zeros(2, 3, 8, 8).double(), torch.ones(2).double(), classes)
    return guided_diffusion.read(tensors, config)


def of_score_sde(settings: dict[str, Any]) -> ConvertedModel:
    """A network of score_sde_pytorch, likewise."""
    config, (tensors, weights) = from_score_sde.small(**settings), score_sde_reference.drawn()
    score_sde_reference.forward(config, weights, torch.zeros(2, 2, 8, 8).double(), torch.ones(2).double())
    return score_sde.read(tensors, config)


def of_edm(precond: str) -> ConvertedModel:
    """A network of EDM, likewise."""
    tensors, config, _ = from_edm.network(2 if precond == "iDDPMPrecond" else 1)
    return edm.read(from_edm.renamed(tensors, config), {**config, "precond": precond})


def of_k_diffusion(model: dict[str, Any]) -> ConvertedModel:
    """A network of k-diffusion, likewise."""
    config = from_k_diffusion.config_of(model)
    return k_diffusion.read(from_k_diffusion.file_of(config), config)


def of_diffusers(config: dict[str, Any]) -> ConvertedModel:
    """A network of diffusers, likewise."""
    return diffusers.read(random_tensors(config), config, from_diffusers.scheduler_of(config))


NETWORKS: dict[str, tuple[Callable[[Any], ConvertedModel], Any]] = {
    **{f"diffusers-{name}": (of_diffusers, one) for name, one in from_diffusers.VARIANTS.items()},
    **{f"guided_diffusion-{name}": (of_guided_diffusion, one) for name, one in from_guided.VARIANTS.items()},
    **{f"score_sde-{n}": (of_score_sde, one) for n, one in enumerate(from_score_sde.drawings())},
    **{f"k_diffusion-{name}": (of_k_diffusion, one) for name, one in from_k_diffusion.KINDS.items()},
    **{
        f"k_diffusion-hourglass-{name}": (of_k_diffusion, one)
        for name, one in from_k_diffusion.HOURGLASSES.items()
    },
    **{f"k_diffusion-vit-{name}": (of_k_diffusion, one) for name, one in from_k_diffusion.VITS.items()},
    **{f"edm-{name}": (of_edm, name) for name in ("VPPrecond", "VEPrecond", "iDDPMPrecond", "EDMPrecond")},
}
"""Networks of every format, in all their variants."""

FEW = {
    "diffusers-adm",
    "guided_diffusion-improved",
    "score_sde-3",
    "k_diffusion-image_v1",
    "edm-iDDPMPrecond",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in NETWORKS]
)
def test_every_network_that_is_converted_samples(name: str, tmp_path: Path) -> None:
    make, of = NETWORKS[name]
    assert samples(reopened(make(of), tmp_path))


OTHER_SIZES = {"mlp", "modulated_mlp", "hdit", "kunet", "dit", "jit", "mmdit", "unet_cross"}
"""Networks that have no setting of SMALL."""

FITTED = {
    "codec=latent",
    "codec=logit",  # below, with its bounds
    *(
        f"conditioning={name}"
        for name in ("encoded_text", "image", "inpaint", "several", "superres", "text", "vector")
    ),
}
"""Choices that need other data or other runs: test_conditions, test_composed_runs and test_event_ranks open them."""

CHOICES = {
    **{
        f"model-{name}": (
            *SMALL[: 0 if name in OTHER_SIZES else 2],
            f"model={name}",
        )
        for name in networks(Network)
        if name != "controlled"
    },
    **{
        f"{kind}-{name}": (*SMALL, f"{kind}={name}")
        for kind in ("sde", "parametrization", "codec", "conditioning")
        for name in names(kind)
        if "control" not in name and f"{kind}={name}" not in FITTED
    },
    "codec-logit": (*SMALL, "codec=logit", "codec.low=[-1]", "codec.high=[17]"),
}
"""Choices of a training that matter when it is opened again."""


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("sde") else pytest.mark.slow) for name in CHOICES]
)
def test_every_choice_of_a_training_samples(name: str, tmp_path: Path) -> None:
    mlp = name in ("model-mlp", "model-modulated_mlp")
    data_spec = (
        DataSpec(shape=(2,), levels=None, classes=3)
        if mlp
        else DataSpec(shape=(1, 16, 16), levels=17, classes=3)
    )
    codec = ("codec=affine", "data=moons") if mlp else ()
    stored_run.write(tmp_path, config_of(*CHOICES[name], *codec), data_spec)
    assert samples(opened(tmp_path))


@pytest.mark.parametrize("encoder", ["encoder", pytest.param("adm_encoder", marks=pytest.mark.slow)])
def test_every_classifier_opens(encoder: str, tmp_path: Path) -> None:
    data_spec = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
    stored_run.write(tmp_path / "run", config_of(*SMALL, "conditioning=class"), data_spec)
    config = config_of("objective=cross_entropy", f"model={encoder}", "model.width=8", "model.blocks=1")
    stored_run.write(tmp_path / "classifier", config, data_spec)
    run = opened(tmp_path / "run")
    t = torch.tensor(0.5, dtype=torch.float64)
    assert load_classifier(tmp_path / "classifier", run).log_probs(torch.zeros(2, 1, 8, 8), t).shape == (
        2,
        10,
    )
