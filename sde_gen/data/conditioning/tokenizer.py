"""Tokenizers: from texts to numbers of words or parts of words."""

import abc
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sde_gen.utils.arguments import Checked

UNKNOWN, FIRST = 1, 2
"""Token of an unknown word, and of the first known one; 0 is padding."""

WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


class Tokenizer(Checked, abc.ABC):
    """Abstract map from a text to tokens, whole numbers of at least 1; 0 is padding."""

    @property
    @abc.abstractmethod
    def vocabulary(self) -> int:
        """Number of tokens, padding included."""

    @abc.abstractmethod
    def __call__(self, text: str, *, strict: bool = False) -> list[int]:
        """Return the tokens of a text.

        Arguments:
            text: the text.
            strict: raise an error for unknown words.

        Raises:
            ValueError: strict is set, and a word is unknown.
        """

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that share one token for unknown words; none for parts of words."""
        del text
        return []

    @abc.abstractmethod
    def fit(self, texts: Sequence[str]) -> "Tokenizer":
        """Return the tokenizer with what it learns from the training captions."""

    @abc.abstractmethod
    def stored(self) -> dict[str, Any]:
        """Return what was learned as plain JSON."""

    @abc.abstractmethod
    def restore(self, stored: Mapping[str, Any]) -> "Tokenizer":
        """Return the tokenizer with what :meth:`stored` returned."""


@dataclass(frozen=True, kw_only=True)
class Words(Tokenizer):
    """Words and punctuation in lower case, by a vocabulary of the training captions.

    Arguments:
        words: the vocabulary; None: all words of the training captions, frequent ones first.
        min_count: number of times a word must occur there; rarer ones are one unknown word.

    Raises:
        ValueError: min_count is below 1, or a word is listed twice.
    """

    words: Sequence[str] | None = None
    min_count: int = 1

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ValueError(f"min_count={self.min_count}: expected at least 1")
        if self.words is not None and len(set(self.words)) < len(self.words):
            word, _ = Counter(self.words).most_common(1)[0]
            raise ValueError(f"the word {word} is listed twice in words")
        numbers = {word: FIRST + i for i, word in enumerate(self.words or ())}
        object.__setattr__(self, "_numbers", numbers)

    @property
    def vocabulary(self) -> int:
        """Number of words, unknown ones and padding included."""
        return FIRST + len(self._known())

    def __call__(self, text: str, *, strict: bool = False) -> list[int]:
        """Return the numbers of the words."""
        numbers, found = self._known(), WORD.findall(text.lower())
        unknown = self.unknown(text) if strict else []
        if unknown:
            raise ValueError(
                f"the text {text!r} has words that are in no training caption: {', '.join(unknown)}; "
                "leave them out, or choose other words"
            )
        return [numbers.get(word, UNKNOWN) for word in found]

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that are not in the vocabulary."""
        numbers = self._known()
        return [word for word in WORD.findall(text.lower()) if word not in numbers]

    def fit(self, texts: Sequence[str]) -> "Words":
        """Collect the words of the captions, by their count and then in alphabetical order."""
        if self.words is not None:
            return self
        counts = Counter(word for text in texts for word in WORD.findall(text.lower()))
        kept = [word for word, count in counts.items() if count >= self.min_count]
        if not kept:
            raise ValueError(
                f"none of the words of the {len(texts)} training captions occurs {self.min_count} times; give captions "
                "with words, or a smaller min_count"
            )
        return replace(self, words=sorted(kept, key=lambda word: (-counts[word], word)))

    def stored(self) -> dict[str, Any]:
        """Return the vocabulary as stored in a checkpoint."""
        return {"words": list(self._known())}

    def restore(self, stored: Mapping[str, Any]) -> "Words":
        """Restore the words."""
        return replace(self, words=stored["words"]) if "words" in stored else self

    def _known(self) -> Mapping[str, int]:
        if self.words is None:
            raise ValueError("the vocabulary is not known; give words, or call fit(train)")
        numbers: Mapping[str, int] = vars(self)["_numbers"]
        return numbers


