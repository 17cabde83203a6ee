"""A checkpoint in several files is the checkpoint in one, and what does not fit together is refused."""

import hashlib
import json
import os
import shutil
import struct

import pytest
import safetensors.torch
import torch

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.writer import CheckpointWriter
from sde_gen.distributed.storage import TensorShard
from tests.unit.checkpoint.test_store import flip, made, same


def cut(folder, images, writers=3):
    """A checkpoint as several processes write it: rows shared as evenly as possible, scalars by the first."""
    whole, sums = made(images), {}
    draft = CheckpointWriter(folder, images, whole.about)
    draft.begin()
    for writer in range(writers):
        for part in checkpoint.PARTS:
            pieces = {}
            for name, tensor in getattr(whole, part).items():
                if tensor.ndim:
                    rows = tensor.tensor_split(writers)
                    begin = sum(map(len, rows[:writer]))
                    if len(rows[writer]):
                        pieces[name] = TensorShard(rows[writer], begin, len(tensor))
                elif writer == 0:
                    pieces[name] = TensorShard(tensor)
            sums |= draft.write(part, pieces, f"{writer}-of-{writers}")
    draft.commit(sums)
    return draft.final


@pytest.mark.parametrize("writers", [1, 2, 3, 5])
def test_in_several_files_as_in_one(tmp_path, writers):
    path = cut(tmp_path, 64, writers)
    assert len(list(path.glob("*.safetensors"))) == len(checkpoint.PARTS) * writers
    found = checkpoint.load(path)
    assert same(found, made(64))
    expected = made(64).net["a.weight"]
    stored = found.net["a.weight"]
    assert stored.shape == expected.shape
    for begin in range(4):
        for end in range(begin + 1, 5):
            region = slice(begin, end), slice(1, 3), slice(0, 1)
            assert torch.equal(stored[region[:1]], expected[region[:1]])
            assert torch.equal(stored[region], expected[region])


def test_unrequested_tensors_are_not_read(tmp_path):
    """To sample, the averaged weights suffice."""
    path = cut(tmp_path, 64)
    for file in (*path.glob("net.*"), *path.glob("optimizer.*")):
        file.unlink()
    for found in (checkpoint.load(path, ("ema",)), checkpoint.latest(tmp_path, ("ema",))):
        assert torch.equal(found.ema["a.weight"][()], made(64).ema["a.weight"])
        assert not found.net
        assert not found.optimizer
    with pytest.raises(ValueError, match=r"incomplete: net.0-of-3.safetensors is missing"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "damage", [flip, lambda file: os.truncate(file, 3), lambda file: os.truncate(file, 0), os.remove]
)
@pytest.mark.parametrize("file", ["net.1-of-3.safetensors", "ema.0-of-3.safetensors", "checkpoint.json"])
def test_damage_to_one_file_is_named_and_the_checkpoint_before_used(tmp_path, file, damage):
    for images in (64, 128):
        cut(tmp_path, images)
    damage(tmp_path / "000000000128" / file)
    with pytest.warns(UserWarning, match=rf"000000000128.*{file}.*going back to .*000000000064"):
        assert same(checkpoint.latest(tmp_path), made(64))


def forge(path, name, content):
    """Put something else in the place of a file, with checksums made to fit."""
    (path / name).write_bytes(content)
    header = json.loads((path / "checkpoint.json").read_text())
    header["sha256"][name] = hashlib.sha256(content).hexdigest()
    text = json.dumps(header)
    (path / "checkpoint.json").write_text(text)
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())


ROWS = made(64).ema["a.weight"]  # four of three numbers; of three files the second has the third row
SECOND = "ema.1-of-3.safetensors"


def packed(tensor, rows):
    return safetensors.torch.save({"a.weight": tensor}, None if rows is None else {"rows": rows})


def declared(shape):
    """A header without the numbers."""
    text = json.dumps({"a.weight": {"dtype": "F64", "shape": shape, "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


FOREIGN = {
    "a pickle": (b"\x80\x04K\x01.", "not written by this package"),
    "no tensor in the place of rows": (packed(ROWS[2:3], None), "does not fit the files beside it"),
    "other rows": (packed(ROWS[1:2], '{"a.weight": [1, 4]}'), "rows 1 to 2 of 4.*where row 2 of 4"),
    "rows too many": (packed(ROWS[1:], '{"a.weight": [2, 4]}'), "holds rows 3 to 4.*where row 5 of 4"),
    "rows of a wider tensor": (packed(torch.ones(1, 9).double(), '{"a.weight": [2, 4]}'), "does not fit"),
    "another number format": (packed(ROWS[2:3].float(), '{"a.weight": [2, 4]}'), "F32"),
    "a huge tensor": (packed(ROWS[2:3], '{"a.weight": [2, 1000000000000]}'), "of 1000000000000"),
    "a huge shape": (declared([10**12, 3]), "not written by this package"),
    "rows below none": (packed(ROWS[2:3], '{"a.weight": [-1, 4]}'), "rows -1 to 0 of 4"),
    "half a row": (packed(ROWS[2:3], '{"a.weight": [2.5, 4]}'), "not written by this package"),
    "no list of rows": (packed(ROWS[2:3], "[[]]"), "not written by this package"),
    "no JSON": (packed(ROWS[2:3], "{"), "not written by this package"),
    "nothing": (safetensors.torch.save({}), "rows 3 to 4 of 4.*where row 2 of 4"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_file_raises_a_one_line_error(tmp_path, what):
    content, expected = FOREIGN[what]
    cut(tmp_path, 64)
    path = cut(tmp_path, 128)
    forge(path, SECOND, content)
    with pytest.raises(ValueError, match=expected) as refusal:
        checkpoint.load(path)
    assert "\n" not in str(refusal.value)
    assert "ema." in str(refusal.value)
    with pytest.warns(UserWarning, match="going back"):
        assert same(checkpoint.latest(tmp_path), made(64))


def test_the_last_rows_are_missed_too(tmp_path):
    path = cut(tmp_path, 64)
    forge(path, "ema.2-of-3.safetensors", safetensors.torch.save({}))
    with pytest.raises(ValueError, match=r"ema.1-of-3.safetensors is the last .* 3 of 4 rows are there"):
        checkpoint.load(path)


def test_a_part_without_files_or_with_files_elsewhere_is_refused(tmp_path):
    path = cut(tmp_path, 64)
    header = json.loads((path / "checkpoint.json").read_text())
    header["sha256"] = {f"../{name}": sha256 for name, sha256 in header["sha256"].items()}
    (path / "checkpoint.json").write_text(json.dumps(header))
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(json.dumps(header).encode()).hexdigest())
    for file in path.glob("*.safetensors"):
        shutil.move(file, tmp_path)
    with pytest.raises(ValueError, match=r"it lists a file \'\.\./net"):
        checkpoint.load(path)


def test_best_and_newest_stay_in_both_forms(tmp_path):
    checkpoint.save(tmp_path, made(1, 0.1))
    newest = [cut(tmp_path, images) for images in (2, 3)][-1]
    assert checkpoint.best_path(tmp_path).name == "000000000001"
    checkpoint.prune(tmp_path, newest, keep=1)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["000000000001", "000000000003"]
