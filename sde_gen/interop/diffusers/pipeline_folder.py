"""Folders of diffusers' pipelines: ``model_index.json`` and one folder for every part."""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from sde_gen.interop.formats import files
from sde_gen.interop.settings import listing, shown
from sde_gen.interop.transformers import folder as transformers_folder

INDEX = "model_index.json"
"""Name of the file that lists the parts of a pipeline."""

LEFT_OUT = {
    "safety_checker": "the classifier of unsafe images is not run",
    "feature_extractor": "it belongs to the safety checker",
    "image_encoder": "it belongs to IP-Adapter, which is not supported",
    "watermarker": "images are not marked",
    "watermark": "images are not marked",
}
"""Parts that no pipeline here needs, with the reason."""

TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)
"""Files of a tokenizer."""

LARGEST_TOKENIZER = 2**27
"""Bytes of a file of a tokenizer, at most."""


class PipelineFolder:
    """Parts of a pipeline that lie beside their list.

    Arguments:
        path: folder with ``model_index.json``.

    Attributes:
        path: the folder.
        index: content of ``model_index.json``.
        kind: class of the pipeline.
        parts: by name, the class of every part that is there.

    Raises:
        ValueError: the list is missing, damaged, or names a part outside the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = files.json_of(path / INDEX)
        kind = self.index.get("_class_name")
        if not isinstance(kind, str):
            raise ValueError(f"{path / INDEX} has no _class_name, the class of the pipeline")
        self.kind = kind
        self.parts: dict[str, str] = {}
        for name, value in self.index.items():
            if not isinstance(value, list) or name.startswith("_"):
                continue
            if len(value) != 2 or not all(word is None or isinstance(word, str) for word in value):
                raise ValueError(
                    f"{path / INDEX} has {shown(name)}: {shown(value)}; expected a library and a class"
                )
            if value[1] is not None:
                if not name.isidentifier():
                    raise ValueError(
                        f"{path / INDEX} names the part {shown(name)}; expected the name of a folder"
                    )
                self.parts[name] = value[1]

    def check(self, known: Mapping[str, Collection[str]], optional: Collection[str] = ()) -> None:
        """Check the classes of all parts.

        Arguments:
            known: by name of a part, the classes that are read.
            optional: names of parts that may be absent.

        Raises:
            ValueError: a part is missing, unknown or of another class; the message names it, and what is read.
        """
        for name, kind in self.parts.items():
            if name in LEFT_OUT and name not in known:
                continue
            if name not in known:
                raise ValueError(
                    f"{self.kind} with the part {name} ({shown(kind)}) is not supported; its parts that are read: "
                    f"{listing(known)}"
                )
            if kind not in known[name]:
                raise ValueError(
                    f"{name} of the class {shown(kind)} is not supported; expected {' or '.join(known[name])}"
                )
        for name, kinds in known.items():
            if name not in optional and name not in self.parts:
                raise ValueError(f"{self.path / INDEX} lists no {name}, a {' or '.join(kinds)}")

    def __contains__(self, name: str) -> bool:
        """Return whether a part is there."""
        return name in self.parts

    def folder(self, name: str) -> Path:
        """Return the folder of a part.

        Raises:
            ValueError: it is missing.
        """
        found = self.path / name
        if not found.is_dir():
            raise ValueError(f"{self.path / INDEX} lists {name}, and there is no folder {found}")
        return found

    def config(self, name: str) -> dict[str, Any]:
        """Return the ``config.json`` of a part."""
        return files.json_of(self.folder(name) / "config.json")

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """Settings of the scheduler, with its class."""
        return self.settings_of("scheduler")

    def settings_of(self, name: str) -> dict[str, Any]:
        """Return the settings of a scheduler, with its class."""
        found = files.json_of(self.folder(name) / "scheduler_config.json")
        return {**found, "_class_name": self.parts[name]}

    def weights(self, name: str) -> Path:
        """Return the file of weights of a network.

        Raises:
            ValueError: there is none.
        """
        return files.weights_of(self.folder(name))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read the weights of a network as float32."""
        return files.tensors(files.read(self.weights(name)))

    def encoder_files(self, name: str) -> list[Path]:
        """Return settings and weights of an encoder of texts.

        Raises:
            ValueError: a file is missing.
        """
        found = self.folder(name)
        weights = transformers_folder.weights_of(found)
        parts = files.parts_of(weights)
        if missing := [part for part in parts if not part.is_file()]:
            raise ValueError(f"{weights} names {missing[0].name}, which does not exist")
        return [found / "config.json", *dict.fromkeys([weights, *parts])]

    def tokenizer_files(self, name: str) -> list[Path]:
        """Return the files of a tokenizer.

        Raises:
            ValueError: the files without which no text can be read are missing, or one is too large.
        """
        found = self.folder(name)
        there = [found / file for file in TOKENIZER_FILES if (found / file).is_file()]
        names = {file.name for file in there}
        if not ({"vocab.json", "merges.txt"} <= names or "tokenizer.json" in names):
            raise ValueError(
                f"{found} has no tokenizer.json, and no vocab.json with merges.txt: without the files of the tokenizer "
                "no text can be read"
                + ("; save it once with T5TokenizerFast of transformers" if "spiece.model" in names else "")
            )
        for file in there:
            if file.stat().st_size > LARGEST_TOKENIZER:
                raise ValueError(
                    f"{file} has {file.stat().st_size:,} bytes; at most {LARGEST_TOKENIZER:,} are read"
                )
        return there

    def left_out(self) -> dict[str, str]:
        """Return the parts that are left out, with the reason."""
        return {name: LEFT_OUT[name] for name in self.parts if name in LEFT_OUT}
