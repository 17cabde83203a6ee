"""Reader of torch.save archives that executes nothing; tensors are views of the archive's members."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.formats.pickled import Elsewhere, Name, PickledCall, parse
from sde_gen.interop.formats.torch_storage import PARAMETERS, TENSOR, storage_ref, tensor
from sde_gen.interop.settings import first_line, shown

LARGEST = 64 * 2**30
"""Maximum number of bytes in an archive: more than any published network of the field."""

DEEPEST = 64
"""Maximum nesting depth of dictionaries, lists and tuples."""

DICTIONARY, SHAPE, BYTES = "collections.OrderedDict", "torch.Size", "_codecs.encode"


def read(path: Path) -> Any:
    """Read an archive: tensors in dictionaries, lists and tuples; numbers, strings and bytes.

    PyTorch's restricted unpickler (``weights_only``) is not used: the functions that it calls can be made to fill the
    memory, to run without end, or to overflow the stack. Here nothing is called. Storages are created when a tensor
    needs them, from a member of exactly their size.

    Source: PyTorch 2.13, serialization.py, for archives since version 1.6: ``<name>/data.pkl`` is the pickle,
    ``<name>/data/<key>`` the data of a storage, ``<name>/byteorder`` the optional byte order.

    Raises:
        ValueError: the archive is damaged, declares wrong sizes, or contains unsupported objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
            return _contents(archive, path)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is not a complete zip archive ({first_line(error)})") from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    """Reject archives with wrong sizes, compression, paths outside the archive, or duplicate names."""
    total, available = 0, path.stat().st_size
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{path}: {shown(member.filename)} is compressed, which torch.save never does")
        if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename).parts:
            raise ValueError(f"{path}: {shown(member.filename)} names a place outside the archive")
        total += member.file_size
    if total > min(available, LARGEST):
        raise ValueError(
            f"{path} declares {total:,} bytes, but has {available:,} (at most {LARGEST:,} are read)"
        )


def _contents(archive: zipfile.ZipFile, path: Path) -> Any:
    members = [member.filename for member in archive.infolist()]
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or len(set(members)) < len(members):
        raise ValueError(
            f"{path} is damaged or not an archive of torch.save (it has {len(pickles)} data.pkl)"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError(f"{path}: its byte order is not that of this machine; save it on another machine")
    try:
        found = parse(io.BytesIO(archive.read(pickles[0])))
        return _Contents(archive, folder).plain(found, 0)
    except ValueError as error:
        if isinstance(error, _More):
            raise ValueError(
                f"{path} contains objects other than tensors and is not executed ({error}); save only its state_dict"
            ) from error
        raise ValueError(
            f"{path} is damaged or not an archive of torch.save ({first_line(error)})"
        ) from error


class _More(ValueError):
    """The pickle contains objects other than tensors and containers."""


class _Contents:
    """Converter of the objects of a pickle; each is converted once, however often it is referenced.

    Arguments:
        archive: the archive with the storages.
        folder: their folder in the archive.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.storages: dict[tuple[str, torch.dtype], Tensor] = {}
        self.done: dict[int, Any] = {}

    def plain(self, value: Any, depth: int, name: str = "it") -> Any:
        """Convert an object to tensors and containers."""
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if depth > DEEPEST:
            raise ValueError(f"its containers are nested more than {DEEPEST} levels deep")
        if id(value) not in self.done:
            self.done[id(value)] = self._inside(value, depth + 1, name)
        return self.done[id(value)]

    def _inside(self, value: Any, depth: int, name: str) -> Any:
        if isinstance(value, list | tuple):
            parts = [self.plain(part, depth, name) for part in value]
            return parts if isinstance(value, list) else tuple(parts)
        if isinstance(value, dict):
            return {key: self.plain(part, depth, str(key)) for key, part in value.items()}
        if isinstance(value, PickledCall):
            return self._made(value, depth, name)
        if isinstance(value, Name) and value.path.startswith("torch."):
            return value.path  # the name of a dtype
        raise _More(shown(value.path if isinstance(value, Name) else type(value).__name__))

    def _made(self, value: PickledCall, depth: int, name: str) -> Any:
        if value.kind == DICTIONARY and value.arguments == ():
            return {_key(key): self.plain(part, depth, str(key)) for key, part in value.items}
        if value.kind == TENSOR or value.kind in PARAMETERS:
            return tensor(value, shown(name), self._storage)
        if value.kind == SHAPE and len(value.arguments) == 1:
            return self.plain(value.arguments[0], depth, name)
        if value.kind == BYTES and value.arguments[1:] == ("latin1",) and isinstance(value.arguments[0], str):
            return value.arguments[0].encode("latin1", "replace")
        raise _More(shown(value.kind))

    def _storage(self, value: Elsewhere, name: str) -> Tensor:
        """Return the data of a storage, which is read once."""
        ref = storage_ref(value, name)
        found = self.storages.get((ref.key, ref.dtype))
        if found is None:
            member = f"{self.folder}data/{ref.key}"
            there = self.archive.getinfo(member).file_size if member in self.archive.NameToInfo else None
            if there != ref.size:
                raise ValueError(
                    f"of the {ref.numel} numbers of the storage {shown(ref.key)} there are {there} bytes"
                )
            data = bytearray(self.archive.read(member))
            found = torch.frombuffer(data, dtype=ref.dtype) if data else torch.empty(0, dtype=ref.dtype)
            self.storages[ref.key, ref.dtype] = found
        if len(found) != ref.numel:
            raise ValueError(f"the storage {shown(ref.key)} has {ref.numel} and {len(found)} numbers")
        return found


def _key(key: Any) -> Any:
    """Return a key if it is hashed in constant time."""
    if key is None or isinstance(key, str | int | float | bytes):
        return key
    raise ValueError("a key that is neither a string nor a number")
