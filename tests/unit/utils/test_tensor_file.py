"""Safetensors files written tensor by tensor equal those of the library, byte for byte."""

import errno
import hashlib
import json
import resource

import pytest
import safetensors.torch
import torch

from sde_gen.utils import atomic
from sde_gen.utils.tensor_file import KINDS, put_tensors
from tests.unit.utils.test_atomic import small_disk

NAMES = [
    "b",
    "a",
    "net.0.weight",
    "net.10.weight",
    "net.1.weight",
    "\u00e4\u4e2d",
    'a"\\\n\x01\x7f',
    "B",
    "\U0001f600",
]
"""Names whose order or escapes could differ."""


def of_every_dtype():
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, dtype in enumerate(KINDS):
        size = torch.empty((), dtype=dtype).element_size()
        raw = torch.randint(
            2 if dtype is torch.bool else 256, (3 * size,), generator=generator, dtype=torch.uint8
        )
        found[f"{'xy'[number % 2]}{number}"] = raw.view(dtype)
        found[f"a{number}"] = raw[:size].clone().view(dtype).reshape(())
    return found


CASES = {
    "none": {},
    "dtypes": of_every_dtype(),
    "names": {name: torch.full((2, 1), float(number)) for number, name in enumerate(NAMES)},
    "empty": {"z": torch.empty(0, 3), "a": torch.ones(2), "b": torch.empty(2, 0, dtype=torch.float64)},
}


@pytest.mark.parametrize("metadata", [None, {"rows": '{"a": [0, 1]}'}, {"format": "pt"}])
@pytest.mark.parametrize("case", CASES)
def test_bytes_are_those_of_the_library(tmp_path, case, metadata):
    path, tensors = tmp_path / "x.safetensors", CASES[case]
    found = put_tensors(path, tensors, metadata)
    expected = safetensors.torch.save(tensors, metadata)
    assert path.read_bytes() == expected
    assert found == hashlib.sha256(expected).hexdigest()


def test_strided_tensors_and_parameters_are_written_in_their_order(tmp_path):
    x = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {"a": x.transpose(0, 2), "b": torch.nn.Parameter(x[:, 1]), "c": x, "d": x}
    put_tensors(tmp_path / "x", tensors)
    expected = safetensors.torch.save(
        {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    )
    assert (tmp_path / "x").read_bytes() == expected


def test_mistakes(tmp_path):
    for tensors, metadata, words in (
        ({"a": torch.zeros(2, dtype=torch.complex128)}, None, "a is a tensor of torch.complex128"),
        ({"a": torch.eye(2).to_sparse()}, None, "sparse"),
        ({"a": torch.ones(1)}, {"a": "1", "b": "2"}, "one text at most"),
    ):
        with pytest.raises(ValueError, match=words):
            put_tensors(tmp_path / "x", tensors, metadata)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file(tmp_path):
    with small_disk(), pytest.raises(OSError, match="File too large") as failure:
        put_tensors(tmp_path / "x", {"a": torch.ones(10_000)})
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(tmp_path / "x"))
    with (
        small_disk(),
        pytest.raises(OSError, match="File too large"),
        atomic.folder(tmp_path / "run") as made,
    ):
        put_tensors(made / "x", {"a": torch.ones(10_000)})
    assert not (tmp_path / "run").exists()


def test_no_copy_of_the_tensors_is_made(tmp_path):
    """The peak of the process grows by less than a tenth of 64 MiB of tensors."""
    tensors = {str(number): torch.ones(2**20) for number in range(16)}
    put_tensors(tmp_path / "warm", {"a": torch.ones(1)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put_tensors(tmp_path / "x", tensors)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 6 * 1024
    assert json.loads((tmp_path / "x").read_bytes()[8:].split(b"}}")[0] + b"}}")["0"]["shape"] == [2**20]
