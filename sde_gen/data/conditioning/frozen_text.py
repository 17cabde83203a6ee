"""Texts of any length for a network that was trained elsewhere, with numbers about its images beside them."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sde_gen.data.conditioning.encoded_text import EncodedText
from sde_gen.utils.broadcasting import to_device


@dataclass(frozen=True, kw_only=True)
class FrozenText(EncodedText):
    """Texts embedded by the encoders of an imported network, whose inputs have their sizes already.

    Texts that an encoder embeds in parts give as many tokens as they need; shorter ones of the same call are padded,
    and their padding is masked. The features of the whole text are followed by numbers such as the sizes of Stable
    Diffusion XL: original height and width, top and left of the crop, target height and width.

    Source: Podell et al., 2023, arXiv:2307.01952, section 2.2, for the numbers.

    Arguments:
        encoder: from texts to embedded ones.
        dropout: probability that a text is dropped when the network is trained further.
        learned_null: whether a missing text is what the network learns for it; False: the empty text, embedded.
        pooled: whether the network is given the features of the whole text as its vector.
        cache: folder for the embedded captions, which later trainings read; None keeps them in memory.
        zero_null: whether zeros take the place of a missing text, and of the features of the whole.
        numbers: default of the numbers, of the condition ``vector``; empty for a network without.
        null_numbers: the same beside a missing text; None: the same numbers.
        lowercase: whether texts are embedded in lower case, without spaces at their ends.
        masked: whether the network is given the mask, beyond which it does not attend.

    Raises:
        ValueError: dropout lies outside [0, 1], or there are numbers without features of the whole text.
    """

    learned_null: bool = False
    zero_null: bool = False
    numbers: Sequence[float] = ()
    null_numbers: Sequence[float] | None = None
    lowercase: bool = False
    masked: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.numbers and not self.pooled:
            raise ValueError("numbers follow the features of the whole text: give pooled=true")
        if self.null_numbers is not None and len(self.null_numbers) != len(self.numbers):
            raise ValueError(f"null_numbers={list(self.null_numbers)}: expected {len(self.numbers)} numbers")

    @property
    def names(self) -> tuple[str, ...]:
        """Return text, and vector for a network with numbers."""
        return ("text", "vector") if self.numbers else ("text",)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of tokens, and of mask and vector where the network is given them."""
        return tuple(key for key in super().keys if self.masked or key != "mask")

    @property
    def sizes(self) -> dict[str, int]:
        """Return nothing: the imported network has its sizes."""
        return {}

    def null(self, count: int) -> dict[str, Tensor]:
        """Repeat the null."""
        rows = super()._inputs([""], torch.device("cpu"))
        if self.zero_null:
            rows = {key: row if key == "mask" else torch.zeros_like(row) for key, row in rows.items()}
        numbers = self.numbers if self.null_numbers is None else self.null_numbers
        rows = _with_numbers(rows, torch.tensor([list(numbers)]).expand(1, len(numbers)))
        return {key: row.expand(count, *row.shape[1:]) for key, row in rows.items()}

    def prompt(
        self, typed: Mapping[str, Any], count: int, *, class_names: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Embed the typed texts, and set the typed numbers behind them, each taken in turn."""
        self.reject_unknown(typed)
        numbers = typed.get("vector")
        found = super().prompt({"text": typed.get("text")}, count, class_names=class_names)
        if numbers is None:
            return found
        rows = self._rows(numbers)
        table = rows.repeat(-(-count // len(rows)), 1)[:count]
        pooled = found["vector"][:, : found["vector"].shape[1] - len(self.numbers)]
        return {**found, "vector": torch.cat([pooled, table.to(pooled)], 1)}

    def _rows(self, numbers: Any) -> Tensor:
        """Return typed numbers, one list or several, or those of a tensor, with shape (n, N).

        Raises:
            ValueError: they are of another count.
        """
        if isinstance(numbers, Tensor):
            if numbers.shape[-1] != len(self.numbers):
                raise ValueError(
                    f"vector has shape {tuple(numbers.shape)}; expected (B, {len(self.numbers)})"
                )
            return numbers.reshape(-1, len(self.numbers))
        rows = numbers if isinstance(numbers, list | tuple) else [numbers]
        rows = rows if rows and isinstance(rows[0], list | tuple) else [rows]
        for row in rows:
            if len(row) != len(self.numbers):
                raise ValueError(
                    f"vector={reprlib.repr(row)}: expected {len(self.numbers)} numbers, such as the default "
                    f"{reprlib.repr(list(self.numbers))}"
                )
        return torch.tensor(rows, dtype=torch.float32)

    def _inputs(self, texts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        given = [text.lower().strip() for text in texts] if self.lowercase else texts
        rows = super()._inputs(given, device)
        return _with_numbers(rows, torch.tensor([list(self.numbers)]).expand(len(texts), len(self.numbers)))


def _with_numbers(rows: dict[str, Tensor], numbers: Tensor) -> dict[str, Tensor]:
    """Append numbers (B, N) to the vector."""
    if not numbers.shape[1]:
        return rows
    vector = rows["vector"]
    return {**rows, "vector": torch.cat([vector, to_device(numbers, vector.device, vector.dtype)], 1)}
