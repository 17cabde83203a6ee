"""Network pickles of EDM: the same network as from its state dictionary, nothing called, whatever the file holds.

The pickles are written by Python's own pickle from objects of modules that bear the original names while it writes.
"""

import io
import os
import pickle
import random
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sde_gen.interop.edm import reader as edm
from sde_gen.interop.formats import persistent, pickled
from tests.unit.interop.test_edm import network, renamed


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("nothing is called")


class ForeignObject:
    """An object that is pickled as the original ones."""

    def __init__(self, kind: str, state: dict[str, Any]) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit",
            "class_name": kind,
            "state": state,
        }

    def __reduce__(self) -> Any:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict[str, Any]):
    """A dictionary of dnnlib."""


@pytest.fixture
def _their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, what, attribute in (
        ("torch_utils.persistence", _reconstruct_persistent_obj, "_reconstruct_persistent_obj"),
        ("dnnlib.util", EasyDict, "EasyDict"),
    ):
        package = ModuleType(name.partition(".")[0])
        module = ModuleType(name)
        setattr(module, attribute, what)
        monkeypatch.setitem(sys.modules, package.__name__, package)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(what, "__module__", name)


def attributes(tensors: dict[str, Tensor], **more: Any) -> dict[str, Any]:
    """A module's attributes: its own tensors, and modules for what has a dot in its name."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    inner: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
    modules: dict[str, Any] = OrderedDict(
        (name, ForeignObject("Part", attributes(part))) for name, part in inner.items()
    )
    return {
        **more,
        "training": False,
        "_parameters": OrderedDict(
            (name, nn.Parameter(value)) for name, value in own.items() if name != "resample_filter"
        ),
        "_buffers": OrderedDict((name, value) for name, value in own.items() if name == "resample_filter"),
        "_non_persistent_buffers_set": set(),
        "_modules": modules,
    }


def snapshot(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """The contents of a training snapshot of EDM: the network, and further objects that are ignored."""
    bare = {name.removeprefix("model."): value for name, value in tensors.items()}
    arguments = {
        **config,
        "use_fp16": False,
        "dropout": np.float64(0.25),
        "channel_mult": list(config["channel_mult"]),
    }
    model = attributes(bare)
    container = nn.ModuleDict()  # the original holds its blocks in one
    for name in ("enc", "dec"):
        held = model["_modules"][name].meta["state"]
        part = nn.ModuleDict()
        part.__dict__.update(
            _parameters=held["_parameters"], _modules=held["_modules"], _buffers=held["_buffers"]
        )
        model["_modules"][name] = part
    del container
    state = {
        "_init_args": (),
        "_init_kwargs": EasyDict(arguments),
        "_parameters": OrderedDict(),
        "_buffers": OrderedDict(),
        "_modules": OrderedDict(model=ForeignObject("SongUNet", model)),
    }
    return {
        "ema": ForeignObject("EDMPrecond", state),
        "loss_fn": ForeignObject("EDMLoss", {"P_mean": -1.2}),
        "dataset_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "path": "x.zip"},
    }


def example() -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, config, _ = network()
    return renamed(tensors, config), config


@pytest.mark.usefixtures("_their_modules")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_its_state_dictionary(tmp_path: Path, protocol: int) -> None:
    tensors, config = example()
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(pickle.dumps(snapshot(tensors, config), protocol))
    found = edm.load(path, None)
    expected = edm.read(tensors, {**config, "precond": "EDMPrecond", "dropout": 0.25})
    assert found.config == expected.config
    assert found.state.keys() == expected.state.keys()
    assert all(torch.equal(found.state[name], value) for name, value in expected.state.items())
    with pytest.raises(ValueError, match="leave settings="):
        edm.load(path, config)


@pytest.mark.usefixtures("_their_modules")
def test_views_and_formats_of_numbers() -> None:
    """A tensor may be a part of a storage, in any order and of any of their types."""
    whole = torch.arange(24.0)
    for tensor in (
        whole.view(4, 6)[1:3, ::2].T,
        whole.half()[5:],
        whole.bfloat16().view(2, 12),
        whole.double()[:0],
        torch.tensor(3),
        torch.tensor([True, False]),
    ):
        state = {"_parameters": {}, "_buffers": {"a": tensor}, "_modules": {}}
        data = pickle.dumps({"ema": ForeignObject("Net", state)}, 4)
        found = persistent.network(pickled.parse(io.BytesIO(data))).tensors["a"]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)


@pytest.mark.usefixtures("_their_modules")
def test_two_names_of_a_tensor_are_the_same_numbers() -> None:
    """However often a pickle names them, they are in memory once."""
    value = torch.arange(5.0)
    state = {"_parameters": {}, "_buffers": {"a": value, "b": value}, "_modules": {}}
    data = pickle.dumps({"ema": ForeignObject("Net", state)}, 4)
    found = persistent.network(pickled.parse(io.BytesIO(data))).tensors
    assert torch.equal(found["b"], value)
    assert found["a"].data_ptr() == found["b"].data_ptr()


class Bomb:
    """An object that runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.usefixtures("_their_modules")
