"""Foreign folders that lie: damaged weights, impossible settings, bombs. Each becomes a run or is refused in a line.

What is called is the command's own function with all it does: nothing may be executed, nothing written beside
``out``, no other exception may pass, and neither memory nor time may run away.
"""

import copy
import json
import math
import os
import pickle
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from sde_gen.cli import convert
from sde_gen.cli.app import format_error
from tests.helpers import mutation
from tests.helpers.catalogue import CONF
from tests.helpers.mutation import mutated, places
from tests.reference import adm, score_sde
from tests.reference.unet2d import random_tensors
from tests.unit.interop import test_diffusers as of_diffusers
from tests.unit.interop import test_guided_diffusion as of_guided
from tests.unit.interop import test_k_diffusion as of_k_diffusion
from tests.unit.interop import test_pickled as of_pickles
from tests.unit.interop import test_score_sde as of_score_sde
from tests.unit.interop.test_pickled import _their_modules  # noqa: F401, a fixture

Files = dict[str, bytes]
"""The contents of a folder by the names of its files; the first is what ``file=`` names."""


def folder_of_diffusers(config: dict[str, Any]) -> Files:
    return {
        "diffusion_pytorch_model.safetensors": safetensors.torch.save(random_tensors(config)),
        "config.json": json.dumps(config).encode(),
        "scheduler_config.json": json.dumps(of_diffusers.scheduler_of(config)).encode(),
    }


def sharded() -> Files:
    tensors = random_tensors(of_diffusers.PLAIN)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    index = {"metadata": {}, "weight_map": {name: part for part, some in parts.items() for name in some}}
    return {
        "diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        **{part: safetensors.torch.save({n: tensors[n] for n in some}) for part, some in parts.items()},
        **{name: data for name, data in folder_of_diffusers(of_diffusers.PLAIN).items() if "config" in name},
    }


def saved(content: object, path: Path) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


SCORE_SDE: dict[str, Any] = {
    **{key: values[0] for key, values in of_score_sde.STRUCTURE.items()},
    **{key: values[0] for key, values in of_score_sde.REST.items()},
    **{"sde": "vesde", "continuous": True, "embedding_type": "fourier"},
    **{"scale_by_sigma": True, "centered": False},
}


def example_of_score_sde(at: Path) -> Files:
    config = of_score_sde.small(**SCORE_SDE)
    tensors, weights = score_sde.drawn()
    score_sde.forward(config, weights, torch.zeros(1, 2, 8, 8).double(), torch.ones(1).double())
    learned = [value for name, value in tensors.items() if not name.endswith(".W") or "NIN" in name]
    content = {"model": tensors, "ema": {"shadow_params": learned}, "step": 3}
    return {"a.pth": saved(content, at), "settings.json": json.dumps(config).encode()}


def example_of_guided(at: Path, *, classifier: bool) -> Files:
    """A network of images, or a classifier."""
    tensors, weights = score_sde.drawn()
    zeros, one = torch.zeros(1, 3, 8, 8).double(), torch.ones(1).double()
    config = {**of_guided.SMALL, "noise_schedule": "linear", "dropout": 0.1}
    if classifier:
        config |= {"num_head_channels": 16, "out_channels": 5, "pool": "attention"}
        adm.logits(config, weights, zeros, one)
    else:
        adm.forward(config, weights, zeros, one, None)
    return {
        "a.pt": saved(tensors, at),
        "settings.yaml": OmegaConf.to_yaml(OmegaConf.create(config)).encode(),
    }


def example_of_k_diffusion(kind: str, *, inside: bool) -> Files:
    """Weights that hold their configuration, or have it beside them."""
    tensors = {name: value.contiguous() for name, value in of_k_diffusion.plain(kind).items()}
    said = json.dumps(of_k_diffusion.config_of(of_k_diffusion.KINDS[kind]))
    if inside:
        return {"a.safetensors": safetensors.torch.save(tensors, {"config": said})}
    return {"a.safetensors": safetensors.torch.save(tensors), "settings.json": said.encode()}


def example_of_edm(*, pickled: bool) -> Files:
    tensors, config = of_pickles.example()
    if pickled:
        return {"a.pkl": pickle.dumps(of_pickles.snapshot(tensors, config), 4)}
    settings, tensors = {**config, "precond": "EDMPrecond"}, {n: v.contiguous() for n, v in tensors.items()}
    return {"a.safetensors": safetensors.torch.save(tensors), "settings.json": json.dumps(settings).encode()}


@pytest.fixture
def examples(_their_modules: None, tmp_path: Path) -> dict[str, Files]:  # noqa: F811
    """Valid files, by names that begin with the format."""
    scratch = tmp_path / "scratch"
    found = {
        "diffusers": folder_of_diffusers(of_diffusers.PLAIN),
        "diffusers-adm": folder_of_diffusers(of_diffusers.VARIANTS["adm_variance"]),
        "diffusers-skip": folder_of_diffusers(of_diffusers.SKIP),
        "diffusers-sharded": sharded(),
        "score_sde": example_of_score_sde(scratch),
        "guided_diffusion": example_of_guided(scratch, classifier=False),
        "guided_diffusion_classifier": example_of_guided(scratch, classifier=True),
        "edm": example_of_edm(pickled=False),
        "edm-pickle": example_of_edm(pickled=True),
        "k_diffusion": example_of_k_diffusion("image_v1", inside=False),
        "k_diffusion-hdit": example_of_k_diffusion("image_transformer_v2", inside=False),
        "k_diffusion-inside": example_of_k_diffusion("image_transformer_v1", inside=True),
    }
    scratch.unlink()
    return found


