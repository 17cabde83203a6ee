"""Reader of weight files; executes nothing and checks sizes before allocation."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from sde_gen.interop.formats import archive
from sde_gen.interop.settings import first_line, shown
from sde_gen.utils.atomic import check_regular

LARGEST_JSON = 16 * 2**20
"""Maximum size of a JSON file in bytes: twice that of the index of 100 000 tensors."""

INDEX = ".safetensors.index."
"""Part of the name of an index, which maps tensors to files."""

KINDS = ("safetensors", "safetensors.index.json", "bin")
IN_FOLDERS = (
    *(f"diffusion_pytorch_model.{kind}" for kind in KINDS),
    *(f"diffusion_pytorch_model.{variant}.safetensors" for variant in ("fp16", "bf16")),
    *(f"diffusion_pytorch_model.safetensors.index.{variant}.json" for variant in ("fp16", "bf16")),
)
"""File names of weights in a folder, float32 first."""

MOST_VIEWS = 4
"""Maximum mean number of tensors that view a number of a file: 1 except for a few aliases."""

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Supported dtypes; all are converted to float32."""


def weights_of(path: Path) -> Path:
    """Return the weight file of a path: the file itself, or that in a folder or in its ``unet`` or ``transformer``.

    Raises:
        ValueError: a folder contains no weight file.
    """
    if not path.is_dir():
        return path
    for place in (
        folder / name for folder in (path, path / "unet", path / "transformer") for name in IN_FOLDERS
    ):
        if place.is_file():
            return place
    raise ValueError(
        f"{path} holds none of {', '.join(IN_FOLDERS)}, and neither does a folder unet or transformer in it"
    )


def parts_of(path: Path) -> list[Path]:
    """Return the parts of a weight file: the file itself, or those listed in an index, in the same folder.

    Raises:
        ValueError: the index is damaged, or lists a path outside its folder.
    """
    return (
        [path]
        if INDEX not in path.name
        else [path.parent / name for name in sorted(set(_index(path).values()))]
    )


def json_of(path: Path) -> dict[str, Any]:
    """Read the settings in a JSON file.

    Raises:
        ValueError: the file is missing, too large, not JSON, nested too deeply, or not a dictionary.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        text = path.read_bytes() if size <= LARGEST_JSON else b""
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)})") from error
    if size > LARGEST_JSON:
        raise ValueError(f"{path} has {size:,} bytes; at most {LARGEST_JSON:,} are read")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a dictionary of settings")
    return found


def read(path: Path) -> Any:
    """Read a file: tensors in dictionaries and lists, numbers and strings.

    A ``.safetensors`` file has nothing but tensors; of an index, whose name has ``.safetensors.index.``, the files are
    read that it names. A file of ``torch.save`` is read by :func:`~sde_gen.interop.formats.archive.read`, which knows
    tensors and containers, raises an error for every other name, and calls nothing.

    Arguments:
        path: a file of safetensors or their index, or of torch.save since version 1.6.

    Raises:
        ValueError: the file is missing, truncated, of another kind, or asks for more than tensors; the message says
            which.
    """
    if not path.is_file():
        raise ValueError(f"file not found: {path}")
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
    """Return the metadata of a ``.safetensors`` file, a dictionary of strings that may be empty.

    Raises:
        ValueError: the file is not a complete safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a complete safetensors file ({first_line(error)})") from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is not a complete safetensors file ({first_line(error)})") from error


def _of_several(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of the files that an index lists."""
    index, found = _index(path), {}
    for part in parts_of(path):
        if not part.is_file():
            raise ValueError(f"{path} names {part.name}, which does not exist")
        for name, value in _safetensors(part).items():
            if index.get(name) != part.name:
                raise ValueError(f"{part} holds {shown(name)}, which {path.name} places elsewhere")
            found[name] = value
    if missing := [name for name in index if name not in found]:
        raise ValueError(f"{path} names {shown(missing[0])}, which {index[missing[0]]} does not hold")
    return found


def _index(path: Path) -> dict[str, str]:
    """Return the map from tensor names to file names."""
    places = json_of(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{path} has no weight_map, which lists the files of the tensors")
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
    """Return the dictionary of tensors at a path of the result of :func:`read`, as float32 and without ``module.``.

    Raises:
        ValueError: there is no dictionary of tensors at that path.
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
        raise ValueError(f"{'.'.join(path) or 'the file'} is not a dictionary of tensors")
    for name, value in at.items():
        _check_tensor(shown(str(name)), value)
    _check_views(at)
    return {str(name).removeprefix("module."): value.detach().float() for name, value in at.items()}


def dtype_notes(found: Any) -> tuple[str, ...]:
    """Return notes about conversions to float32, one for every other dtype."""
    kinds = {str(value.dtype).removeprefix("torch.") for value in found.values()} - {"float32"}
    return tuple(f"{kind} weights were converted to float32" for kind in sorted(kinds))


def _check_tensor(name: str, value: torch.Tensor) -> None:
    """Reject tensors that are not dense floats, or whose shape exceeds their storage."""
    if value.layout != torch.strided or value.is_quantized or value.dtype not in FLOATS:
        kind = value.dtype if value.layout == torch.strided else value.layout
        raise ValueError(f"{name} is {kind}; expected floats of 16, 32 or 64 bits")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        there = value.untyped_storage().nbytes()
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but only {there:,} bytes are stored")


def _check_views(tensors: dict[Any, torch.Tensor]) -> None:
    """Reject many views of the same storage, because the conversion to float32 may copy each of them."""
    there = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()
    }
    claimed = sum(value.numel() * value.element_size() for value in tensors.values())
    if claimed > MOST_VIEWS * sum(there.values()):
        raise ValueError(
            f"{len(tensors)} tensors have {claimed:,} bytes, of which only {sum(there.values()):,} are stored"
        )
