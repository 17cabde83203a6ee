"""Run folders: the trained model that the other commands load."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sde_gen.checkpoint import shape_check
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import line
from sde_gen.checkpoint.state_dict import load_into
from sde_gen.cli import build, conditions, instantiate, renamed, run_reference, trusted
from sde_gen.cli.app import as_list, format_error
from sde_gen.cli.constructors import accepts
from sde_gen.cli.data_spec import DataSpec
from sde_gen.cli.parts import located, with_skipped_layers
from sde_gen.cli.run_metadata import (
    read_before,
    read_codec,
    read_data_spec,
    read_identity,
    read_sampling,
)
from sde_gen.data import DataIdentity
from sde_gen.data.codec import Codec
from sde_gen.data.conditioning import Conditioning, Unconditional
from sde_gen.denoiser import (
    AutoregressiveModel,
    Denoiser,
    NetworkAutoencoder,
    NetworkDenoiser,
    NoisyClassifier,
)
from sde_gen.model.adapter import merge
from sde_gen.training.precision import Float32, Precision, contexts
from sde_gen.utils.types import Shape

PARTS_READ = ("ema",)
"""Parts of a checkpoint that are read here."""


WRONG = {
    NetworkDenoiser: "a score network; for an autoencoder name a run of objective=autoencoding",
    NoisyClassifier: "a classifier, which cannot sample; name the run folder of a score network",
    NetworkAutoencoder: "an autoencoder, which cannot sample; name the run folder of a score network, such as one of "
    "codec=latent; an autoencoder is evaluated by metrics=[autoencoder_bound]",
    AutoregressiveModel: "an autoregressive model of codes, for the commands sample and evaluate; its likelihood is "
    "bounded by metrics=[code_bound]",
}
"""Messages about the model of a run where another is needed."""

SAMPLED = (NetworkDenoiser, AutoregressiveModel)
"""Classes of models that draw samples."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained model, rebuilt from its checkpoint alone.

    Arguments:
        folder: the run folder.
        config: the configuration it was trained with.
        data_spec: shape, levels and classes of its data.
        denoiser: the network with its averaged weights, ready for evaluation.
        codec: between data and model space.
        images: training images it has seen.
        device: where it lies.
        precision: format of the network's products.
        data: fingerprint and place of its data; empty for a checkpoint of an earlier version.
        conditioning: what the network is given besides noisy sample and time.
        fingerprint: by split and name, hashes of the conditions that are read, besides the labels.
        sha256: SHA-256 of the averaged weights, as stored.
        named: the runs that it names, by the part of the configuration that names them.
    """

    folder: Path
    config: DictConfig
    data_spec: DataSpec
    denoiser: NetworkDenoiser
    codec: Codec
    images: int
    device: torch.device
    precision: torch.dtype
    data: DataIdentity = field(default_factory=DataIdentity)
    conditioning: Conditioning = field(default_factory=Unconditional)
    fingerprint: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sha256: str = ""
    named: Mapping[str, "Run"] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """Return the folder of its checkpoint."""
        return self.folder / "checkpoints" / f"{self.images:012d}"

    @property
    def event(self) -> Shape:
        """Return the event shape in model space, which for latents is not that of the data."""
        return self.codec.event(self.data_spec.shape)

    @property
    def of_codes(self) -> bool:
        """Return whether it is an autoregressive model of codes."""
        return build.trained_class(self.config) is AutoregressiveModel

    def prompt(self, n: int, **typed: Any) -> dict[str, Tensor]:
        """Return the conditioning inputs of n samples for what a person types, such as ``label="dog"``.

        Without any, they are the default of the conditioning: all classes in turn, and no text, vector or image.

        Raises:
            ValueError: a value does not fit, or one is missing that the network was never trained without.
        """
        return self.conditioning.prompt(typed, n, class_names=self.data.class_names)

    def bind(self, cond: Mapping[str, Tensor], denoiser: Denoiser | None = None) -> Denoiser:
        """Return the run's denoiser, or another, with conditioning inputs bound on the device of the run."""
        model = self.denoiser if denoiser is None else denoiser
        return model.bind(**{key: value.to(self.device) for key, value in cond.items()}) if cond else model