ODD: list[Any] = [*mutation.ODD, -math.inf, "sde_gen.cli.run.open_run", "\n\n"]
"""Values that settings may lie with."""


def lied(tree: Any, draw: random.Random) -> Any:
    """A tree of settings with an odd value somewhere, one left out, or one too many."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice([1, 1, 1, 3])):
        path = draw.choice(places(tree))
        if not path:
            continue
        at = tree
        for key in path[:-1]:
            at = at[key]
        action = draw.randrange(6)
        if action == 0:
            del at[path[-1]]
        elif action == 1 and isinstance(at, dict):
            at[draw.choice(["_target_", "extra", "in_channels", "a\nb"])] = draw.choice(ODD)
        elif isinstance(at[path[-1]], int | float) and draw.random() < 0.3:
            at[path[-1]] *= draw.choice([-1, 0, 2, 3, 64, 10**5])
        else:
            at[path[-1]] = copy.deepcopy(draw.choice(ODD))
    return tree


BOMBS: list[bytes] = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"!!python/object/apply:os.system ['touch canary']",
    b'{"a": ' + b"9" * 5000 + b"}",
    b"null",
    b"[]",
    b"\xff\xfe\x00",
    b"",
    b"{" + b" " * 2**19 + b"}",
]
"""Files of settings that are none."""


def damaged(files: Files, draw: random.Random) -> Files:
    """One of the files changed: its bytes, or what a file of settings says."""
    files = dict(files)
    said = [name for name in files if name.endswith((".json", ".yaml"))]
    if not said or draw.random() < 0.35:
        name = draw.choice(list(files))
        return {**files, name: mutated(files[name], draw)}
    name = draw.choice(said)
    if draw.random() < 0.05:
        return {**files, name: draw.choice(BOMBS)}
    if name.endswith(".json"):
        return {**files, name: json.dumps(lied(json.loads(files[name]), draw)).encode()}
    tree = lied(OmegaConf.to_container(OmegaConf.create(files[name].decode())), draw)
    return {**files, name: json.dumps(tree).encode()}


def take_in(folder: Path, name: str, files: Files, out: Path) -> str:
    """Return the error message of a folder, empty if it became a run; other exceptions are raised."""
    for file, content in files.items():
        (folder / file).write_bytes(content)
    settings = next((file for file in files if file.startswith("settings")), None)
    config = {
        "file": str(folder / next(iter(files))),
        "from": OmegaConf.load(CONF / "from" / f"{name.partition('-')[0]}.yaml"),
        "settings": settings and str(folder / settings),
    }
    try:
        convert.import_network(OmegaConf.create(config), out)
    except (ValueError, InstantiationException) as error:
        refusal: BaseException = error
    else:
        return ""
    while isinstance(refusal, InstantiationException) and refusal.__cause__ is not None:
        refusal = refusal.__cause__
    assert isinstance(refusal, ValueError), repr(refusal)
    assert "\n" not in str(refusal), str(refusal)
    return format_error(refusal)


def fuzz(examples: dict[str, Files], at: Path, count: int, seed: int) -> dict[str, int]:
    """Import the given number of damaged folders."""
    draw, outcome = random.Random(seed), {"read": 0, "refused": 0}
    names = list(examples)
    for number in range(count):
        name = names[number % len(names)]
        folder, out = at / "original", at / "out" / "run"
        folder.mkdir()
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        files = damaged(examples[name], draw)
        said = take_in(folder, name, files, out)
        outcome["refused" if said else "read"] += 1
        assert len(said) < 4000
        assert out.exists() != bool(said)
        assert (
            not (at / "out").exists()
            or [path.name for path in (at / "out").iterdir()] == ["run"] * out.exists()
        )
        assert sorted(path.name for path in folder.iterdir()) == sorted(files)
        assert time.perf_counter() - begun < 20, name
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19, name  # kilobytes: 512 MB
        for place in (folder, at / "out"):
            remove(place)
    return outcome


def remove(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            (Path(parent) / name).unlink()
        Path(parent).rmdir()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    monkeypatch.setattr(convert.console, "print_table", nothing)


@pytest.mark.long
def test_whole_folders_become_runs(examples: dict[str, Files], tmp_path: Path) -> None:
    for name, files in examples.items():
        (tmp_path / name).mkdir()
        assert take_in(tmp_path / name, name, files, tmp_path / "runs" / name) == ""
        assert (tmp_path / "runs" / name / "checkpoints").is_dir()


@pytest.mark.long
@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_folders_become_runs_or_are_refused(
    examples: dict[str, Files], tmp_path: Path, count: int
) -> None:
    outcome = fuzz(examples, tmp_path, count, seed=count)
    print(outcome)
    assert sum(outcome.values()) == count
    assert outcome["refused"] > 0.4 * count
    assert outcome["read"] > 0.05 * count
    assert not list(tmp_path.iterdir())
