"""Abstract frozen encoder of texts from a folder of transformers, as a conditioning uses it."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sde_gen.data.conditioning.embedder import Embedded, EmbeddedSizes, TextEmbedder, stacked
from sde_gen.data.conditioning.tokenizer import Pretrained
from sde_gen.interop.formats import files
from sde_gen.interop.transformers.folder import digest_of

Self = TypeVar("Self", bound="FolderEmbedder")
LEARNED = ("path", "sha256", "tokenizer", "tokenizer_sha256", "length", "padding")


class Opened(NamedTuple):
    """An encoder and its tokenizer, read from their folders."""

    network: Any
    tokenizer: Pretrained


@dataclass(frozen=True, kw_only=True)
class FolderEmbedder(TextEmbedder):
    """Abstract encoder in a folder of ``save_pretrained``, with the folder of its tokenizer.

    Arguments:
        path: folder with ``config.json`` and the weights.
        tokenizer: folder or file of the tokenizer; None: the folder itself if it has one, or its neighbor ``tokenizer``
            (of ``text_encoder_2``: ``tokenizer_2``).
        sha256: digest of settings and weights; None: that of the files in training, which a checkpoint stores.
        tokenizer_sha256: digest of the tokenizer's files, likewise.
        length: most tokens of a text; None: those of the longest training caption.
        padding: number of the token that fills up; None: that of ``tokenizer_config.json``.
        truncate: whether longer texts are cut, as the pipelines of diffusers do, or refused.
        masked: whether padding is masked; those pipelines attend to it.
        parted: whether longer texts are embedded in parts of this length, each with marks of beginning and end, whose
            tokens follow one another; the features of the whole text are those of the first part.
        attends: whether the encoder attends to padding that it masks for the network, as in unCLIP.

    Raises:
        ValueError: length or padding is out of range, texts are both cut and parted; or, when used, files are missing,
            changed or do not fit.
    """

    path: str
    tokenizer: str | None = None
    sha256: str | None = None
    tokenizer_sha256: str | None = None
    length: int | None = None
    padding: int | None = None
    truncate: bool = False
    masked: bool = True
    parted: bool = False
    attends: bool = False

    def __post_init__(self) -> None:
        if (self.length is not None and self.length < 1) or (self.padding is not None and self.padding < 0):
            raise ValueError(
                f"length={self.length}, padding={self.padding}: expected at least 1 token, and a token's number"
            )
        if self.truncate and self.parted:
            raise ValueError("truncate=true, parted=true: longer texts are either cut or parted")
        object.__setattr__(self, "_opened", None)

    @abc.abstractmethod
    def read(self, path: Path) -> Any:
        """Read the network."""

    @abc.abstractmethod
    def vocabulary(self, network: Any) -> int:
        """Return the number of tokens that the network knows."""

    @abc.abstractmethod
    def longest(self, network: Any) -> int:
        """Return the most tokens of a text."""

    @abc.abstractmethod
    def features(self, network: Any, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features of tokens (B, L, W) and of whole texts (B, P)."""

    @abc.abstractmethod
    def widths(self, network: Any) -> tuple[int, int]:
        """Return the features of a token and of a whole text."""

    @property
    def sizes(self) -> EmbeddedSizes:
        """Sizes of embedded texts, from the settings of the folder."""
        if self.length is None:
            raise ValueError("the length of the texts is not known; give it, or call fit(texts)")
        return EmbeddedSizes(self.length, *self.widths(self.open().network))

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return all settings but the places, and the digests."""
        settings = {**vars(self), **self.stored(), "kind": type(self).__name__}
        return {key: value for key, value in settings.items() if key not in ("path", "tokenizer", "_opened")}

    def fit(self: Self, texts: Sequence[str]) -> Self:
        """Take digests, padding, and the length of the longest caption; and hold encoder and captions together."""
        network, tokenizer = opened = self.open()
        most = self.longest(network)
        if self.length is not None and self.length > most:
            raise ValueError(f"length={self.length}: the encoder in {self.path} takes {most} tokens at most")
        found = max((len(tokenizer.ids(text)) for text in {"", *texts}), default=1)
        fitted = replace(
            self,
            path=str(Path(self.path).resolve()),
            tokenizer=str(Path(tokenizer.path).resolve()),
            sha256=digest_of(Path(self.path)) if self.sha256 is None else self.sha256,
            tokenizer_sha256=tokenizer.fit(texts).sha256,
            length=min(found, most) if self.length is None else self.length,
            padding=self.padding_of(tokenizer) if self.padding is None else self.padding,
        )
        object.__setattr__(fitted, "_opened", opened)
        if not (self.truncate or self.parted):
            for number, text in enumerate(texts):
                fitted.row(text, f"the caption of sample {number}, {text!r},")
        return fitted

    def stored(self) -> dict[str, Any]:
        """Return places, digests, length and padding."""
        return {name: getattr(self, name) for name in LEARNED}

    def restore(self: Self, stored: Mapping[str, Any]) -> Self:
        """Restore places, digests, length and padding."""
        return replace(self, **{name: stored[name] for name in LEARNED if stored.get(name) is not None})

    def row(self, text: str, what: str) -> tuple[list[int], list[bool]]:
        """Return the tokens of a text, filled up, and which are no padding.

        Raises:
            ValueError: it is too long; the message begins with ``what``.
        """
        if self.length is None or self.padding is None:
            raise ValueError("the length of the texts is not known; call fit(texts)")
        ids = self.open().tokenizer.ids(text)
        if len(ids) > self.length and not self.truncate and not self.parted:
            raise ValueError(
                f"{what} has {len(ids)} tokens; the longest that the encoder takes has {self.length}: shorten it, or "
                "train with conditioning.encoder.truncate=true"
            )
        size, parts = self.length, [ids]
        if len(ids) > size and self.parted:
            marks = self.open().tokenizer.ids("")
            begin, end = marks[:-1], marks[-1:]
            inside, step = ids[len(begin) : -1], size - len(marks)
            if step < 1:
                raise ValueError(f"length={size}: expected more tokens than the {len(marks)} marks of a part")
            parts = [begin + inside[at : at + step] + end for at in range(0, len(inside), step)]
        elif len(ids) > size:
            parts = [ids[: size - 1] + ids[-1:]]  # the mark of the end stays
        more = [size - len(part) for part in parts]
        return (
            [token for part, n in zip(parts, more, strict=True) for token in part + n * [self.padding]],
            [
                there
                for part, n in zip(parts, more, strict=True)
                for there in len(part) * [True] + n * [False]
            ],
        )

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Embed texts on the CPU."""
        rows = [self._embed(*self.row(text, f"text={text}")) for text in texts] if self.parted else []
        if rows:
            return stacked(rows)
        tokens, mask = map(
            torch.tensor, zip(*(self.row(text, f"text={text}") for text in texts), strict=True)
        )
        features, pooled = self.features(self.open().network, tokens, self._seen(mask))
        return Embedded(features, mask if self.masked else torch.ones_like(mask), pooled)

    def _embed(self, ids: list[int], there: list[bool]) -> Embedded:
        """Embed the parts of a text one by one, and set them behind each other."""
        tokens, mask = (torch.tensor(row).reshape(-1, self.length or 1) for row in (ids, there))
        features, pooled = self.features(self.open().network, tokens, self._seen(mask))
        found = mask if self.masked else torch.ones_like(mask)
        return Embedded(features.flatten(0, 1).unsqueeze(0), found.reshape(1, -1), pooled[:1])

    def _seen(self, mask: Tensor) -> Tensor | None:
        """Return the mask of the encoder itself; None where it attends to padding."""
        return mask if self.masked and not self.attends else None

    def open(self) -> Opened:
        """Read network and tokenizer, once.

        Raises:
            ValueError: files are missing, are not those of the training, or do not fit together.
        """
        if vars(self)["_opened"] is None:
            object.__setattr__(self, "_opened", self._open())
        opened: Opened = vars(self)["_opened"]
        return opened

    def _open(self) -> Opened:
        path = Path(self.path)
        if self.sha256 is not None and not path.is_dir():
            raise ValueError(f"the encoder of texts is no longer in {path}; put its folder back there")
        if self.sha256 is not None and digest_of(path) != self.sha256:
            raise ValueError(
                f"{path} is not the encoder of texts of the training: its SHA-256 is another one; put that one back"
            )
        network = self.read(path)
        tokenizer = Pretrained(path=str(self._tokenizer_place(path)), sha256=self.tokenizer_sha256)
        known, tokens = self.vocabulary(network), tokenizer.vocabulary - 1
        if tokens > known:
            raise ValueError(
                f"the tokenizer in {tokenizer.path} has {tokens} tokens, the encoder in {path} knows {known}: they do "
                "not belong together"
            )
        self.check(network, tokenizer)
        return Opened(network, tokenizer)

    def check(self, network: Any, tokenizer: Pretrained) -> None:
        """Raise ValueError where network and tokenizer do not belong together."""

    def _tokenizer_place(self, path: Path) -> Path:
        if self.tokenizer is not None:
            return Path(self.tokenizer)
        if (path / "tokenizer.json").is_file() or (path / "vocab.json").is_file():
            return path
        beside = path.with_name(path.name.replace("text_encoder", "tokenizer"))
        if beside == path or not beside.is_dir():
            raise ValueError(
                f"there is no tokenizer in or beside {path}; name its folder with conditioning.encoder.tokenizer=..."
            )
        return beside

    def padding_of(self, tokenizer: Pretrained) -> int:
        """Return the number of the token that fills texts up, of the settings of the tokenizer.

        Raises:
            ValueError: they name none.
        """
        path = Path(tokenizer.path)
        folder = path if path.is_dir() else path.parent
        names = [folder / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
        found = [files.json_of(name).get("pad_token") for name in names if name.is_file()]
        words = [word.get("content") if isinstance(word, dict) else word for word in found]
        numbers = [tokenizer.number(word) for word in words if isinstance(word, str)]
        known = [number for number in numbers if number is not None]
        if not known:
            raise ValueError(
                f"neither tokenizer_config.json nor special_tokens_map.json in {folder} names a pad_token of the "
                "tokenizer; give its number with conditioning.encoder.padding=..."
            )
        return known[0]
