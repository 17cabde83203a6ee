"""Import networks of other projects as run folders, or export runs to other projects.

``python -m sde_gen.convert from=score_sde file=... out=...``;
``python -m sde_gen.convert run=... to=diffusers out=...``.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from sde_gen.checkpoint import manifest, shape_check
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import build, console, instantiate, parts, run_reference
from sde_gen.cli.app import Command, reject_unused
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.versions import package_versions
from sde_gen.denoiser import NetworkDenoiser
from sde_gen.interop.converted_model import PARTS, ConvertedModel
from sde_gen.interop.diffusers import export, pipelines
from sde_gen.interop.diffusers.latent_pipeline import SOURCE
from sde_gen.interop.diffusers.pipeline_folder import INDEX
from sde_gen.interop.formats import files
from sde_gen.utils.atomic import atomic_directory, require_absent

DIFFUSERS = "sde_gen.interop.diffusers.save"
"""Export to diffusers."""

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
        reject_unused("a file is imported", "to", "checkpoint", "trust", "parts")
        import_network(config, out)
    else:
        if config.get("to") is None:
            raise ValueError("to=... must name the format to export")
        reject_unused("a run is exported", "from", "data", "settings")
        export_run(config, out)


def export_run(config: DictConfig, out: Path) -> None:
    """Write the averaged weights of a run as another project's folder."""
    source = {key: config[key] for key in ("run", "checkpoint", "trust", "parts")}
    run = load_run(OmegaConf.create({**source, "device": "cpu"}))
    if type(run.denoiser) is not NetworkDenoiser:
        raise ValueError(
            f"{run.folder} is a {type(run.denoiser).__name__}, which to=... does not export: others would take it for "
            "a denoiser; sample it here with solver=jump"
        )
    if (Path(config.run) / SOURCE / INDEX).is_file() and config.to._target_ == DIFFUSERS:
        _export_pipeline(run, out)
        return
    if run_reference.BEFORE in run.named:
        raise ValueError(
            f"{run.folder} is given the samples of {run.named[run_reference.BEFORE].folder}, which to=... does not "
            "export together"
        )
    if run.codec.of_latents:
        raise ValueError(
            f"{run.folder} is a model of latents with an autoencoder in {run.named['codec'].folder}, which "
            "to=... does not export together"
        )
    kinds = ("model", "sde", "parametrization", "codec", "conditioning")
    stored: dict[str, Any] = {key: OmegaConf.to_container(run.config[key], resolve=True) for key in kinds}
    stored["betas"] = getattr(run.denoiser.sde, "betas", ())
    instantiate.make(config.to)(stored, tuple(run.data_spec.shape), dict(run.denoiser.net.state_dict()), out)
    _report(run, out)


def _export_pipeline(run: Run, out: Path) -> None:
    """Write a pipeline as the folder from which it was imported, with the weights of the run."""
    codec: Any = run.codec
    states = {"network": run.denoiser.net.state_dict()}
    if codec.of_latents:
        states["vae"] = codec.autoencoder.net.state_dict()
    export.write(run.folder, states, out)
    _report(run, out)