@dataclass(frozen=True, kw_only=True)
class Pretrained(Tokenizer):
    """A tokenizer from files, by the library ``tokenizers``; its tokens are numbered from 1 here.

    Source: Sennrich et al., 2016, arXiv:1508.07909 (byte-pair encoding); Radford et al., 2021, arXiv:2103.00020, for
    the lower-case one of CLIP.

    Arguments:
        path: ``tokenizer.json`` or its folder, or a folder with ``vocab.json`` and ``merges.txt`` of CLIP.
        sha256: digest of the files; None: that of the files in training, which a checkpoint stores.

    Raises:
        ValueError: the files are missing, are none of a tokenizer or not those of the training, or the library is not
            installed.
    """

    path: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tokenizer", None)

    @property
    def vocabulary(self) -> int:
        """Number of tokens, padding included."""
        return 1 + int(self._open().get_vocab_size())

    def __call__(self, text: str, *, strict: bool = False) -> list[int]:
        """Return the tokens; no text is unknown to an encoding of bytes."""
        del strict
        return [1 + token for token in self.ids(text)]

    def ids(self, text: str) -> list[int]:
        """Return the tokens by their numbers in the files, marks of beginning and end included."""
        found: list[int] = self._open().encode(text).ids
        return found

    def number(self, piece: str) -> int | None:
        """Return the number of a piece in the files; None for one that they do not know."""
        found: int | None = self._open().token_to_id(piece)
        return found

    def fit(self, texts: Sequence[str]) -> "Pretrained":
        """Take the digest of the files."""
        del texts
        return replace(self, sha256=_digest(Path(self.path)) if self.sha256 is None else self.sha256)

    def stored(self) -> dict[str, Any]:
        """Return the digest of the files, as stored in a checkpoint."""
        return {"sha256": self.sha256}

    def restore(self, stored: Mapping[str, Any]) -> "Pretrained":
        """Restore the digest."""
        return replace(self, sha256=stored["sha256"]) if stored.get("sha256") else self

    def _open(self) -> Any:
        if vars(self)["_tokenizer"] is None:
            object.__setattr__(self, "_tokenizer", _load(Path(self.path), self.sha256))
        return vars(self)["_tokenizer"]


def _files(path: Path) -> list[Path]:
    files = [path]
    if path.is_dir():
        files = [path / "vocab.json", path / "merges.txt"]
        whole = path / "tokenizer.json"
        if whole.is_file() and not all(file.is_file() for file in files):
            files = [whole]
    for file in files:
        if not file.is_file():
            raise ValueError(
                f"there is no file {file}; give tokenizer.json, or a folder with vocab.json and merges.txt"
            )
    return files


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(b"".join(file.read_bytes() for file in _files(path))).hexdigest()


def _load(path: Path, sha256: str | None) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ValueError(
            'a tokenizer from files needs the library tokenizers: pip install "sde_gen[text]"'
        ) from error
    files = _files(path)
    if sha256 is not None and _digest(path) != sha256:
        raise ValueError(f"{path} is not the tokenizer of the training: its SHA-256 is another one")
    try:
        if len(files) == 2:
            return _clip(tokenizers, *files)
        found = tokenizers.Tokenizer.from_file(str(files[0]))
        found.no_truncation()  # a file may ask for both
        found.no_padding()
        return found
    except Exception as error:  # the library raises plain exceptions
        raise ValueError(f"{path} is no tokenizer that can be read ({error})") from error


def _clip(tokenizers: Any, vocabulary: Path, merges: Path) -> Any:
    """Build CLIP's byte-pair encoding, with its marks of beginning and end."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    model = tokenizers.models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=end, end_of_word_suffix="</w>"
    )
    built = tokenizers.Tokenizer(model)
    normalizers, splitters = tokenizers.normalizers, tokenizers.pre_tokenizers
    built.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    built.pre_tokenizer = splitters.Sequence(
        [
            splitters.Split(tokenizers.Regex(pattern), behavior="removed", invert=True),
            splitters.ByteLevel(add_prefix_space=False),
        ]
    )
    built.add_special_tokens([begin, end])
    marks = [(mark, built.token_to_id(mark)) for mark in (begin, end)]
    if any(number is None for _, number in marks):
        raise ValueError(f"the vocabulary has no {begin} or no {end}")
    built.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=marks
    )
    return built
