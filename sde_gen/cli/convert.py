"""Import networks of other projects as run folders, or export runs to other projects.

``python -m sde_gen.convert from=score_sde file=... out=...``;
``python -m sde_gen.convert run=... to=diffusers out=...``.
"""

import hashlib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.state_dict import load_into
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import build, console
from sde_gen.cli.app import Command, reject_unused
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import load_run
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.interop.converted_model import ConvertedModel
from sde_gen.interop.formats import files
from sde_gen.utils.atomic import atomic_directory, require_absent

LARGEST_SETTINGS = 2**18
"""Bytes of a YAML file of settings, at most."""

DEEPEST_SETTINGS = 32
"""Largest depth of nested settings in a YAML file."""


def convert(config: DictConfig) -> None:
    """Import a network of another project, or export a run."""
    out = Path(config.out)
    require_absent(out)
    if (config.run is None) == (config.file is None):
        raise ValueError(
            "give file=... and from=... to import a network, or run=... and to=... to export one"
        )
    if config.run is None:
        if config.get("from") is None:
            raise ValueError("from=... must name the format of the file")
        reject_unused("a file is imported", "to", "checkpoint", "trust")
        import_network(config, out)
    else:
        if config.get("to") is None:
            raise ValueError("to=... must name the format to export")
        reject_unused("a run is exported", "from", "data", "settings")
        export_run(config, out)


def export_run(config: DictConfig, out: Path) -> None:
    """Write the averaged weights of a run as another project's folder."""
    source = {key: config[key] for key in ("run", "checkpoint", "trust")}
    run = load_run(OmegaConf.create({**source, "device": "cpu"}))
    parts = ("model", "sde", "parametrization", "codec", "conditioning")
    stored: dict[str, Any] = {key: OmegaConf.to_container(run.config[key], resolve=True) for key in parts}
    stored["betas"] = getattr(run.denoiser.sde, "betas", ())
    build.make(config.to)(stored, tuple(run.data_spec.shape), dict(run.denoiser.net.state_dict()), out)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    console.print_table(
        f"exported to {out}",
        {
            "parameters": f"{sum(part.numel() for part in run.denoiser.net.parameters()):,}",
            "files": ", ".join(written),
        },
        {"run": run.folder},
    )


def import_network(config: DictConfig, out: Path) -> None:
    """Read a network of another project and write it as a run folder, which all commands accept.

    The run folder of a classifier serves ``guidance.classifier``.
    """
    path = files.weights_of(Path(config.file))
    found: ConvertedModel = build.make(config["from"])(path, _settings(config.settings))
    parts = files.parts_of(path)
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    stored = {**found.config, **_data(config)}
    made_of = OmegaConf.create(stored)
    net = build.model(made_of, data_spec).net
    generates = build.trained_class(made_of) is NetworkDenoiser
    hint = "evaluate needs data=..." if generates else "a classifier needs none"
    load_into(net, found.state, what=str(path))
    origin = {
        "format": config["from"]._target_.split(".")[-2],
        "file": path.name,
        "bytes": sum(part.stat().st_size for part in parts),
        "sha256": _sha256(path),
        "parts": {part.name: _sha256(part) for part in parts if part != path},
        "left_out": found.unused,
        "notes": list(found.notes),
    }
    about = {"config": stored, "facts": vars(data_spec), "versions": build.versions(), "origin": origin}
    saved = Checkpoint(images=0, net=found.state, ema=found.state, optimizer={}, about=about)
    with atomic_directory(out) as made:
        written = out / checkpoint.save(made / "checkpoints", saved).relative_to(made)
    console.print_table(
        f"converted to {out}",
        {
            "format": f"{origin['format']}, {origin['bytes']:,} bytes",
            "parameters": f"{sum(part.numel() for part in net.parameters()):,}",
            "process": _kind(stored["sde"]),
            "event": f"{tuple(data_spec.shape)}, {data_spec.levels} levels",
            "left out": ", ".join(f"{name} ({why})" for name, why in found.unused.items()) or "nothing",
            "not as it was": "; ".join(found.notes) or "nothing",
            "data": _kind(stored["data"]) if "data" in stored else f"none given: {hint}",
        },
        {"from": path, "checkpoint": written},
    )


def _settings(path: str | None) -> dict[str, Any] | None:
    """Read the JSON or YAML file of settings of the foreign network, where one is named."""
    if path is None:
        return None
    if not Path(path).is_file():
        raise ValueError(
            f"file not found: {path}; settings=... names the configuration the network was made with"
        )
    if path.endswith(".json"):
        return files.json_of(Path(path))
    if Path(path).stat().st_size > LARGEST_SETTINGS:
        raise ValueError(f"{path} has more than {LARGEST_SETTINGS:,} bytes, which no settings have")
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check_yaml(text)
        found = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except Exception as error:  # any error of the YAML reader on a damaged file
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{path} is neither JSON nor YAML ({reason.splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a dictionary of settings")
    return {str(key): value for key, value in found.items()}


def _check_yaml(text: str) -> None:
    """Raise an error for names that stand for other parts, and great depth: they make a small file a large or slow one.

    Raises:
        ValueError: it has one of them.
    """
    depth = 0
    for token in yaml.scan(text):
        kind = type(token).__name__
        depth += kind.endswith("StartToken") - kind.endswith("EndToken")
        if kind == "AliasToken":
            raise ValueError("it has aliases, which no settings need")
        if depth > DEEPEST_SETTINGS:
            raise ValueError(f"it is more than {DEEPEST_SETTINGS} deep")


def _data(config: DictConfig) -> dict[str, Any]:
    node = config.get("data")
    return {} if node is None else {"data": OmegaConf.to_container(node, resolve=True)}


def _kind(node: Any) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            found.update(block)
    return found.hexdigest()


main = Command(name="convert", function=convert)
