"""Networks of diffusers: UNet2DModel as in DDPM and as in NCSN++, with the process of its scheduler."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.codec.uniform import Uniform
from sde_gen.conditioning.label import Label as ClassLabel
from sde_gen.conditioning.none import Unconditional
from sde_gen.interop import files
from sde_gen.interop.imported import Imported
from sde_gen.interop.recipe import Recipe
from sde_gen.interop.settings import choice, need
from sde_gen.interop.transfer import Transfer
from sde_gen.interop.unet2d import DDPMLayout, NCSNppLayout, renamed
from sde_gen.model.centred import Centred
from sde_gen.parametrization.eps import Eps
from sde_gen.parametrization.label import LogRatio, Time
from sde_gen.parametrization.learned_range import LearnedRange
from sde_gen.parametrization.v import V
from sde_gen.parametrization.x0 import X0
from sde_gen.sde.ddpm import DDPM, cosine_betas, linear_betas, scaled_linear_betas
from sde_gen.sde.ve import VE

PREDICTIONS = {"epsilon": Eps, "sample": X0, "v_prediction": V}


def load(path: Path, config: Mapping[str, Any] | None = None) -> Imported:
    """Read a file of weights that has the network's ``config.json`` beside it.

    Arguments:
        path: the weights.
        config: what ``scheduler_config.json`` says; None where it lies with the network or in a folder ``scheduler``
            beside it.

    Raises:
        ValueError: a file is missing; or as :func:`~sde_gen.interop.files.read` and :func:`read`.
    """
    folder = path.parent
    if config is None:
        places = [folder, folder / "scheduler", folder.parent / "scheduler"]
        found = next(
            (at / "scheduler_config.json" for at in places if (at / "scheduler_config.json").is_file()), None
        )
        if found is None:
            raise ValueError(
                f"there is no scheduler_config.json in or beside {folder}; it says on what process the network was "
                "trained: give it as settings=..."
            )
        config = _json(found)
    return read(files.tensors(files.read(path)), _json(folder / "config.json"), config)


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Imported:
    """Put a network of theirs in our terms.

    Blocks of DDPM are told the number of the chain's step, from 0, and their process is the chain of the scheduler;
    what the output is, ``prediction_type`` says. Images lie on [-1, 1]; with ``center_input_sample`` on [0, 1], and the
    network centres them. Skip blocks are told sigma, of which they take the logarithm, and give the score: -1 times
    the noise, divided by sigma, so that the last convolutions change their sign here. Their images lie on [0, 1]; those
    that the network centres lie on [-1, 1] here, where the noise is twice theirs.

    What belongs to their samplers (``clip_sample``, ``thresholding``, fixed variances) is not taken over. Without a
    label their networks with classes cannot be asked; here the null class adds nothing to the embedding.

    Source: von Platen et al., diffusers 0.42, models/unets/unet_2d.py and schedulers.

    Arguments:
        tensors: the state dictionary.
        config: the arguments of ``UNet2DModel`` by name: its ``config.json``.
        scheduler: those of the scheduler.

    Raises:
        ValueError: a setting that is missing or that our networks do not have, or tensors that do not fit; the message
            names them.
    """
    choice({"_class_name": "UNet2DModel", **config}, "_class_name", "unet2dmodel")
    exploding = any("Skip" in str(kind) for kind in need(config, "down_block_types"))
    layout = NCSNppLayout(config) if exploding else DDPMLayout(config)
    sizes = layout.sizes
    with torch.device("meta"):
        moved = Transfer(renamed(tensors), layout.recipe().make())
    layout.move(moved)
    state, net = moved.finish(), layout.recipe()
    centred = bool(sizes.said["center_input_sample"])
    if exploding:
        for head in layout.heads():
            for name in (f"{head}.weight", f"{head}.bias"):
                state[name] = -state[name]
        unit = 2.0 if centred else 1.0
        sde, parametrization = _exploding(scheduler, unit)
        low = -1.0 if centred else 0.0
    else:
        sde, parametrization = _chain(scheduler, sizes.outputs)
        low = 0.0 if centred else -1.0
        if centred:
            net, state = Recipe(Centred, net=net), {f"net.{name}": value for name, value in state.items()}
    labels = (
        Recipe(ClassLabel, classes=sizes.classes, dropout=0.0) if sizes.classes else Recipe(Unconditional)
    )
    return Imported(
        config={
            "model": net.config(),
            "sde": sde.config(),
            "parametrization": parametrization.config(),
            "codec": Recipe(Uniform, levels=256, low=low, high=1.0).config(),
            "conditioning": labels.config(),
        },
        shape=tuple(sizes.shape),
        levels=256,
        classes=sizes.classes,
        state=state,
        unused=moved.unused,
    )


def _exploding(scheduler: Mapping[str, Any], unit: float) -> tuple[Recipe, Recipe]:
    """VE, on data ``unit`` times larger than theirs."""
    choice(scheduler, "_class_name", "scoresdevescheduler")
    sde = Recipe(
        VE,
        sigma_min=unit * float(need(scheduler, "sigma_min")),
        sigma_max=unit * float(need(scheduler, "sigma_max")),
        t_min=float(scheduler.get("sampling_eps", 1e-5)),
    )
    return sde, Recipe(Eps, label=Recipe(LogRatio, unit=unit))


def _chain(scheduler: Mapping[str, Any], outputs: int) -> tuple[Recipe, Recipe]:
    """The chain of a scheduler, and what the output means."""
    if scheduler.get("rescale_betas_zero_snr", False):
        raise ValueError("rescale_betas_zero_snr=True is not supported; expected False")
    steps = int(need(scheduler, "num_train_timesteps"))
    label = Recipe(Time, scale=float(steps), offset=-1.0)
    given = scheduler.get("trained_betas")
    if given is not None:
        betas: Any = [float(beta) for beta in given]
    else:
        kind = choice(
            {"beta_schedule": "linear", **scheduler},
            "beta_schedule",
            "linear",
            "scaled_linear",
            "squaredcos_cap_v2",
        )
        ends = {
            "beta_min": float(scheduler.get("beta_start", 1e-4)),
            "beta_max": float(scheduler.get("beta_end", 0.02)),
        }
        if kind == "squaredcos_cap_v2":
            betas = Recipe(cosine_betas, steps=steps)
        else:
            betas = Recipe(linear_betas if kind == "linear" else scaled_linear_betas, steps=steps, **ends)
    said = {"prediction_type": "epsilon", **scheduler}
    meaning = Recipe(PREDICTIONS[choice(said, "prediction_type", *PREDICTIONS)], label=label)
    if outputs == 2:
        choice(scheduler, "variance_type", "learned_range")
        meaning = Recipe(LearnedRange, mean=meaning)
    return Recipe(DDPM, betas=betas), meaning


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"there is no {path}, which says what the network is") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no settings by name")
    return found
