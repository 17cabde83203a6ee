"""Run folders that are damaged, or made to harm: each is opened or refused in a line, at once and without memory."""

import copy
import json
import os
import random
import resource
import shutil
import signal
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sde_gen.cli.data_spec import DataSpec
from tests.helpers import mutation, stored_run
from tests.helpers.mutation import places
from tests.helpers.stored_run import header_of, opened, replace, write_header

LONGEST = 500
"""Letters of a refusal, at most."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small runs by the names of what they have."""
    at, images = tmp_path_factory.mktemp("runs"), DataSpec(shape=(1, 8, 8), levels=17, classes=10)
    words = {
        "mlp": ("data=moons", "model=mlp", "codec=affine", "model.width=8", "sde=sub_vp"),
        "ncsnpp": (*stored_run.SMALL, "sde=ddpm", "conditioning=class", "parametrization=eps"),
        "hdit": ("model=hdit", "sde=rectified", "parametrization=velocity"),
        "adm": ("model=adm", *stored_run.SMALL[:2], "sde=linear", "parametrization=v"),
    }
    for name, some in words.items():
        data_spec = DataSpec(shape=(2,), levels=None, classes=2) if name == "mlp" else images
        stored_run.write(at / name, stored_run.config_of(*some), data_spec)
    return {name: at / name for name in words}


@pytest.fixture
def alarm() -> Iterator[None]:
    """Fail what is waited for."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits, or does not end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def copied(run: Path, to: Path) -> Path:
    """The checkpoint of a copy."""
    shutil.copytree(run, to)
    return next((to / "checkpoints").iterdir())


FILES = "checkpoint.json", "checkpoint.json.sha256", "ema.safetensors"


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/urandom", "link to a pipe", "huge"])
def test_what_is_no_regular_file_of_a_sensible_size_is_not_read(
    examples: dict[str, Path], tmp_path: Path, name: str, kind: str
) -> None:
    path = copied(examples["mlp"], tmp_path / "run")
    (path / name).unlink()
    if kind == "pipe":
        os.mkfifo(path / name)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        (path / name).symlink_to(tmp_path / "pipe")
    elif kind == "huge":
        with (path / name).open("wb") as file:
            file.truncate(2**40)  # without a byte on the disk
    else:
        (path / name).symlink_to(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as refusal:
        opened(tmp_path / "run")
    assert len(str(refusal.value)) < LONGEST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # kilobytes: 64 MB


def test_links_to_regular_files_are_read(examples: dict[str, Path], tmp_path: Path) -> None:
    path = copied(examples["mlp"], tmp_path / "run")
    for name in FILES:
        (path / name).rename(tmp_path / name)
        (path / name).symlink_to(tmp_path / name)
    assert opened(tmp_path / "run").images == 64


@pytest.mark.long
@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize(
    ("example", "key", "value"),
    [
        *(("ncsnpp", "model.blocks", n) for n in (10**9, 2**20)),
        *(("ncsnpp", "model.width", n) for n in (10**9, 2**20, 2**18)),
        *(("ncsnpp", "model.multipliers", [n, n]) for n in (10**6, 2**13, 1e6)),
        *(("adm", "model.blocks", n) for n in (10**9, 2**20)),
        *(("adm", "model.width", n) for n in (10**9, 2**20)),
        ("adm", "model.multipliers", [10**6, 10**6]),
        ("adm", "model.multipliers", [1] * 2**16),
        *(("hdit", "model.levels.0.depth", n) for n in (10**9, 2**20)),
        ("hdit", "model.levels.0.width", 2**20),
        *(("mlp", "model.depth", n) for n in (10**9, 2**20)),
        *(("mlp", "model.width", n) for n in (10**9, 2**20)),
        *(("ncsnpp", "sde.betas.steps", n) for n in (10**9, 2**20)),
    ],
)
def test_a_network_far_larger_than_the_stored_one_is_not_built(
    examples: dict[str, Path], tmp_path: Path, example: str, key: str, value: Any
) -> None:
    path = copied(examples[example], tmp_path / "run")
    stored = header_of(path)
    *inner, last = key.split(".")
    node = stored["about"]["config"]
    for part in inner:
        node = node[int(part) if part.isdecimal() else part]
    assert last in node
    node[last] = value
    write_header(path, stored)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match=r"network|size|betas|levels|sides|values") as refusal:
        opened(tmp_path / "run")
    assert len(str(refusal.value)) < LONGEST
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # kilobytes: 128 MB


ODD: list[Any] = [
    *mutation.ODD,
    *("???", "\x1b[2J\n", "x" * 10**4),
    {"_target_": "sde_gen.model.GCDGroups"},
    {"_target_": "sde_gen.training.TensorBoard", "folder": "/nowhere"},
    *({"_partial_": True}, {"_target_": None}, {"_target_": "os.system", "command": "true"}, {"": {"": ""}}),
]
"""Values that a configuration may lie with."""

TARGETS = [
    "sde_gen.sde.VP",
    "sde_gen.sde.VE",
    "sde_gen.sde.DDPM",
    "sde_gen.sde.SDE",
    "sde_gen.data.codec.Affine",
    "sde_gen.data.codec.UniformCodec",
    "sde_gen.denoiser.parametrization.Eps",
    "sde_gen.denoiser.parametrization.LearnedVariance",
    "sde_gen.denoiser.parametrization.Time",
    "sde_gen.model.MLP",
    "sde_gen.model.ADM",
    "sde_gen.model.UNet",
    "sde_gen.model.KDiffusionUNet",
    "sde_gen.model.AttentionPooling",
    "sde_gen.model.unet.centered.CenteredInput",
    "sde_gen.denoiser.NetworkDenoiser",
    "sde_gen.noise.IID",
    "sde_gen.training.TensorBoard",
    "sde_gen.data.Digits",
    "sde_gen",
    "sde_gen.",
    "x" * 3000,
    "torch.nn.Linear",
]
"""Names of what is there, and what is not."""


def lied(tree: Any, draw: random.Random) -> Any:
    """A tree with an odd value somewhere, one left out, or one too many; or parts that have changed their places."""
    tree = copy.deepcopy(tree)
    built = ("about", "config"), ("about", "facts")
    roots = [*built[:1] * 12, *built[1:] * 2, ()]
    for _ in range(draw.choice([1, 1, 1, 3])):
        root = draw.choice(roots)
        among = [path for path in places(tree) if path[: len(root)] == root and path]
        if not among:
            continue
        path = draw.choice(among)
        at = tree
        for key in path[:-1]:
            at = at[key]
        value, action = at[path[-1]], draw.randrange(9)
        if action == 0:
            del at[path[-1]]
        elif action == 1 and isinstance(value, dict):
            key = draw.choice(["_target_", "_partial_", "_args_", "_recursive_", "extra", "a\nb", "net", "."])
            value[key] = copy.deepcopy(draw.choice(ODD))
        elif action == 2:
            nodes = [path for path in places(tree) if path and path[-1] == "_target_"]
            if nodes:
                other = tree
                for key in (chosen := draw.choice(nodes))[:-1]:
                    other = other[key]
                other[chosen[-1]] = draw.choice(TARGETS)
        elif action == 3:
            source = tree
            for key in draw.choice(places(tree)):
                source = source[key]
            at[path[-1]] = copy.deepcopy(source)
        elif action == 4:
            for _ in range(draw.choice([3, 30, 90, 400])):
                value = draw.choice([{"mean": value, "_target_": TARGETS[7]}, [value], {"a": value}])
            at[path[-1]] = value
        elif isinstance(value, int | float) and draw.random() < 0.5:
            at[path[-1]] = value * draw.choice([-1, 0, 2, 3, 64, 10**5])
        else:
            at[path[-1]] = copy.deepcopy(draw.choice(ODD))
    return tree


def spoiled(content: bytes, draw: random.Random) -> bytes:
    """Bytes that were cut, changed or added."""
    action, where = draw.randrange(4), draw.randrange(len(content))
    if action == 0:
        return content[:where]
    if action == 1:
        return content[:where] + bytes([draw.randrange(256)]) + content[where + 1 :]
    return content[:where] + draw.randbytes(draw.choice([1, 8, 1000])) + content[where:]


def retold(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else, or with other tensors."""
    size = struct.unpack("<Q", content[:8])[0]
    if draw.random() < 0.5:
        tensors = safetensors.torch.load(content)
        name = draw.choice(sorted(tensors))
        changes: list[Callable[[], Any]] = [
            lambda: tensors.pop(name),
            lambda: tensors.update({"extra" * draw.choice([1, 500]): torch.zeros(2)}),
            lambda: tensors.update({name: torch.zeros(draw.choice([(), (0,), (3, 1), (1,) * 40]))}),
            lambda: tensors.update(
                {name: tensors[name].to(draw.choice([torch.bool, torch.int64, torch.complex64]))}
            ),
        ]
        draw.choice(changes)()
        return safetensors.torch.save(tensors)
    header = json.loads(content[8 : 8 + size])
    header = header if draw.random() < 0.3 else {"__metadata__": {"rows": '{"a": [0, 1]}'}, **header}
    stored = json.dumps(
        lied({"about": {"config": header, "facts": header}}, draw)["about"].get("config")
    ).encode()
    return struct.pack("<Q", draw.choice([len(stored), len(stored), 2**40, 0])) + stored + content[8 + size :]


