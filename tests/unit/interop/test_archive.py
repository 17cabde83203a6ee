"""Archives of torch.save: what PyTorch reads of them, and nothing of what they ask for beside it.

The oracle is ``torch.load(weights_only=True)``, of whole files; those that lie would end a process that asks it.
"""

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sde_gen.interop.edm import reader as edm
from sde_gen.interop.formats import archive, files

WHOLE = torch.arange(24.0)


def contents() -> dict[str, Any]:
    """Return contents that a training may store: views, types, aliases, containers."""
    shared = torch.randn(6, generator=torch.Generator().manual_seed(0))
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    return {
        "model": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(),
        "ema": {
            "decay": 0.999,
            "shadow_params": [shared, nn.Parameter(shared[1:3]), WHOLE.view(4, 6)[1:3, ::2].T],
        },
        "kinds": {
            str(kind): WHOLE[:5].to(kind) for kind in (*kinds, torch.uint8, torch.bool, torch.complex64)
        },
        "none": [torch.zeros(0, 3), torch.zeros(3, 0), torch.tensor(3.0), WHOLE[24:], WHOLE[:1].expand(3, 5)],
        "plain": (
            None,
            True,
            -1,
            2**40,
            "é\n",
            b"\xff\0",
            [],
            {},
            OrderedDict(a=1),
            torch.Size([2, 3]),
            {0: 1.5},
        ),
    }


def same(found: Any, exact: Any) -> None:
    if isinstance(exact, torch.Tensor):
        assert found.dtype == exact.dtype
        assert torch.equal(found, exact)
    elif isinstance(exact, dict):
        assert list(found) == list(exact)
        for key, value in exact.items():
            same(found[key], value)
    elif isinstance(exact, list | tuple):
        assert len(found) == len(exact)
        for one, other in zip(found, exact, strict=True):
            same(one, other)
    else:
        assert found == exact


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_is_read_is_what_pytorch_reads(tmp_path: Path, protocol: int) -> None:
    given = contents()
    torch.save(given, tmp_path / "two.pth")
    torch.save(given, tmp_path / "a.pth", pickle_protocol=protocol)
    found = archive.read(tmp_path / "a.pth")
    same(found, torch.load(tmp_path / "two.pth", weights_only=True))
    first, second, _ = found["ema"]["shadow_params"]
    assert first[1:].data_ptr() == second.data_ptr()  # a storage is read once