def _report(run: Run, out: Path) -> None:
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
    """Read a network or a pipeline of another project and write it as a run folder, which all commands accept.

    The run folder of a classifier serves ``guidance.classifier``.
    """
    given = Path(config.file)
    path = given if pipelines.is_whole(given) else files.weights_of(given)
    found: ConvertedModel = instantiate.make(config["from"])(path, _settings(config.settings))
    stored = {**found.config, **_data(config)}
    data_spec = DataSpec(shape=found.shape, levels=found.levels, classes=found.classes)
    generates = issubclass(build.trained_class(OmegaConf.create(stored)), NetworkDenoiser)
    hint = "evaluate needs data=..." if generates else "a classifier needs none"
    origin = {"format": config["from"]._target_.split(".")[-2], **_origin(path)}
    with atomic_directory(out) as made:
        written = _write(found, made, out, origin, _data(config))
    runs = {name: f"{_count(part):,} parameters" for name, part in _parts(found)}
    console.print_table(
        f"converted to {out}",
        {
            "format": f"{origin['format']}, {origin['bytes']:,} bytes",
            "parameters": f"{_count(found):,}",
            "process": _kind(stored["sde"]),
            "event": f"{tuple(data_spec.shape)}, {data_spec.levels} levels",
            **({"parts": "; ".join(f"{name}, {what}" for name, what in runs.items())} if runs else {}),
            **({"copied files": f"{len(found.files)}"} if found.files else {}),
            **({"sampler": _sampler(stored)} if "sampling" in stored else {}),
            "left out": ", ".join(f"{name} ({why})" for name, why in found.unused.items()) or "nothing",
            "not as it was": "; ".join(found.notes) or "nothing",
            "data": _kind(stored["data"]) if "data" in stored else f"none given: {hint}",
        },
        {"from": path, "checkpoint": written},
    )


def _write(
    model: ConvertedModel, made: Path, out: Path, origin: Mapping[str, Any], more: Mapping[str, Any]
) -> Path:
    """Write a model with its parts into a folder that is being made; return where its checkpoint will lie.

    Arguments:
        model: the model.
        made: the folder.
        out: its final path.
        origin: description of the files.
        more: further parts of the configuration.
    """
    hashes = {}
    for name, part in model.runs.items():
        place = f"{PARTS}{name}"
        (made / place).parent.mkdir(parents=True, exist_ok=True)
        written = _write(part, made / place, out / place, {**origin, "part": name}, {})
        hashes[place] = manifest.part_digest(manifest.read(made / written.relative_to(out)).sha256, "ema")
    parts.copy(model.files, model.contents, made, out)
    config = parts.with_hashes({**model.config, **more}, hashes)
    data_spec = DataSpec(shape=model.shape, levels=model.levels, classes=model.classes)
    check = OmegaConf.create(parts.located(config, made))
    nodes = run_reference.OF_MODELS  # the stage before is large, and no argument of the network
    opened = run_reference.open_runs(check, device="cpu", beside=made, nodes=nodes)
    taken = run_reference.arguments(check, opened)
    space = replace(data_spec, shape=build.codec(check, data_spec, taken=taken).event(data_spec.shape))
    shape_check.check(
        partial(build.network, check, space, taken=taken), model.state, what=str(origin["file"])
    )
    about = {
        "config": config,
        "facts": vars(data_spec),
        "versions": package_versions(),
        "origin": {**origin, "left_out": model.unused, "notes": list(model.notes)},
    }
    saved = Checkpoint(images=0, net=model.state, ema=model.state, optimizer={}, about=about)
    return out / checkpoint.save(made / "checkpoints", saved).relative_to(made)


def _origin(path: Path) -> dict[str, Any]:
    """Describe the files that are read."""
    listed = pipelines.weights_of(path) if path.is_dir() else files.parts_of(path)
    named = {str(part.relative_to(path)) if path.is_dir() else part.name: part for part in listed}
    return {
        "file": path.name,
        "bytes": sum(part.stat().st_size for part in listed),
        **({} if path.is_dir() else {"sha256": _sha256(path)}),
        "parts": {name: _sha256(part) for name, part in named.items() if part != path},
    }


def _parts(model: ConvertedModel, place: str = "") -> Iterator[tuple[str, ConvertedModel]]:
    """Yield the runs that a model names, and those that these name, by their paths."""
    for name, part in model.runs.items():
        yield f"{place}{name}", part
        yield from _parts(part, f"{place}{name}/")


def _count(model: ConvertedModel) -> int:
    return sum(tensor.numel() for tensor in model.state.values())


def _sampler(node: Mapping[str, Any]) -> str:
    return f"{_kind(node['solver'])} on {_kind(node['grid'])}, {node['sampling']['steps']} steps"


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