def fuzz(examples: dict[str, Path], at: Path, count: int, seed: int) -> dict[str, int]:
    """Open the given number of mutated folders."""
    draw, outcome, names = random.Random(seed), {"opened": 0, "refused": 0}, list(examples)
    for number in range(count):
        path = copied(examples[names[number % len(names)]], at / "run")
        for unread in ("net.safetensors", "optimizer.safetensors"):
            (path / unread).unlink()
        what = draw.choice(["config"] * 6 + ["tensors", "bytes"])
        if what == "config":
            write_header(path, lied(header_of(path), draw))
        elif what == "tensors":
            replace(path, FILES[2], retold((path / FILES[2]).read_bytes(), draw))
        else:
            name = draw.choice(FILES)
            content = spoiled((path / name).read_bytes(), draw)
            if name == FILES[0]:
                write_header(path, content)
            elif name == FILES[2] and draw.random() < 0.8:
                replace(path, name, content)
            else:
                (path / name).write_bytes(content)
        kept = path / FILES[0]
        begun, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                opened(at / "run")
            outcome["opened"] += 1
        except (ValueError, OSError) as refusal:
            text = str(refusal)
            assert len(text) < LONGEST, text
            assert text.isprintable(), text
            outcome["refused"] += 1
        except BaseException:
            shutil.copy(kept, at / "kept.json")
            raise
        assert time.process_time() - begun < 5, kept.read_bytes()[:3000]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**18, (
            number
        )  # kilobytes: 256 MB
        assert [entry.name for entry in at.iterdir()] == ["run"]
        shutil.rmtree(at / "run")
    return outcome


@pytest.mark.long
@pytest.mark.parametrize(
    "count",
    [
        60,
        pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_mutated_folders_are_opened_or_raise_a_one_line_error(
    examples: dict[str, Path], tmp_path: Path, count: int
) -> None:
    outcome = fuzz(examples, tmp_path, count, seed=count)
    print(outcome)
    assert sum(outcome.values()) == count
    assert outcome["refused"] > 0.3 * count
    assert outcome["opened"] > 0.03 * count
