"""Foreign files as plain tensors: nothing in them is executed, and sizes are checked before anything is allocated."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from sde_gen.interop.formats import archive
from sde_gen.interop.settings import first_line, shown

LARGEST_JSON = 16 * 2**20
"""Bytes of a JSON file, at most: the index of a file of 100 000 tensors has half of them."""

INDEX = ".safetensors.index."
"""What the name of an index has, which says in which of several files every tensor lies."""

KINDS = ("safetensors", "safetensors.index.json", "bin")
IN_FOLDERS = (
    *(f"diffusion_pytorch_model.{kind}" for kind in KINDS),
    *(f"diffusion_pytorch_model.{variant}.safetensors" for variant in ("fp16", "bf16")),
    *(f"diffusion_pytorch_model.safetensors.index.{variant}.json" for variant in ("fp16", "bf16")),
)
"""Names of the weights in a folder, the precise ones first."""

MOST_VIEWS = 4
"""How often the numbers of a file are those of a tensor, at most, in the mean: once, but for a few second names."""

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""What weights are stored as; all become float32."""


def weights_of(path: Path) -> Path:
    """The file of weights that a path means: itself, or that in a folder or in the folder ``unet`` in it.

    Raises:
        ValueError: a folder holds none.
    """
    if not path.is_dir():
        return path
    for place in (folder / name for folder in (path, path / "unet") for name in IN_FOLDERS):
        if place.is_file():
            return place
    raise ValueError(f"{path} holds none of {', '.join(IN_FOLDERS)}, and neither does a folder unet in it")


def parts_of(path: Path) -> list[Path]:
    """The files that a file of weights consists of: itself, or those an index names, which lie in its folder.

    Raises:
        ValueError: the index is damaged, or names a place outside its folder.
    """
    return (
        [path]
        if INDEX not in path.name
        else [path.parent / name for name in sorted(set(_index(path).values()))]
    )


def json_of(path: Path) -> dict[str, Any]:
    """The settings of a JSON file by name.

    Raises:
        ValueError: the file is missing, too large, no JSON, too deep, or no dictionary.
    """
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= LARGEST_JSON else b""
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)})") from error
    if size > LARGEST_JSON:
        raise ValueError(f"{path} has {size:,} bytes; at most {LARGEST_JSON:,} are read")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no settings by name")
    return found


def read(path: Path) -> Any:
    """What a file holds: tensors in dictionaries and lists, numbers and strings.

    A ``.safetensors`` file has nothing but tensors; of an index, whose name has ``.safetensors.index.``, the files are
    read that it names. A file of ``torch.save`` is read by :func:`~sde_gen.interop.formats.archive.read`, which knows
    tensors and containers, refuses every other name, and calls nothing.

    Arguments:
        path: a file of safetensors or their index, or of torch.save since version 1.6.

    Raises:
        ValueError: the file is missing, truncated, of another kind, or asks for more than tensors; the message says
            which.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if INDEX in path.name:
        return _of_several(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if not zipped:
        raise ValueError(
            f"{path} is neither a safetensors file nor a zip archive of torch.save; if it is of a PyTorch before 1.6, "
            "save it again with a newer one"
        )
    return archive.read(path)


def metadata(path: Path) -> dict[str, str]:
    """The texts by name that a whole ``.safetensors`` file holds beside its tensors; none is no error.

    Raises:
        ValueError: it is no whole safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({first_line(error)})") from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({first_line(error)})") from error


def _of_several(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the files that an index names."""
    index, found = _index(path), {}
    for part in parts_of(path):
        if not part.is_file():
            raise ValueError(f"{path} names {part.name}, which is not there")
        for name, value in _safetensors(part).items():
            if index.get(name) != part.name:
                raise ValueError(f"{part} holds {shown(name)}, which {path.name} places elsewhere")
            found[name] = value
    if missing := [name for name in index if name not in found]:
        raise ValueError(f"{path} names {shown(missing[0])}, which {index[missing[0]]} does not hold")
    return found


def _index(path: Path) -> dict[str, str]:
    """The names of files by the names of tensors."""
    places = json_of(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{path} has no weight_map, which says where the tensors lie")
    for name in places.values():
        fits = (
            isinstance(name, str)
            and name.endswith(".safetensors")
            and len(name.encode("utf-8", "replace")) < 256
        )
        if not fits or not name.isprintable() or set(name) & set("/\\"):
            raise ValueError(f"{path} names {shown(name)}; expected a safetensors file in the same folder")
    return places


def tensors(found: Any, *path: str) -> dict[str, torch.Tensor]:
    """The tensors by name at a place of what :func:`read` found, float32; prefixes ``module.`` are taken off.

    Raises:
        ValueError: there is no dictionary of tensors at that place.
    """
    at = found
    for key in path:
        if not isinstance(at, dict) or key not in at:
            known = ", ".join(map(str, list(at)[:8])) if isinstance(at, dict) else type(at).__name__
            raise ValueError(f"the file has no entry {'.'.join(path)!r}; it has {known}")
        at = at[key]
    if (
        not isinstance(at, dict)
        or not at
        or not all(isinstance(value, torch.Tensor) for value in at.values())
    ):
        raise ValueError(f"{'.'.join(path) or 'the file'} is no dictionary of tensors")
    for name, value in at.items():
        _check_tensor(shown(str(name)), value)
    _check_views(at)
    return {str(name).removeprefix("module."): value.detach().float() for name, value in at.items()}


def became(found: Any) -> tuple[str, ...]:
    """What is worth knowing of the precision of tensors by name, a sentence for every other than float32."""
    kinds = {str(value.dtype).removeprefix("torch.") for value in found.values()} - {"float32"}
    return tuple(f"weights of {kind} became float32" for kind in sorted(kinds))


def _check_tensor(name: str, value: torch.Tensor) -> None:
    """Refuse what is no plain array of floats, or claims more numbers than it has."""
    if value.layout != torch.strided or value.is_quantized or value.dtype not in FLOATS:
        kind = value.dtype if value.layout == torch.strided else value.layout
        raise ValueError(f"{name} is {kind}; expected floats of 16, 32 or 64 bits")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        there = value.untyped_storage().nbytes()
        raise ValueError(
            f"{name} claims the shape {tuple(value.shape)}, of which only {there:,} bytes are there"
        )


def _check_views(tensors: dict[Any, torch.Tensor]) -> None:
    """Refuse many views of the same numbers: in float32 each may become numbers of its own."""
    there = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()
    }
    claimed = sum(value.numel() * value.element_size() for value in tensors.values())
    if claimed > MOST_VIEWS * sum(there.values()):
        raise ValueError(
            f"{len(tensors)} tensors claim {claimed:,} bytes, of which only {sum(there.values()):,} are there"
        )