@pytest.mark.parametrize("where", ["ema", "tensor", "argument", "module", "state"])
def test_nothing_is_called(tmp_path: Path, where: str) -> None:
    tensors, config = example()
    given = snapshot(tensors, config)
    bomb = Bomb(tmp_path / "called")
    state = given["ema"].meta["state"]
    if where == "ema":
        given["ema"] = bomb
    elif where == "tensor":
        state["_buffers"]["u"] = bomb
    elif where == "argument":
        state["_init_kwargs"]["sigma_data"] = bomb
    elif where == "module":
        state["_modules"]["more"] = bomb
    else:
        given["ema"].meta["state"] = bomb
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(given))
    with pytest.raises(ValueError, match=r"posix\.system"):
        edm.load(path, None)
    assert not (tmp_path / "called").exists()


def test_bomb_beside_the_network_is_skipped(tmp_path: Path) -> None:
    data = pickle.dumps({"augment_pipe": Bomb(tmp_path / "called")})
    found = pickled.parse(io.BytesIO(data))
    assert found["augment_pipe"].kind == "posix.system"
    assert not (tmp_path / "called").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x80\x04.", "pop"),
        (pickle.dumps([1, 2, 3], 0), "is not read"),  # text, which their protocols do not write
        (b"\x80\x02\x8a\xff" + b"\x01" * 20 + b".", "not enough data"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"abc.", "bytes"),
        (b"\x80\x02}K\x01K\x02K\x03u.", "pop|mark"),
        (b"\x80\x02h\x05.", "5"),
        (b"\x80\x02\x82\x01.", "EXT1 is not read"),
        (b"\x80\x04]\x94h\x00a0.", "POP is not read"),
        # a key of tuples within tuples, whose hash would need a stack without end
        pytest.param(
            b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s.", "neither a string nor a number", id="deep key"
        ),
    ],
)
def test_damaged_pickles_are_errors(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        pickled.read(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file not found"):
        pickled.read(tmp_path / "a.pkl")


@pytest.mark.usefixtures("_their_modules")
@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [((2**20,), (0,), 0), ((3, 5), (5, 1), 0), ((2,), (1,), 11), ((2,), (1,), -1)],
)
def test_tensors_larger_than_their_file_are_refused(shape: Any, stride: Any, offset: int) -> None:
    class Lie:
        def __reduce__(self) -> Any:
            storage = torch.zeros(12).storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, shape, stride, False, OrderedDict())

    state = {"_buffers": {"a": Lie()}}
    data = pickle.dumps({"ema": ForeignObject("Net", state)}, 4)
    with pytest.raises(ValueError, match=r"does not lie within|has the offset"):
        persistent.network(pickled.parse(io.BytesIO(data)))


@pytest.mark.usefixtures("_their_modules")
def test_modules_within_modules_without_end() -> None:
    state: dict[str, Any] = {"_modules": {}}
    part = ForeignObject("Part", state)
    state["_modules"]["more"] = part
    data = pickle.dumps(
        {"ema": ForeignObject("Net", {"_modules": {"first": ForeignObject("Part", {"_modules": {}})}})}
    )
    assert persistent.network(pickled.parse(io.BytesIO(data))).tensors == {}
    deep: dict[str, Any] = {"_modules": {}}
    for _ in range(40):
        deep = {"_modules": {"m": ForeignObject("Part", deep)}}
    data = pickle.dumps({"ema": ForeignObject("Net", deep)})
    with pytest.raises(ValueError, match="more than 32 levels deep"):
        persistent.network(pickled.parse(io.BytesIO(data)))


def fuzz(path: Path, content: bytes, count: int, seed: int) -> dict[str, int]:
    """Read damaged copies: everything is read or refused by ValueError."""
    generator, outcome = random.Random(seed), {"read": 0, "refused": 0}
    for _ in range(count):
        data = bytearray(content)
        for _ in range(generator.choice([1, 1, 2, 8])):
            at = generator.randrange(len(data))
            action = generator.randrange(4)
            if action == 0:
                data[at] = generator.randrange(256)
            elif action == 1:
                del data[at : at + generator.choice([1, 4, 1000])]
            elif action == 2:
                data[at:at] = generator.randbytes(generator.choice([1, 4, 9]))
            else:
                data[at:at] = data[generator.randrange(len(data)) :][:50]
        path.write_bytes(data)
        try:
            edm.load(path, None)
            outcome["read"] += 1
        except ValueError:
            outcome["refused"] += 1
    return outcome


@pytest.mark.long
@pytest.mark.usefixtures("_their_modules")
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(tmp_path: Path, count: int) -> None:
    """Bytes changed, cut out, put in and mapper: half of them where there are no numbers."""
    tensors, config = example()
    content = pickle.dumps(snapshot(tensors, config), 4)
    outcome = fuzz(tmp_path / "a.pkl", content, count, seed=count)
    print(outcome)
    assert sum(outcome.values()) == count
    assert outcome["refused"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]
