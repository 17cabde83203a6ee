"""Run folders as a training leaves them, written at once, and changed as somebody else might change them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import build, trusted
from sde_gen.cli.config_files import CONF
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import Run, load_run
from sde_gen.utils.types import Shape

SMALL = ("model.width=8", "model.blocks=1", "model.attention_levels=[]")
"""Of networks like NCSN++."""


def config_of(*words: str) -> dict[str, Any]:
    """Return the configuration that a training with these words stores."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        stored = OmegaConf.to_container(compose("train", [*words, "run=somewhere"]), resolve=True)
    plain: dict[str, Any] = json.loads(json.dumps(stored))
    return plain


def write(
    folder: Path,
    config: dict[str, Any],
    data_spec: DataSpec,
    *,
    event: Shape | None = None,
    seed: int = 0,
    spread: float = 0.0,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Leave a run folder with random weights, of a network of the event shape in model space; its checkpoint.

    With ``spread`` the layers that a training begins with zeros have random numbers of that size, too.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        space = dataclasses.replace(data_spec, shape=event or data_spec.shape)
        tensors = build.model(OmegaConf.create(config), space).net.state_dict()
        if spread:
            tensors = {name: value + spread * torch.randn(value.shape) for name, value in tensors.items()}
    about = {"config": config, "facts": vars(data_spec), **about}
    saved = Checkpoint(images=64, net=tensors, ema=tensors, optimizer={}, about=about)
    return checkpoint.save(folder / "checkpoints", saved)


def header_of(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint."""
    header: dict[str, Any] = json.loads((path / "checkpoint.json").read_bytes())
    return header


def write_header(path: Path, header: Any) -> None:
    """Let a checkpoint say something else, with a checksum that fits."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (path / "checkpoint.json").write_bytes(text)
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text).hexdigest())


def replace(path: Path, name: str, content: bytes) -> None:
    """Put other content into a file of a checkpoint, with checksums that fit."""
    (path / name).write_bytes(content)
    header = header_of(path)
    header["sha256"][name] = hashlib.sha256(content).hexdigest()
    write_header(path, header)


def opened(folder: Path, *trust: str) -> Run:
    """The run, as sample opens it."""
    asked = {"run": str(folder), "checkpoint": None, "trust": list(trust), "device": "cpu"}
    return load_run(OmegaConf.create(asked))


def read_back(config: dict[str, Any]) -> DictConfig:
    """Return the configuration of a converter as the reopened run has it; fail where it is refused or incomplete."""
    plain = json.loads(json.dumps(config))
    assert trusted.check(plain) == plain
    return OmegaConf.create(plain)
