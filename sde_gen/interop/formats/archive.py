"""Archives of torch.save: their pickle is followed as data, and their tensors are views of the archive's members."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sde_gen.interop.formats.pickled import Elsewhere, Name, PickledCall, parse
from sde_gen.interop.formats.stored import PARAMETERS, TENSOR, place, tensor
from sde_gen.interop.settings import first_line, shown

LARGEST = 64 * 2**30
"""Bytes of an archive's contents, at most: more than any published network of the field."""

DEEPEST = 64
"""Dictionaries, lists and tuples within one another, at most."""

DICTIONARY, SHAPE, BYTES = "collections.OrderedDict", "torch.Size", "_codecs.encode"


def read(path: Path) -> Any:
    """What an archive holds: tensors in dictionaries, lists and tuples, numbers, texts and bytes.

    PyTorch's own restricted unpickler (``weights_only``) is not asked: what it calls can be told to fill the memory, to
    compare without end, and to overrun the stack. Here nothing is called at all. Storages are made when a tensor
    needs them, from a member that has just their size.

    Source: PyTorch 2.13, serialization.py, for archives since version 1.6: ``<name>/data.pkl`` is the pickle,
    ``<name>/data/<key>`` the numbers of a storage, ``<name>/byteorder`` their order, where it is written.

    Raises:
        ValueError: it is damaged, lies about sizes, or asks for more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
            return _contents(archive, path)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is no whole zip archive ({first_line(error)})") from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse archives that lie about their sizes, compress, or name places outside or twice."""
    total, available = 0, path.stat().st_size
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{path}: {shown(member.filename)} is compressed, which torch.save never does")
        if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename).parts:
            raise ValueError(f"{path}: {shown(member.filename)} names a place outside the archive")
        total += member.file_size
    if total > min(available, LARGEST):
        raise ValueError(
            f"{path} claims to hold {total:,} bytes, but has {available:,} (at most {LARGEST:,} are read)"
        )


def _contents(archive: zipfile.ZipFile, path: Path) -> Any:
    members = [member.filename for member in archive.infolist()]
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or len(set(members)) < len(members):
        raise ValueError(f"{path} is damaged, or no archive of torch.save (it has {len(pickles)} data.pkl)")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError(f"{path}: its numbers have their bytes in another order; save it on another machine")
    try:
        found = parse(io.BytesIO(archive.read(pickles[0])))
        return _Contents(archive, folder).plain(found, 0)
    except ValueError as error:
        if isinstance(error, _More):
            raise ValueError(
                f"{path} holds more than tensors and is not executed ({error}); save its state_dict alone"
            ) from error
        raise ValueError(f"{path} is damaged, or no archive of torch.save ({first_line(error)})") from error


class _More(ValueError):
    """Something else than tensors and containers."""


class _Contents:
    """What the parts of a pickle stand for; each is looked at once, however often it is named.

    Arguments:
        archive: where the storages lie.
        folder: in which of its folders.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.storages: dict[tuple[str, torch.dtype], Tensor] = {}
        self.done: dict[int, Any] = {}

    def plain(self, value: Any, depth: int, name: str = "it") -> Any:
        """A part in terms of tensors and containers."""
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if depth > DEEPEST:
            raise ValueError(f"it has more than {DEEPEST} containers within one another")
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
        """The numbers of a storage, which are read once."""
        at = place(value, name)
        found = self.storages.get((at.key, at.dtype))
        if found is None:
            member = f"{self.folder}data/{at.key}"
            there = self.archive.getinfo(member).file_size if member in self.archive.NameToInfo else None
            if there != at.size:
                raise ValueError(
                    f"of the {at.many} numbers of the storage {shown(at.key)} there are {there} bytes"
                )
            data = bytearray(self.archive.read(member))
            found = torch.frombuffer(data, dtype=at.dtype) if data else torch.empty(0, dtype=at.dtype)
            self.storages[at.key, at.dtype] = found
        if len(found) != at.many:
            raise ValueError(f"the storage {shown(at.key)} has {at.many} and {len(found)} numbers")
        return found


def _key(key: Any) -> Any:
    """A key whose hash needs no more than a look at it."""
    if key is None or isinstance(key, str | int | float | bytes):
        return key
    raise ValueError("a key that is neither a text nor a number")
