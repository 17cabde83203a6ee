"""Image data sets of the Hugging Face hub."""

import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sde_gen.data.base import check_fraction, random_mask
from sde_gen.data.image import UNREADABLE, Size, check_resized, is_animated, resized
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource
from sde_gen.utils import atomic

LABELS = ("label", "labels", "class")
"""Names of integer or string columns that are used as labels."""

DISCRETE = ("int", "uint", "string", "large_string", "bool")
"""Prefixes of the types of such columns."""


DESCRIPTIONS = ("README.md", ".huggingface.yaml")
"""Files in which a folder may name files of the set, at addresses too."""

MAX_DESCRIPTION = 2**24
"""Bytes of such a file, at most."""


@dataclass(frozen=True, kw_only=True)
class HuggingFace(StreamingSource):
    """An image data set given by its name on the hub or by a local folder, loaded by the library datasets.

    Requires the extra ``hf``. The image column is the only one of type Image; the label column is the only one of type
    ClassLabel or, without any, an integer or string column named label, labels or class, whose sorted distinct values
    are the classes.

    A label of None or -1 is missing; a split with missing labels is loaded without labels, with a warning.

    Arguments:
        path: name on the hub, such as uoft-cs/cifar10, or a local folder.
        name: configuration of the data set, None for its only one.
        size: side of a square, or height and width; images are resized to cover it and cropped.
        channels: 1 for gray, 3 for color.
        train: name of the training split.
        test: name of the test split; None holds out a fraction of the training split.
        test_fraction: the held-out fraction.
        seed: seed by which the held-out rows are drawn.
        streaming: stream the set from the hub; otherwise it is downloaded first, once.
        image: name of the image column; None takes the only one.
        label: name of the label column; None takes the only one, if there is one.
        download: read from the network what is not on this machine; without it, a folder alone, or what the library
            has kept of a set of the hub where HF_HUB_OFFLINE=1 is set.
        background: color behind transparent pixels, by name or as #rrggbb; None drops the alpha channel.
        cache: folder for a copy of the decoded images, for sets larger than memory; None keeps them in memory.
    """

    path: str
    name: str | None = None
    size: Size = 32
    channels: int = 3
    train: str = "train"
    test: str | None = "test"
    test_fraction: float = 0.1
    seed: int = 0
    streaming: bool = False
    image: str | None = None
    label: str | None = None
    download: bool = True
    background: str | None = "white"

    places: ClassVar[frozenset[str]] = frozenset({"path", "cache"})
    idle: ClassVar[frozenset[str]] = frozenset({"download", "cache"})

    def __post_init__(self) -> None:
        check_resized(self.size, self.channels, self.background)
        check_fraction(self.test_fraction)

    def stream(self) -> ImageStream:
        """Load the splits and stream their samples."""
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "Hugging Face sets need the library datasets: pip install 'sde_gen[hf]'"
            ) from error
        if not self.download:
            self._check_local(datasets)
        try:
            parts = datasets.load_dataset(self._place, self.name, streaming=self.streaming)
        except Exception as error:  # the library and its file readers raise any type
            raise ValueError(f"cannot load {self.path!r}{self._where(datasets)}: {_reason(error)}") from error
        names = [self.train] if self.test is None else [self.train, self.test]
        for name in names:
            if name not in parts:
                raise ValueError(f"{self.path!r} has no split {name!r}; it has {', '.join(parts)}")
        splits = {name: parts[name] for name in names}
        image, label = self._columns(splits[self.train])
        classes = {} if label is None else self._classes(splits, label)

        def decode(value: Any) -> tuple[Tensor, bool]:
            return self._decode(value, datasets)

        for name, part in splits.items():
            splits[name] = part.cast_column(
                image, datasets.Image(decode=False)
            )  # its decoder cuts 16 bits to 8
        feature = {} if label is None else vars(parts[self.train].features[label])
        class_names = tuple(feature.get("names") or map(str, classes))
        return ImageStream(self._samples(splits, image, label, classes, decode), len(classes), class_names)

    @property
    def _place(self) -> str:
        """Return the set for the library: of a folder the whole path, since names such as csv are those of readers."""
        return str(Path(self.path).resolve()) if Path(self.path).is_dir() else self.path

    def _check_local(self, library: Any) -> None:
        """Raise a ValueError if loading may read from the network."""
        if not Path(self.path).is_dir():
            if getattr(getattr(library, "config", None), "HF_HUB_OFFLINE", False):
                return
            raise ValueError(
                f"{self.path!r} is no folder here, and is not looked for on the hub: give data.download=true to read "
                "it from there, data.path=... for a folder of it, or set HF_HUB_OFFLINE=1 to read what the library "
                "has kept"
            )
        for name in DESCRIPTIONS:
            path = Path(self.path) / name
            if path.exists() and _names_address(path):
                raise ValueError(
                    f"{path} names files at an address, which are not fetched: give data.download=true to fetch them"
                )

    def _columns(self, part: Any) -> tuple[str, str | None]:
        """Return the names of the image and the label column."""
        if part.features is None:
            raise ValueError(f"{self.path!r} has no list of columns while streaming; give streaming=false")
        kinds = {column: type(feature).__name__ for column, feature in part.features.items()}
        for key, column in (("image", self.image), ("label", self.label)):
            if column is not None and column not in kinds:
                raise ValueError(
                    f"data.{key}={column}: {self.path!r} has no such column; it has {', '.join(kinds)}"
                )
        images = [column for column, kind in kinds.items() if kind == "Image"]
        if self.image is None and len(images) != 1:
            raise ValueError(
                f"{self.path!r} has {len(images)} columns of type Image; name one with data.image=...; "
                f"its columns are {kinds}"
            )
        image = self.image or images[0]
        plain = [column for column in kinds if column != image and _discrete(part.features[column])]
        labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
        labels = labels or [column for column in plain if column.lower() in LABELS]
        if self.label is None and len(labels) > 1:
            raise ValueError(
                f"{self.path!r} has {len(labels)} columns of labels, {', '.join(labels)}; name one with "
                f"data.label={labels[0]}"
            )
        if self.label is None and not labels:
            others = [f"{name} ({part.features[name].dtype})" for name in _undiscrete(part.features, image)]
            columns = f"data.label=... selects one of its columns {', '.join(plain)}" if plain else ""
            kinds_of = f"no whole numbers or texts are in {', '.join(others)}" if others else ""
            if plain or others:
                why = "; ".join(text for text in (kinds_of, columns) if text)
                warnings.warn(f"{self.path!r} is loaded without labels; {why}", stacklevel=3)
        return image, self.label or (labels[0] if labels else None)

    def _classes(self, splits: dict[str, Any], label: str) -> dict[Any, int]:
        """Map every value of the label column to a class."""
        feature = splits[self.train].features[label]
        if type(feature).__name__ == "ClassLabel":
            return {number: number for number in range(feature.num_classes)}
        if not _discrete(feature):
            raise ValueError(
                f"data.label={label}: the column of {self.path!r} is of type {feature}; expected ClassLabel, integers "
                "or strings"
            )
        values: set[Any] = set()
        for name, part in splits.items():
            if label not in (part.features or {}):
                continue
            if self.streaming:
                values.update(row[label] for _, row in self._rows(name, part.select_columns([label])))
            else:
                values.update(part.unique(label))
        return {value: number for number, value in enumerate(sorted(values - {None, -1}))}

    def _samples(
        self,
        splits: dict[str, Any],
        image: str,
        label: str | None,
        classes: dict[Any, int],
        decode: Callable[[Any], tuple[Tensor, bool]],
    ) -> Iterator[Sample]:
        held_out = self._held_out(splits[self.train])
        for name, part in splits.items():
            bare: list[str] = []
            animated: list[int] = []
            for index, row in self._rows(name, part):
                given = None if label is None else row.get(label)
                place = classes.get(given)
                if label is not None and place is None:
                    if given not in (None, -1):
                        raise ValueError(
                            f"{self._at(name, index)}: label {given} is not one of the {len(classes)} classes"
                        )
                    bare.append(f"{index} ({given})")
                try:
                    pixels, several = decode(row.get(image))
                except UNREADABLE as error:
                    raise ValueError(
                        f"{self._at(name, index)}: the image in column {image!r} cannot be read ({_reason(error)}); "
                        "repair or remove the row"
                    ) from error
                if several:
                    animated.append(index)
                yield Sample(pixels, place, bool(held_out[index]) if self.test is None else name == self.test)
            if animated:
                warnings.warn(
                    f"{self.path!r}, split {name!r}: {len(animated)} images hold several frames or pages, of which the "
                    f"first is used; the first is row {animated[0]}",
                    stacklevel=2,
                )
            if bare:
                warnings.warn(
                    f"{self.path!r}, split {name!r}: {len(bare)} rows have no label, the first is row {bare[0]}; so "
                    "the split is loaded without labels",
                    stacklevel=2,
                )

    def _decode(self, value: Any, library: Any) -> tuple[Tensor, bool]:
        """Decode the image of a row, and tell whether its file holds several frames.

        The library returns the bytes of the file.
        """
        if value is None or (value["bytes"] is None and value["path"] is None):
            raise ValueError("the value is empty")
        local = value["bytes"] is None and Path(value["path"]).is_file()
        if value["bytes"] is None and not local:
            if not self.download:
                raise ValueError("it is at an address, and is not fetched; data.download=true fetches it")
            picture = library.Image().decode_example(value)
        else:
            picture = Image.open(value["path"] if local else io.BytesIO(value["bytes"]))
        with picture:
            several = is_animated(picture)
            return resized(
                picture, size=self.size, channels=self.channels, background=self.background
            ), several

    def _rows(self, name: str, part: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        """Iterate over the rows of a split with their numbers."""
        rows = iter(part)
        for index in itertools.count():
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # as above
                raise ValueError(f"{self._at(name, index)} cannot be read: {_reason(error)}") from error
            yield index, row

    def _at(self, name: str, index: int) -> str:
        return f"{self.path!r}, split {name!r}, row {index}"

    def _where(self, library: Any) -> str:
        """Locate the split and row at which a local set cannot be read, by streaming it row by row."""
        if not Path(self.path).exists():
            return ""
        try:
            parts = library.load_dataset(self._place, self.name, streaming=True)
        except Exception:  # the caller reports the reason
            return ""
        for name, part in parts.items():
            columns: set[str] | None = None
            index = -1
            try:
                for index, row in enumerate(part):
                    columns = columns or set(row)
                    if set(row) != columns:
                        odd = ", ".join(sorted(set(row) ^ columns))
                        return f", split {name!r}, row {index} (other columns than before: {odd})"
            except Exception:
                return f", split {name!r}, row {index + 1}"
        return ""

    def _held_out(self, part: Any) -> Any:
        """Return the mask of rows of the training split that are held out, or None for a named test split."""
        if self.test is not None:
            return None
        sizes = part.info.splits or {}
        if self.streaming and self.train not in sizes:
            raise ValueError(
                f"the number of rows of {self.path!r} is unknown, so that no test split can be drawn while streaming; "
                "give streaming=false, or test=NAME"
            )
        count = sizes[self.train].num_examples if self.streaming else len(part)
        return random_mask(count, self.test_fraction, self.seed)


def _names_address(path: Path) -> bool:
    """Return whether a description names anything at an address, or cannot be read."""
    text = atomic.read_regular(path, MAX_DESCRIPTION).decode(errors="replace").replace("\r", "\n")
    if path.suffix == ".md":  # the front matter of a page alone
        begin, _, rest = text.lstrip().partition("---")
        text = "" if begin else rest.partition("\n---")[0]
    try:
        waiting, seen = [yaml.safe_load(text)], set()
    except (yaml.YAMLError, RecursionError, ValueError):
        return True
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and "://" in value:
            return True
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value
    return False


def _discrete(feature: Any) -> bool:
    """Return True for a column of integers, booleans or strings."""
    return type(feature).__name__ == "Value" and str(feature.dtype).startswith(DISCRETE)


def _undiscrete(features: Any, image: str) -> list[str]:
    """Return columns with names of labels whose values are numbers with fractions or the like."""
    return [
        name
        for name, feature in features.items()
        if name != image and name.lower() in LABELS and hasattr(feature, "dtype") and not _discrete(feature)
    ]


def _reason(error: BaseException) -> str:
    """Return the root cause of an error in one line of bounded length."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, UnidentifiedImageError):  # its message names an address of memory
        return "cannot identify image file"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."