def load_run(config: DictConfig, *trains: type) -> Run:
    """Rebuild the model of ``config.run``, its network called in ``config.precision`` if there is one, else in float32.

    Arguments:
        config: the configuration of a command.
        trains: classes of what may have been trained, by default a denoiser; another stands in its place.

    Raises:
        ValueError: no such folder or checkpoint, a damaged one, or a configuration that is not to be trusted.
    """
    folder, trust = Path(config.run), tuple(as_list(config.trust))
    found, stored, data_spec = _open(folder, config.checkpoint, trust)
    found_class = build.trained_class(stored)
    if not issubclass(found_class, trains or (NetworkDenoiser,)):
        raise ValueError(f"{folder} holds {WRONG.get(found_class, 'a model of another kind')}")
    if found_class is NetworkAutoencoder and accepts(stored.codec, "autoencoder"):
        raise ValueError(f"{folder} holds an autoencoder of latents, which is not supported")
    where, chosen = build.device(config.device), config.get("precision")
    precision: Precision = Float32() if chosen is None else instantiate.make(chosen)
    dtype = precision.dtype(where)
    what, parts = f"the checkpoint in {folder}", as_list(config.parts) if "parts" in config else []
    _skip_layers(stored, config.get("clip_skip"), folder)
    with _rebuilding(what):
        named = run_reference.open_runs(
            stored,
            device=str(where),
            beside=folder,
            parts=parts,
            trust=trust,
            nodes=(*run_reference.OF_MODELS, run_reference.BEFORE),
            precision=chosen,
            after=config.get(run_reference.AFTER) or 0,
        )
        taken = run_reference.arguments(stored, named)
        learned, fingerprint = conditions.read(found.about, folder)
        conditioning = build.conditioning(stored, data_spec, learned)
        codec = build.codec(stored, data_spec, read_codec(found.about, folder), taken)
        conditioning = conditioning.with_codec(codec)
        space = replace(data_spec, shape=codec.event(data_spec.shape))
        _compare(partial(build.network, stored, space, conditioning, taken), stored.model, found, what)
        context = {"context": contexts(where, dtype)} if issubclass(found_class, SAMPLED) else {}
        denoiser = build.model(stored, space, conditioning, taken, **context)
        if precision.weights:  # before they are read, of which both would be in memory
            denoiser.net.to(dtype)
        load_into(denoiser.net, found.ema, what=what)
        merge(denoiser.net)
    return Run(
        folder=folder,
        config=stored,
        data_spec=data_spec,
        denoiser=denoiser.to(where).eval().requires_grad_(False),
        codec=codec,
        images=found.images,
        device=where,
        precision=dtype,
        data=read_identity(found.about, folder),
        conditioning=conditioning,
        fingerprint=fingerprint,
        sha256=found.sha256["ema"],
        named=named,
    )


def load_classifier(folder: Path, run: Run) -> NoisyClassifier:
    """Rebuild the classifier of a run folder, to be used beside a run.

    Raises:
        ValueError: as :func:`load_run`; or it was trained on other data, another process or another codec.
    """
    found, stored, data_spec = _open(folder, None, ())
    if build.trained_class(stored) is not NoisyClassifier:
        raise ValueError(
            f"{folder} holds no classifier; train one with {renamed.COMMANDS['train_classifier']}"
        )
    for kind in ("sde", "codec"):
        if run_reference.without_places(stored[kind]) != run_reference.without_places(run.config[kind]):
            raise ValueError(
                f"the classifier in {folder} was trained with {kind}={line(str(stored[kind]), 120)}, the run with "
                f"{line(str(run.config[kind]), 120)}; both need the same"
            )
    expected, actual = ((one.shape, one.levels) for one in (run.data_spec, data_spec))
    if expected != actual or run.data_spec.classes not in (
        0,
        data_spec.classes,
    ):  # 0: the run's data have no labels
        raise ValueError(f"the classifier in {folder} was trained on {data_spec}, the run on {run.data_spec}")
    _check_names(run.data, read_identity(found.about, folder), f"the classifier in {folder}")
    what = f"the checkpoint in {folder}"
    space = replace(data_spec, shape=run.event)
    with _rebuilding(what):
        _compare(partial(build.network, stored, space), stored.model, found, what)
        classifier: NoisyClassifier = build.model(stored, space)
        load_into(classifier.net, found.ema, what=what)
    return classifier.to(run.device).eval().requires_grad_(False)


def classes_of(folder: Path) -> tuple[int, tuple[str, ...]]:
    """Return number and names of the classes of a run folder's data, by its newest checkpoint; 0 and () without."""
    while found := checkpoint.paths(folder / "checkpoints"):
        about = checkpoint.about(found[-1])
        data_spec = about.get("facts")
        if data_spec or found[-1].exists():  # else a training beside has deleted it: there are newer ones
            return (read_data_spec(data_spec, folder).classes if data_spec else 0), read_identity(
                about, folder
            ).class_names
    return 0, ()