def rewritten(at: Path, change: Callable[[bytes], bytes], **more: bytes) -> Path:
    """An archive of one tensor whose pickle is another, with members beside it."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(at / "a.pth", "w") as made:
        for member in source.infolist():
            data, name = source.read(member), member.filename
            data = more.get(name.rpartition("/")[2], data)
            made.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return at / "a.pth"


def doubled(times: int) -> bytes:
    """A tuple of the same tuple twice, and so on: a few bytes, of which the text has 2 to that power."""
    return b")q\x00" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(times))


HUGE = b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R."
LIES = {
    "the hash of a deep key needs a stack without end": b"})" + b"\x85" * 10**5 + b"K\x01s.",
    "of an ordered dictionary's": b"ccollections\nOrderedDict\n)R" + doubled(60) + b"K\x01s.",
    "one of a dictionary's arguments": b"ccollections\nOrderedDict\n]" + doubled(60) + b"K\x01\x86a\x85R.",
    "a set's": b"cbuiltins\nset\n]" + doubled(60) + b"a\x85R.",
    "the text of what is called": doubled(60) + b")R.",
    "the text of a shape": b"ctorch\nSize\n" + doubled(60) + b"\x85R.",
    "bytes": b"cbuiltins\nbytearray\n" + HUGE,
    "numbers": b"ctorch\nFloatTensor\n" + HUGE,
    "a storage": b"ctorch.storage\nUntypedStorage\n" + HUGE,
    "lists": b"]" * 10**4 + b"a" * (10**4 - 1) + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a slow code": b"c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0idna\x86R.",
    "a class": b"cos\nsystem\n.",
    "no storage": b"K\x01Q.",
}


@pytest.mark.parametrize("name", LIES)
def test_a_pickle_that_would_end_the_process_is_refused(tmp_path: Path, name: str) -> None:
    path = rewritten(tmp_path, lambda _: b"\x80\x02" + LIES[name])
    if name == "the text of a shape":  # tuples are data; that there are no tensors is found later
        with pytest.raises(ValueError, match="is not a dictionary of tensors"):
            files.tensors(archive.read(path))
        return
    with pytest.raises(ValueError, match=r"is not executed|is damaged or not an archive") as refusal:
        archive.read(path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"K\x03t", b"J\x00\xe1\xf5\x05t", "100000000 numbers of the storage '0' there are 12 bytes"),
        (b"K\x03t", b"K\x02t", "2 numbers of the storage '0' there are 12 bytes"),
        (b"FloatStorage", b"DoubleStorage", "there are 12 bytes"),
        (b"FloatStorage", b"QInt8Storage", "has an unknown type"),
        (b"X\x01\0\0\0" + b"0", b"X\x01\0\0\0" + b"7", "there are None bytes"),
        (b"K\x03\x85", b"K\x04\x85", r"of shape \(4,\) does not lie within its 3 stored numbers"),
        (b"K\x01\x85", b"K\x02\x85", r"does not lie within"),
        (b"K\x00K\x03\x85", b"K\x01K\x03\x85", r"does not lie within"),
        (
            b"K\x01\x85",
            b"J\xff\xff\xff\xff\x85",
            r"'a' has the offset 0, the shape \(3,\) and the strides \(-1,\)",
        ),
    ],
)
def test_inconsistent_tensor_is_refused(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    def change(data: bytes) -> bytes:
        assert data.count(old) == 1
        return data.replace(old, new)

    path = rewritten(tmp_path, change)
    with pytest.raises(ValueError, match=words):
        archive.read(path)


def test_archives_of_another_making_are_refused(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda data: data, byteorder=b"big")
    with pytest.raises(ValueError, match="byte order is not"):
        archive.read(path)
    path = rewritten(tmp_path, lambda data: data)
    with zipfile.ZipFile(path, "a") as more:
        more.writestr("other/data.pkl", b"N.")
    with pytest.raises(ValueError, match=r"it has 2 data\.pkl"):
        archive.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda data: data)
    with zipfile.ZipFile(path, "a") as more:
        more.writestr("archive/data/0", b"\1" * 12)
    with pytest.raises(ValueError, match="is damaged or not an archive"):
        archive.read(path)


def test_archives_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST", 10)
    with pytest.raises(ValueError, match=r"at most 10 are read"):
        archive.read(rewritten(tmp_path, lambda data: data))


def test_a_storage_of_two_lengths_is_refused(tmp_path: Path) -> None:
    place = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK%c"
    part = b"ctorch._utils\n_rebuild_tensor_v2\n((" + place + b"tQK\0K\x01\x85K\x01\x85tR"
    path = rewritten(tmp_path, lambda _: b"\x80\x02(" + part % 3 + part % 4 + b"t.")
    with pytest.raises(ValueError, match="the storage '0' has 4 and 3 numbers"):
        archive.read(path)


def test_a_damaged_number_is_seen(tmp_path: Path) -> None:
    """PyTorch does not look at the sums that its archives keep of their members."""
    path = rewritten(tmp_path, lambda data: data)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as whole:
        at = whole.getinfo("archive/data/0").header_offset
    place = data.index(b"archive/data/0", at) + len(b"archive/data/0")
    path.write_bytes(data[:place] + b"\1" + data[place + 1 :])
    with pytest.raises(ValueError, match="Bad CRC-32"):
        archive.read(path)


def test_many_views_of_the_same_numbers_are_refused(tmp_path: Path) -> None:
    """Halved numbers become others in float32, for every name anew: a small file would fill the memory."""
    half = torch.ones(2**10, dtype=torch.float16)
    torch.save({f"{n}": half for n in range(4)}, tmp_path / "few.pth")
    assert len(files.tensors(archive.read(tmp_path / "few.pth"))) == 4
    torch.save({f"{n}": half for n in range(5)}, tmp_path / "many.pth")
    with pytest.raises(ValueError, match="5 tensors have 10,240 bytes, of which only 2,048 are stored"):
        files.tensors(archive.read(tmp_path / "many.pth"))


def text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def module(state: bytes) -> bytes:
    """A network of EDM's pickles with such attributes."""
    meta = {"type": text("class"), "class_name": text("EDMPrecond"), "state": state}
    said = b"}" + b"".join(text(name) + value + b"s" for name, value in meta.items())
    return b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + said + b"\x85R"


def doubled_modules(times: int) -> bytes:
    """A module that holds the same module twice, and so on."""
    made = module(b"}") + b"q\x00"
    for n in range(times):
        inner = b"}" + text("a") + made + b"s" + text("b") + b"h%cs" % n
        made = module(b"}" + text("_modules") + inner + b"s") + b"q%c" % (n + 1)
    return made


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (doubled_modules(30), "more than 32768 parts"),
        (
            module(b"}" + text("_init_kwargs") + b"}" + text("x") + doubled(60) + b"ss"),
            "'x' has modules nested",
        ),
        (module(b"}" + text("_init_kwargs") + b"}" + text("x") + doubled(30) + b"ss"), "32768 parts"),
        (
            module(b"}" + text("_init_kwargs") + b"}" + text("x") + b"]" * 5000 + b"a" * 4999 + b"ss"),
            "'x' has modules nested",
        ),
    ],
    ids=["modules", "arguments", "fewer", "lists"],
)
def test_nested_pickles_of_edm_are_read_up_to_a_limit(tmp_path: Path, network: bytes, words: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02}" + text("ema") + network + b"s.")
    with pytest.raises(ValueError, match=words) as refusal:
        edm.load(path, None)
    assert len(str(refusal.value)) < 400
