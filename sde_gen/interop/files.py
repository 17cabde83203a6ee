"""Foreign files as plain tensors: nothing in them is executed, and sizes are checked before anything is allocated."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

LARGEST = 64 * 2**30
"""Bytes of a file's contents, at most: more than any published network of the field."""


IN_FOLDERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
"""Names of the weights in a folder."""


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


def read(path: Path) -> Any:
    """What a file holds: tensors in dictionaries and lists, numbers and strings.

    A ``.safetensors`` file has nothing but tensors. A file of ``torch.save`` is read by PyTorch's own restricted
    unpickler (``weights_only``), which knows tensors and containers and refuses every other name; before that the zip
    archive is checked: its members must be stored as they are, with their true sizes and inside the archive.

    Arguments:
        path: a file of safetensors, or of torch.save since version 1.6.

    Raises:
        ValueError: the file is missing, truncated, of another kind, or asks for more than tensors; the message says
            which.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is no whole safetensors file ({_line(error)})") from error
    with path.open("rb") as file:
        archive = file.read(2) == b"PK"
    if not archive:
        raise ValueError(
            f"{path} is neither a safetensors file nor a zip archive of torch.save; if it is of a PyTorch before 1.6, "
            "save it again with a newer one"
        )
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = next((word for word in str(error).split() if word.startswith("GLOBAL")), "")
        raise ValueError(
            f"{path} holds more than tensors and is not executed ({name or _line(error)}); "
            "save its state_dict alone"
        ) from error
    except Exception as error:  # whatever a damaged archive makes PyTorch's C++ reader say
        raise ValueError(f"{path} is damaged, or no archive of torch.save ({_line(error)})") from error


def metadata(path: Path) -> dict[str, str]:
    """The texts by name that a whole ``.safetensors`` file holds beside its tensors; none is no error.

    Raises:
        ValueError: it is no whole safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({_line(error)})") from error


def _check_archive(path: Path) -> None:
    """Refuse archives that lie about their sizes, compress, or name places outside."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path} is no whole zip archive ({_line(error)})") from error
    total, available = 0, path.stat().st_size
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{path}: {member.filename!r} is compressed, which torch.save never does")
        if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename).parts:
            raise ValueError(f"{path}: {member.filename!r} names a place outside the archive")
        total += member.file_size
    if total > min(available, LARGEST):
        raise ValueError(
            f"{path} claims to hold {total:,} bytes, but has {available:,} (at most {LARGEST:,} are read)"
        )


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
    wrong = [
        name for name, value in at.items() if value.is_complex() or value.is_sparse or value.is_quantized
    ]
    if wrong:
        raise ValueError(f"{wrong[0]} is {at[wrong[0]].dtype}; expected plain real numbers")
    return {str(name).removeprefix("module."): value.detach().float() for name, value in at.items()}


def _line(error: BaseException) -> str:
    """The first line of a message, short."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :200
    ]
