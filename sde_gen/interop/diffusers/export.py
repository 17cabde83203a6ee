"""Export of an imported pipeline to the folder that it came from."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sde_gen.interop.converted_model import PARTS
from sde_gen.interop.diffusers import deepfloyd_if, original
from sde_gen.interop.diffusers.autoencoder_kl import AutoencoderLayout
from sde_gen.interop.diffusers.dit_transformer import DiTLayout
from sde_gen.interop.diffusers.latent_pipeline import SOURCE
from sde_gen.interop.diffusers.pipeline_folder import INDEX, PipelineFolder
from sde_gen.interop.diffusers.sd3_transformer import SD3Layout
from sde_gen.interop.diffusers.unet2d_condition import UNet2DConditionLayout
from sde_gen.interop.formats import files
from sde_gen.utils.atomic import atomic_directory, create, put
from sde_gen.utils.tensor_file import put_tensors


def layout_of(kind: str, config: Mapping[str, Any], *, variance: bool) -> original.Mapped:
    """Return the mapping of a network by its class.

    Raises:
        ValueError: the class is not supported.
    """
    if kind == "UNet2DConditionModel":
        return UNet2DConditionLayout(config, variance=variance)
    found: dict[str, Callable[[Mapping[str, Any]], original.Mapped]] = {
        "AutoencoderKL": AutoencoderLayout,
        "DiTTransformer2DModel": DiTLayout,
        "Transformer2DModel": DiTLayout,
        "SD3Transformer2DModel": SD3Layout,
    }
    if kind not in found:
        raise ValueError(f"{kind} cannot be exported; expected UNet2DConditionModel, {', '.join(found)}")
    return found[kind](config)


def write(run: Path, states: Mapping[str, Mapping[str, Tensor]], out: Path) -> None:
    """Write the folder of a pipeline: settings as they were, weights of the run under their original names and dtypes.

    Weights that were not trained further are those of the original to the bit.

    Arguments:
        run: run folder of the imported pipeline.
        states: weights of ``network`` and ``vae`` by their names in sde_gen.
        out: the folder to create.

    Raises:
        ValueError: the run does not hold what the original had.
    """
    source = PipelineFolder(run / SOURCE)
    with atomic_directory(out) as made:
        for name, kind in source.parts.items():
            place, settings = run / PARTS / name, run / SOURCE / name
            if name.startswith(("text_encoder", "tokenizer")) and place.is_dir():
                _copy(place, made / name)
            if not settings.is_dir():
                continue
            (made / name).mkdir()
            for file in sorted(settings.glob("*.json")):
                if file.name != original.TABLE:
                    put(made / name / file.name, file.read_bytes())
            if (settings / original.TABLE).is_file():
                config = files.json_of(settings / "config.json")
                state = states["vae" if name == "vae" else "network"]
                layout = layout_of(kind, config, variance=source.kind in deepfloyd_if.PIPELINES)
                for file_name, tensors in original.restore(settings, layout, state).items():
                    put_tensors(made / name / Path(file_name).name, tensors, {"format": "pt"})
        index = (run / SOURCE / INDEX).read_bytes()
        if absent := source.left_out():  # a list of parts that are not there cannot be loaded
            kept = {key: [None, None] if key in absent else value for key, value in source.index.items()}
            index = (json.dumps(kept, indent=2) + "\n").encode()
        put(made / INDEX, index)


def _copy(source: Path, target: Path) -> None:
    """Copy the files of a folder, a part at a time."""
    target.mkdir()
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        with path.open("rb") as file, create(target / path.name) as copied:
            shutil.copyfileobj(file, copied)
