"""The abstract conditioning: from named conditions, or from what a person types, to inputs of the denoiser."""

import abc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from sde_gen.data.base import Dataset
from sde_gen.data.codec.base import Codec
from sde_gen.data.fitted import Fitted
from sde_gen.noise import Noise
from sde_gen.utils.arguments import Checked
from sde_gen.utils.broadcasting import broadcast, to_device

Self = TypeVar("Self", bound="Conditioning")


class Conditioning(Fitted, Checked, abc.ABC):
    """Abstract choice of the inputs of the network besides noisy sample and time.

    One object serves training (:meth:`__call__`), evaluation (:meth:`given`) and sampling (:meth:`prompt`). All return
    keyword arguments of the denoiser, each with one row per sample.
    """

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the conditions of the data that are read, by which a person gives them, too."""

    @property
    @abc.abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Names of the keyword arguments of the denoiser."""

    @abc.abstractmethod
    def drops(self, key: str) -> bool:
        """Return whether the training drops the keyword argument now and then, as guidance without it needs."""

    @abc.abstractmethod
    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Transform the conditions of a batch, and drop none.

        Raises:
            ValueError: a condition is missing or does not fit.
        """

    @abc.abstractmethod
    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Transform the conditions of a training batch, and replace random rows by the null.

        Arguments:
            conditions: the conditions of the data by name, each with one row per sample.
            noise: source of randomness.

        Returns:
            Keyword arguments of the denoiser, each with one row per sample.
        """

    @abc.abstractmethod
    def null(self, count: int) -> dict[str, Tensor]:
        """Return the null of every keyword argument for ``count`` samples: the prediction is that without it."""

    @abc.abstractmethod
    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Return the keyword arguments for what a person types.

        Arguments:
            typed: by the name of a condition, a value or a list of values that are taken in turn; without a name, or
                with None, its default: all classes in turn, no text, no vector and no image.
            count: number of samples.
            class_names: names of the classes in order of their numbers.

        Raises:
            ValueError: a value does not fit, or one is missing that the network was never trained without.
        """

    def with_codec(self: Self, codec: Codec) -> Self:
        """Return the conditioning for samples in the model space of a codec: the same, unless it encodes images."""
        del codec
        return self

    def noised(self, given: Mapping[str, Tensor], level: float, noise: Noise) -> dict[str, Tensor]:
        """Add noise to the condition images of the keyword arguments.

        Arguments:
            given: the keyword arguments.
            level: standard deviation of the noise.
            noise: source of randomness.

        Raises:
            ValueError: there are none, or the network was not trained with such noise.
        """
        del given, noise
        raise ValueError(f"image_noise={level}: {UNKNOWN['image']}")

    def default(self, count: int) -> dict[str, Tensor]:
        """Return the keyword arguments where nothing is typed: none."""
        del count
        return {}

    def omitted(self, count: int) -> dict[str, Tensor]:
        """Return what takes the place of conditions that are left out: nothing if the network knows their null."""
        del count
        return {}

    @property
    def unrounded(self) -> bool:
        """True if images that the stage before has drawn are given without rounding to levels."""
        return False

    def of(self, names: Collection[str]) -> "Conditioning":
        """Return the conditioning on these conditions alone, where it has parts."""
        del names
        return self

    def together(self, key: str) -> tuple[str, ...]:
        """Return the keys that are dropped together with a key, itself included."""
        return (key,)

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the network's inputs, by the names that networks give them."""
        return {}

    def fit(self: Self, train: Dataset) -> Self:
        """Return the conditioning with what it learns from the training split, such as a vocabulary.

        Raises:
            ValueError: the data lack a condition, or it does not fit.
        """
        self.check(train)
        return self

    def unseen(self, train: Dataset, test: Dataset) -> list[str]:
        """Describe values of the conditions that the training split lacks, each kind in a line; a few kinds are known.

        Arguments:
            train: the training split, to which the conditioning is fitted.
            test: the test split.
        """
        del train, test
        return []

    def prepare(self, data: Dataset) -> Dataset:
        """Return the data with the conditions that are read, transformed as far as they can be once.

        Raises:
            ValueError: the data lack a condition.
        """
        self.check(data)
        return replace(data, conditions={name: data.conditions[name] for name in self.names})

    def check(self, data: Dataset) -> None:
        """Raise ValueError if the data lack a condition."""
        for name in self.names:
            require(name, data.conditions)

    def reject_unknown(self, typed: Mapping[str, Any]) -> None:
        """Raise ValueError if a condition is typed that is none of this conditioning."""
        for name, value in typed.items():
            if value is not None and name not in self.names:
                raise ValueError(f"{name}={value}: {UNKNOWN[name] if name in UNKNOWN else UNKNOWN_OTHER}")


