"""Frozen encoders of texts from folders of transformers: CLIP and T5."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sde_gen.data.conditioning.tokenizer import Pretrained
from sde_gen.interop.transformers import clip, t5
from sde_gen.interop.transformers.embedder import FolderEmbedder
from sde_gen.model.text.clip import CLIPText
from sde_gen.model.text.t5 import T5Text

MOST_TOKENS = 512
"""Tokens that T5 was trained with."""


@dataclass(frozen=True, kw_only=True)
class CLIP(FolderEmbedder):
    """CLIP's encoder of texts.

    Stable Diffusion 1 takes the last layer, normalized, and attends to padding (``masked=False``); Stable Diffusion XL
    and 3 the last but one (``skip=1``) without normalization. The features of the whole text are projected where the
    folder has a projection.

    Source: Radford et al., 2021, arXiv:2103.00020.

    Arguments:
        path: folder with ``config.json`` and the weights.
        tokenizer: folder or file of the tokenizer; None: the folder itself, or its neighbor ``tokenizer``.
        sha256: digest of settings and weights; None: that of the files in training.
        tokenizer_sha256: digest of the tokenizer's files, likewise.
        length: most tokens of a text; None: those of the longest training caption.
        padding: number of the token that fills up; None: that of ``tokenizer_config.json``.
        truncate: whether longer texts are cut or refused.
        masked: whether padding is masked.
        parted: whether longer texts are embedded in parts.
        attends: whether the encoder attends to padding that it masks for the network.
        skip: number of last layers that are left out.
        normalize: whether the features of tokens are normalized as those of the last layer.
        pooled: whether there are features of the whole text.

    Raises:
        ValueError: a number is out of range; or, when used, files are missing, changed or do not fit.
    """

    skip: int = 0
    normalize: bool = True
    pooled: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip < 0:
            raise ValueError(f"skip={self.skip}: expected the number of last layers that are left out")

    def read(self, path: Path) -> CLIPText:
        """Read the network."""
        return clip.load(path)

    def vocabulary(self, network: CLIPText) -> int:
        """Return the number of tokens."""
        return network.table.num_embeddings

    def longest(self, network: CLIPText) -> int:
        """Return the number of positions."""
        return network.length

    def widths(self, network: CLIPText) -> tuple[int, int]:
        """Return the features of a token and of a whole text."""
        whole = network.width if network.project is None else network.project.out_features
        return network.width, whole if self.pooled else 0

    def features(self, network: CLIPText, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features of a layer, and those at the mark of the end."""
        found = network(tokens, mask)
        if self.skip >= len(found.hidden):
            raise ValueError(
                f"skip={self.skip}: the encoder in {self.path} has {len(found.hidden) - 1} layers"
            )
        hidden = found.hidden[-1 - self.skip]
        whole = found.pooled if found.projected is None else found.projected
        whole = whole if self.pooled else whole[:, :0]
        return network.norm(hidden) if self.normalize else hidden, whole

    def check(self, network: CLIPText, tokenizer: Pretrained) -> None:
        """Raise ValueError where texts do not end with the token at which they are pooled."""
        end = tokenizer.ids("")[-1:]
        expected = tokenizer.vocabulary - 2 if network.end is None else network.end
        if end != [expected]:
            raise ValueError(
                f"the tokenizer in {tokenizer.path} ends a text with the token {end}, the encoder in {self.path} "
                f"pools at {expected}: they do not belong together"
            )


@dataclass(frozen=True, kw_only=True)
class T5(FolderEmbedder):
    """T5's encoder of texts; it gives no features of the whole text (``conditioning.pooled=false``).

    Source: Raffel et al., 2019, arXiv:1910.10683; for images: Saharia et al., 2022, arXiv:2205.11487, section 2.1.

    Arguments:
        path: folder with ``config.json`` and the weights.
        tokenizer: folder or file of the tokenizer; None: the folder itself, or its neighbor ``tokenizer``.
        sha256: digest of settings and weights; None: that of the files in training.
        tokenizer_sha256: digest of the tokenizer's files, likewise.
        length: most tokens of a text; None: those of the longest training caption.
        padding: number of the token that fills up; None: that of ``tokenizer_config.json``.
        truncate: whether longer texts are cut or refused.
        masked: whether padding is masked.
        parted: whether longer texts are embedded in parts.
        attends: whether the encoder attends to padding that it masks for the network.

    Raises:
        ValueError: a number is out of range; or, when used, files are missing, changed or do not fit.
    """

    def read(self, path: Path) -> T5Text:
        """Read the network."""
        return t5.load(path)

    def vocabulary(self, network: T5Text) -> int:
        """Return the number of tokens."""
        return network.table.num_embeddings

    def longest(self, network: T5Text) -> int:
        """Return the most tokens of its training; positions are relative, and there is no limit."""
        del network
        return MOST_TOKENS

    def widths(self, network: T5Text) -> tuple[int, int]:
        """Return W and no P."""
        return network.width, 0

    def features(self, network: T5Text, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features of tokens."""
        last = network(tokens, mask).last
        return last, last.new_zeros(len(last), 0)
