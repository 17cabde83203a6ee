"""Initial weights of a training: from another run, one of its checkpoints, or a file of weights."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import diff_config, line
from sde_gen.checkpoint.matching import LoadReport, load_matching
from sde_gen.checkpoint.tensors import open_shards
from sde_gen.cli import console, pretrained
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.parts import located
from sde_gen.cli.renamed import upgrade
from sde_gen.data.conditioning import Conditioning
from sde_gen.distributed.storage import TensorSource
from sde_gen.training.frozen import freeze, trainable_names
from sde_gen.utils import atomic

PART = "ema"
"""Part of a checkpoint that initializes the training: the averaged (EMA) weights."""

COMPARED = ("sde", "parametrization", "codec")
"""Parts of both configurations whose differences are printed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights on disk.

    Arguments:
        path: folder of a checkpoint, or a file.
        sha256: their checksum, in hexadecimal digits.
        tensors: tensors by name, read when indexed.
        config: the configuration of their training; empty for a file.
        images: training images seen; None for a file.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, TensorSource]
    config: dict[str, Any] = field(default_factory=dict)
    images: int | None = None

    def record(self) -> dict[str, Any]:
        """Return the metadata stored in checkpoints of the new training."""
        return {"path": os.path.abspath(self.path), "sha256": self.sha256, "images": self.images}


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Initial weights of a training.

    Arguments:
        source: the weights to load; None in a resumed training or with random weights.
        record: metadata of the source; empty for random weights.
        resumed: whether the run folder holds a checkpoint, which replaces the initial weights.
    """

    source: Source | None
    record: dict[str, Any]
    resumed: bool

    def model(
        self, build: Callable[[DictConfig, DataSpec, Conditioning], Any], *, shown: bool
    ) -> Callable[[DictConfig, DataSpec, Conditioning], Any]:
        """Return a function that builds a model, loads these weights and freezes parameters by the configuration.

        Arguments:
            build: builds the model with random weights.
            shown: True to print a table of the loaded tensors.
        """

        def built(config: DictConfig, data_spec: DataSpec, given: Conditioning) -> Any:
            model = build(config, data_spec, given)
            if self.source is not None:
                taken = load_matching(model.net, self.source.tensors, what=str(self.source.path))
            freeze(model.net, list(config.get("freeze") or ()))
            if self.source is not None and shown:
                _show(config, self.source, taken, model.net)
            if self.source is None and not self.resumed and trainable_names(model.net) is not None:
                raise ValueError(
                    "freeze=... and adapter=... freeze weights, which are random here: "
                    "load trained ones with init=RUN"
                )
            return model

        return built


def initial_weights(config: DictConfig, folder: Path) -> InitialWeights:
    """Find the initial weights of a training.

    A resumed training does not read them again; their checksum is compared if they still exist.

    Raises:
        ValueError: the weights are missing or damaged, or the training in the folder began from others.
    """
    init = config.get("init")
    init = None if init is None else str(pretrained.resolve(init))
    if init is not None and Path(init).resolve() == folder.resolve():
        raise ValueError(
            f"init={init} names the run folder itself: run={folder} alone goes on with its training, and a new "
            "one needs another folder"
        )
    found = checkpoint.paths(folder / "checkpoints")
    readable = [about for path in reversed(found) if (about := checkpoint.about(path))]
    if found:
        record = dict(readable[0].get("init") or {}) if readable else {}
        if init is not None and readable:
            _check_record(record, init, folder)
        return InitialWeights(source=None, record=record, resumed=True)
    if init is None:
        return InitialWeights(source=None, record={}, resumed=False)
    source = open_source(init)
    return InitialWeights(source=source, record=source.record(), resumed=False)


def open_source(init: str) -> Source:
    """Open weights lazily: a run folder, a checkpoint folder, or a safetensors file.

    Raises:
        ValueError: there are none, or they are damaged.
    """
    path = pretrained.resolve(init)
    if path.is_dir() and not (path / manifest.NAME).exists():
        saved = checkpoint.latest(path / "checkpoints", (PART,))
        if saved is None:
            raise ValueError(
                f"init={init}: the folder has no checkpoint; name a run folder or a file of safetensors"
            )
        path = path / "checkpoints" / f"{saved.images:012d}"
    elif path.is_dir():
        saved = checkpoint.load(path, (PART,))
    elif path.exists():
        return _file(path, init)
    else:
        raise ValueError(f"init={init}: there is no such run folder or file of weights")
    config = located(upgrade(saved.about.get("config")), path.parents[1])
    return Source(
        path=path,
        sha256=_sha256(path),
        tensors=saved.ema,
        config=config if isinstance(config, dict) else {},
        images=saved.images,
    )


def _file(path: Path, init: str) -> Source:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"init={init}: expected a run folder or a file of safetensors; other formats can run code when they are "
            "read: convert the file with python -m sde_gen.convert, and name that run"
        )
    atomic.check_regular(path)
    return Source(path=path, tensors=open_shards([path]), sha256=_sha256(path))


def _sha256(path: Path) -> str:
    """Return the checksum of a file, or that of the averaged weights in the manifest of a checkpoint."""
    if path.is_dir():
        return manifest.part_digest(manifest.read(path).sha256, PART)
    digest = hashlib.sha256()
    with atomic.open_regular(path) as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _check_record(record: Mapping[str, Any], init: str, folder: Path) -> None:
    """Check that the training to resume began from the given weights."""
    if not record:
        raise ValueError(
            f"the training in {folder} did not begin from other weights: leave out init={init}, or choose another "
            "folder with run=..."
        )
    stored, given = Path(str(record.get("path"))), Path(init)
    inside = given / "checkpoints" / stored.name
    named = inside if inside.is_dir() else given
    if os.path.abspath(given) in (str(stored), str(stored.parent.parent)) and not stored.exists():
        return  # replaced by a later checkpoint or deleted
    if not named.exists() or (named.is_dir() and not (named / manifest.NAME).exists()):
        found = "not found"
    else:
        found = _sha256(named)
    if found != record.get("sha256"):
        raise ValueError(
            f"the training in {folder} began from other weights than init={init}: from {line(str(stored), 200)} with "
            f"SHA-256 {str(record.get('sha256'))[:12]}..., now {found[:12]}; leave out init to go on, or choose "
            "another folder with run=..."
        )


def _show(config: DictConfig, source: Source, taken: LoadReport, net: nn.Module) -> None:
    """Print a table of the origin of the tensors of the network."""
    state = net.state_dict()
    count = sum(source.tensors[name].shape.numel() for name in taken.taken if name in source.tensors)
    parameters = [(parameter.requires_grad, parameter.numel()) for parameter in net.parameters()]
    number = sum(size for _, size in parameters)
    ours = OmegaConf.to_container(config, resolve=True)
    assert isinstance(ours, dict)
    differences = [
        each
        for key in COMPARED
        if source.config
        for each in diff_config(source.config.get(key), ours[key], key)
    ]
    console.print_table(
        f"weights of {source.path}",
        {
            "taken": f"{len(taken.taken)} tensors, {count:,} numbers",
            "new": _listing([f"{name} {tuple(state[name].shape)}" for name in taken.new if name in state]),
            "of another shape there, so new": _listing(
                [f"{name} {there} for {here}" for name, (there, here) in taken.reshaped.items()]
            ),
            "left over": _listing(taken.left_over),
            "trained": f"{sum(size for trains, size in parameters if trains):,} of {number:,} parameters",
            **({"not as there": "; ".join(differences)} if differences else {}),
        },
    )


def _listing(names: "list[str] | tuple[str, ...]") -> str:
    if not names:
        return "none"
    return (
        f"{len(names)}: {', '.join(line(name, 80) for name in names[:8])}{', ...' if len(names) > 8 else ''}"
    )