class SingleConditioning(Conditioning):
    """Abstract conditioning on one condition, randomly replaced by its null.

    The null also stands for a missing condition, so that one network is both the conditional and the unconditional
    model.

    Source: Ho and Salimans, 2022, arXiv:2207.12598, algorithm 1.

    Attributes:
        name: name of the condition.
        key: name of the denoiser's keyword argument.
        dropout: probability that a condition is dropped.
    """

    name: ClassVar[str]
    key: ClassVar[str]
    dropout: float

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of the condition."""
        return (self.name,)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keyword of the network."""
        return (self.key,)

    def drops(self, key: str) -> bool:
        """Return whether dropout is positive."""
        return key == self.key and self.dropout > 0

    @abc.abstractmethod
    def transform(self, rows: Tensor) -> Tensor:
        """Transform a condition with shape (B, ...) to the network's input."""

    def draw(self, rows: Tensor, noise: Noise) -> Tensor:
        """Transform a condition of a training batch; a subclass may do so at random."""
        del noise
        return self.transform(rows)

    @abc.abstractmethod
    def null_row(self) -> Tensor:
        """Return the null with shape (1, ...)."""

    @abc.abstractmethod
    def parse(self, values: Sequence[Any], class_names: Sequence[str]) -> Tensor:
        """Transform typed values to rows of the network's input.

        Raises:
            ValueError: a value does not fit; the message gives it.
        """

    def given(self, conditions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Transform the condition of every row, without dropout."""
        return {self.key: self.transform(require(self.name, conditions))}

    def __call__(self, conditions: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Transform the condition, and replace random rows by the null."""
        cond = self.draw(require(self.name, conditions), noise)
        if self.dropout == 0:
            return {self.key: cond}
        dropped = noise.uniform(cond) < self.dropout
        null = to_device(self.null_row(), cond.device, cond.dtype)
        return {self.key: torch.where(broadcast(dropped, cond), null, cond)}

    def null(self, count: int) -> dict[str, Tensor]:
        """Return the null of every sample."""
        row = self.null_row()
        return {self.key: row.expand(count, *row.shape[1:])}

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Transform the typed values, taken in turn."""
        self.reject_unknown(typed)
        value = typed.get(self.name)
        if value is None:
            found = self.default(count)
            if not found and self.dropout == 0:
                raise ValueError(
                    f"the network was never trained without {self.name} (conditioning.dropout=0): give {self.name}=..."
                )
            return found
        values = value.tolist() if isinstance(value, Tensor) else value
        rows = self.parse(values if isinstance(values, list | tuple) else [values], class_names)
        return {self.key: rows.repeat(-(-count // len(rows)), *[1] * (rows.ndim - 1))[:count]}


def require(name: str, conditions: Mapping[str, Tensor]) -> Tensor:
    """Return a condition.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in conditions:
        known = ", ".join(conditions) or "none"
        raise ValueError(
            f"the data have no {PLURALS.get(name, name)} to condition on, only: {known}; use conditioning=none"
            if conditions
            else f"the data have no {PLURALS.get(name, name)} to condition on; use conditioning=none"
        )
    return conditions[name]


def check_dropout(dropout: float, what: str) -> None:
    """Raise ValueError unless dropout is a probability."""
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout={dropout} must lie in [0, 1]: it is the fraction of dropped {what}")


PLURALS = {"label": "labels", "text": "captions", "vector": "vectors", "image": "images", "control": "hints"}
"""Conditions in words."""

UNKNOWN_OTHER = "the run was trained without; train one with conditioning=several"
UNKNOWN = {
    "label": "the run was trained without classes; train one with conditioning=label",
    "text": "the run was trained without captions; train one with conditioning=text",
    "vector": "the run was trained without vectors; train one with conditioning=vector",
    "control": "the run was trained without hints; train one with model=controlled and conditioning=control",
    "image": "the run was trained without images as conditions; train one with conditioning=image",
}
"""Advice where a condition is typed that the run does not know."""
