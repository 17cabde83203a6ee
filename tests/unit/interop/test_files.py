"""Foreign files: read right, or refused in one line; never executed."""

import copy
import io
import json
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sde_gen.interop.formats import files
from tests.helpers.mutation import mutated

STATE = {"module.a": torch.arange(6.0).reshape(2, 3), "module.b": torch.ones(2, dtype=torch.float16)}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    found = files.read(saved(tmp_path / "a.pth", {"model": STATE, "step": 3}))
    state = files.tensors(found, "model")
    assert set(state) == {"a", "b"}
    torch.testing.assert_close(state["a"], STATE["module.a"], rtol=0, atol=0)
    assert state["b"].dtype == torch.float32
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    assert set(files.tensors(files.read(tmp_path / "a.safetensors"))) == {"a", "b"}


class Bomb:
    """An object that runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def test_code_is_not_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = saved(tmp_path / "bomb.pth", {"model": Bomb(canary)})
    with pytest.raises(ValueError, match="objects other than tensors and is not executed"):
        files.read(path)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(ValueError, match="neither a safetensors file nor a zip"):
        files.read(tmp_path / "bare.pth")
    assert not canary.exists()


@pytest.mark.parametrize(("name", "compression"), [("../outside", 0), ("/absolute", 0), ("a/data/0", 8)])
def test_archives_that_no_torch_writes_are_refused(tmp_path: Path, name: str, compression: int) -> None:
    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, b"0" * 2**20)
    with pytest.raises(ValueError, match=r"outside the archive|is compressed"):
        files.read(path)


def test_members_that_share_their_bytes_are_counted_as_often(tmp_path: Path) -> None:
    """A small file whose directory names one member many times would fill the memory."""
    path = tmp_path / "overlap.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", b"0" * 2**16)
        for number in range(1, 9):
            twin = copy.copy(archive.filelist[0])
            twin.filename = f"a/data/{number}"
            archive.filelist.append(twin)
    with pytest.raises(ValueError, match="declares"):
        files.read(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" * 9, b'{"a": 1}', b"PK\x03\x04" + b"\0" * 90])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_foreign_files_raise_a_one_line_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"foreign.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="foreign") as refusal:
        files.read(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="file not found"):
        files.read(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ({"net": STATE}, ("model",), "no entry 'model'; it has net"),
        ({"model": [1, 2]}, ("model",), "not a dictionary of tensors"),
        ({"model": {"a": torch.ones(2, dtype=torch.complex64)}}, ("model",), "complex64"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, content: object, place: tuple[str], message: str) -> None:
    found = files.read(saved(tmp_path / "a.pth", content))
    with pytest.raises(ValueError, match=message):
        files.tensors(found, *place)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_numbers_that_are_no_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    found = files.read(saved(tmp_path / "a.pth", {"a": torch.ones(2, dtype=dtype)}))
    with pytest.raises(ValueError, match=f"'a' is {dtype}"):
        files.tensors(found)


def test_other_precisions_become_float32_and_are_named() -> None:
    kinds = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    given = {str(kind): torch.tensor([0.5, -3.0], dtype=kind) for kind in kinds}
    found = files.tensors(given)
    assert all(torch.equal(value, torch.tensor([0.5, -3.0])) for value in found.values())
    assert [note.split()[0] for note in files.dtype_notes(given)] == ["bfloat16", "float16", "float64"]
    assert files.dtype_notes({"a": torch.ones(1)}) == ()


def test_tensors_that_claim_more_numbers_than_they_have_are_refused(tmp_path: Path) -> None:
    """A number repeated by strides of zero is a small file; the first operation on it would fill the memory."""
    path = saved(tmp_path / "a.pth", {"a": torch.ones(1, dtype=torch.float16).expand(2**20, 2**20)})
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"has shape \(1048576, 1048576\), but only 2 bytes"):
        files.tensors(files.read(path))


PARTS = {"one.safetensors": {"a": torch.ones(2)}, "two.safetensors": {"b": torch.zeros(3)}}


def sharded(at: Path, **changes: str) -> Path:
    """Two files and their index, in which some tensors may be said to lie elsewhere."""
    places = {name: part for part, tensors in PARTS.items() for name in tensors}
    for part, tensors in PARTS.items():
        safetensors.torch.save_file(tensors, at / part)
    path = at / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 20}, "weight_map": {**places, **changes}}))
    return path


def test_several_files_with_an_index_are_one(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    assert files.weights_of(tmp_path) == path
    found = files.read(path)
    assert {name: len(value) for name, value in found.items()} == {"a": 2, "b": 3}
    assert [part.name for part in files.parts_of(path)] == ["one.safetensors", "two.safetensors"]
    assert files.parts_of(tmp_path / "one.safetensors") == [tmp_path / "one.safetensors"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": "../one.safetensors"}, "expected a safetensors file in the same folder"),
        ({"a": "/etc/one.safetensors"}, "in the same folder"),
        ({"a": "..\\one.safetensors"}, "in the same folder"),
        ({"a": "one.pth"}, "in the same folder"),
        ({"a": "o\nne.safetensors"}, r"names 'o\\nne.safetensors'; expected"),
        ({"a": "\ud800.safetensors"}, "in the same folder"),
        ({"a": "\x1b[31m.safetensors"}, "in the same folder"),
        ({"a": 300 * "x" + ".safetensors"}, "in the same folder"),
        ({"a": "three.safetensors"}, "names three.safetensors, which does not exist"),
        ({"a": "two.safetensors"}, "one.safetensors holds 'a', which|which two.safetensors does not hold"),
        ({"c": "one.safetensors"}, "names 'c', which one.safetensors does not hold"),
    ],
)
def test_inconsistent_index_is_refused(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    (tmp_path / "folder").mkdir()
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")  # beside the folder
    path = sharded(tmp_path / "folder", **changes)
    with pytest.raises(ValueError, match=words):
        files.read(path)


def test_the_precise_file_of_a_folder_is_taken(tmp_path: Path) -> None:
    half, whole = (tmp_path / f"diffusion_pytorch_model.{kind}safetensors" for kind in ("fp16.", ""))
    half.write_bytes(b"")
    assert files.weights_of(tmp_path) == half
    whole.write_bytes(b"")
    assert files.weights_of(tmp_path) == whole


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "is not a dictionary of settings"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * (files.LARGEST_JSON + 1), "at most"),
    ],
)
def test_json_that_is_no_settings_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as refusal:
        files.json_of(path)
    assert "\n" not in str(refusal.value)


def refusal_of(path: Path) -> str:
    """Return the error message of a file, empty if it was read; other exceptions are raised."""
    try:
        files.read(path)
    except ValueError as refusal:
        return str(refusal)
    return ""


def fuzz(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read the given number of damaged files: each is read, or refused in one line."""
    generator, outcome = random.Random(seed), {"read": 0, "refused": 0}
    canary = folder / "canary"
    contents = {".safetensors": safetensors.torch.save(STATE)}
    whole: dict[str, object] = {"good": {"model": STATE, "ema": [torch.ones(3)]}, "bomb": {"a": Bomb(canary)}}
    for name, what in whole.items():
        buffer = io.BytesIO()
        torch.save(what, buffer)
        contents[f"-{name}.pth"] = buffer.getvalue()
    for number in range(count):
        suffix, content = generator.choice(list(contents.items()))
        path = folder / f"fuzz{number}{suffix}"
        path.write_bytes(mutated(content, generator))
        said = refusal_of(path)
        assert "\n" not in said
        outcome["refused" if said else "read"] += 1
        path.unlink()
    assert not canary.exists()
    assert not list(folder.iterdir())
    return outcome


def test_damaged_files_never_crash(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, 300, seed=0)
    assert outcome["refused"] > 50


@pytest.mark.slow
def test_thousands_of_damaged_files_never_crash(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, 5000, seed=1)
    assert outcome["refused"] > 1000
    assert sum(outcome.values()) == 5000
