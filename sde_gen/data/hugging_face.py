"""Image sets of the Hugging Face hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from sde_gen.data.base import last_after_shuffle
from sde_gen.data.image import check_square, square
from sde_gen.data.stream import Sample, Stream
from sde_gen.data.streamed import Streamed


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Streamed):
    """An image set by its name on the hub, or by the local folder of one; read by the library datasets.

    Needs the extra ``hf``. The image column is the one of type Image, the label column the one of type
    ClassLabel.

    Arguments:
        path: name on the hub, such as uoft-cs/cifar10, or a local folder.
        name: configuration of the set, None for its only one.
        size: side of square images; others are resized and cropped.
        channels: 1 for grey, 3 for colour.
        train: name of the training split.
        test: name of the test split; None takes a share of the training split.
        test_fraction: that share.
        seed: draws that share.
        streaming: read the set from the hub as it comes; otherwise it is downloaded first, once.
        cache: folder of a copy of the decoded images, for sets larger than memory; None keeps them in memory.
    """

    path: str
    name: str | None = None
    size: int = 32
    channels: int = 3
    train: str = "train"
    test: str | None = "test"
    test_fraction: float = 0.1
    seed: int = 0
    streaming: bool = False

    places: ClassVar[frozenset[str]] = frozenset({"path", "cache"})

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        check_square(self.size, self.channels)

    def stream(self) -> Stream:
        """Find the splits."""
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "Hugging Face sets need the library datasets: pip install 'sde_gen[hf]'"
            ) from error
        try:
            parts = datasets.load_dataset(self.path, self.name, streaming=self.streaming)
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot load {self.path!r}: {error}") from error
        names = [self.train] if self.test is None else [self.train, self.test]
        for name in names:
            if name not in parts:
                raise ValueError(f"{self.path!r} has no split {name!r}; it has {', '.join(parts)}")
        image, label = self._columns(parts[self.train])
        classes = parts[self.train].features[label].num_classes if label else 0
        class_names = tuple(getattr(parts[self.train].features[label], "names", ())) if label else ()
        return Stream(self._samples(parts, image, label), classes, class_names)

    def _columns(self, part: Any) -> tuple[str, str | None]:
        """The columns of images and of labels."""
        if part.features is None:
            raise ValueError(f"{self.path!r} does not say its columns while it streams; give streaming=false")
        kinds = {column: type(feature).__name__ for column, feature in part.features.items()}
        images, labels = (
            [column for column, kind in kinds.items() if kind == wanted] for wanted in ("Image", "ClassLabel")
        )
        if len(images) != 1:
            raise ValueError(f"{self.path!r} needs exactly one image column, its columns are {kinds}")
        return images[0], labels[0] if labels else None

    def _samples(self, parts: Any, image: str, label: str | None) -> Iterator[Sample]:
        held_out = self._held_out(parts[self.train])
        for name in (self.train, *([] if self.test is None else [self.test])):
            for index, row in enumerate(parts[name]):
                yield Sample(
                    square(row[image], size=self.size, channels=self.channels),
                    None if label is None else row[label],
                    bool(held_out[index]) if self.test is None else name == self.test,
                )

    def _held_out(self, part: Any) -> Any:
        """Which rows of the training split are the test split's, where that has no name."""
        if self.test is not None:
            return None
        known = part.info.splits or {}
        if self.streaming and self.train not in known:
            raise ValueError(
                f"{self.path!r} does not say how many rows it has, so no share can be drawn while it streams; "
                "give streaming=false, or test=NAME"
            )
        count = known[self.train].num_examples if self.streaming else len(part)
        return last_after_shuffle(count, self.test_fraction, self.seed)