def _skip_layers(stored: DictConfig, layers: int | None, folder: Path) -> None:
    """Leave out the last layers of the encoders CLIP of texts.

    Raises:
        ValueError: there is no such encoder.
    """
    if not layers:
        return
    before = OmegaConf.to_container(stored.get("conditioning") or OmegaConf.create({}), resolve=True)
    after = with_skipped_layers(before, layers)
    if after == before:
        raise ValueError(f"clip_skip={layers}: the texts of {folder} are not embedded by CLIP; leave it out")
    stored.conditioning = after


def _open(
    folder: Path, name: str | None, trust: tuple[str, ...]
) -> tuple[checkpoint.StoredCheckpoint, DictConfig, DataSpec]:
    """Find a checkpoint, and what it was trained with; nothing of that is built before all of it is checked."""
    if not folder.is_dir():
        raise ValueError(
            f"there is no run folder {folder}; train one with python -m sde_gen.train, or name another with run=..."
        )
    with _rebuilding(f"the checkpoint in {folder}"):
        found = _find(folder, name)
    about = found.about
    if not {"config", "facts"} <= about.keys():
        raise ValueError(
            f"the checkpoint in {folder} contains no configuration: it was not written by the command train, "
            "and only the code that trained it can rebuild it"
        )
    config = renamed.upgrade(about["config"])
    if not (isinstance(config, dict) and config.get("model")):
        raise ValueError(
            f"the checkpoint in {folder} contains no network: it was not written by the command train"
        )
    with _rebuilding(f"the checkpoint in {folder}"):
        parts = located(trusted.check(config, trust), folder)
        absent = {"sde", "parametrization", "codec"} - parts.keys()
        if absent:
            raise ValueError(f"the checkpoint in {folder} contains no {' and no '.join(sorted(absent))}")
        if "data" in parts:
            parts["data"] = trusted.reading(parts["data"])
        if "sampling" in config:
            parts["sampling"] = read_sampling(config["sampling"])
        if run_reference.BEFORE in config:
            parts[run_reference.BEFORE] = located(read_before(config[run_reference.BEFORE]), folder)
        return found, OmegaConf.create(parts), read_data_spec(about["facts"], folder)


@contextmanager
def _rebuilding(what: str) -> Iterator[None]:
    """Raise any error of reading and building a stored configuration inside the block as one of one line."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if "allocate memory" in str(cause):
            raise MemoryError(str(cause)) from error
        if isinstance(cause, ValueError):
            raise ValueError(line(format_error(error))) from error
        kind = type(cause).__name__
        raise ValueError(f"{what} cannot be rebuilt: {line(format_error(error), 200)} ({kind})") from error


def _compare(
    make: Callable[[], nn.Module], node: DictConfig, found: checkpoint.StoredCheckpoint, what: str
) -> None:
    """Compare the stored tensors with those of the network, before it takes memory; others' networks may need some."""
    if str(node._target_).startswith("sde_gen."):
        shape_check.check(make, found.ema, what=what)


def _check_names(current: DataIdentity, trained: DataIdentity, what: str) -> None:
    """Raise an error for another model whose classes have other names."""
    if current.class_names and trained.class_names and current.class_names != trained.class_names:
        raise ValueError(
            f"{what} was trained on the classes {', '.join(trained.class_names)}, "
            f"the run on {', '.join(current.class_names)}; both need the same"
        )


def _find(folder: Path, name: str | None) -> checkpoint.StoredCheckpoint:
    store = folder / "checkpoints"
    if name is None:
        found = checkpoint.latest(store, PARTS_READ)
        if found is None:
            raise ValueError(
                f"{folder} has no checkpoint; is it a run folder, and did its training come that far?"
            )
        return found
    if name == "best" or str(name).startswith("best-"):
        found = checkpoint.best(store, PARTS_READ, str(name).partition("-")[2] or None)
    elif (path := store / str(name)).is_dir():
        found = checkpoint.load(path, PARTS_READ)
    else:
        found = None
    if found is None:
        names = [*checkpoint.best_names(store), *(path.name for path in checkpoint.paths(store))]
        known = ", ".join(names) or "none"
        raise ValueError(f"{folder} has no checkpoint {name}; there are: {known}")
    return found
