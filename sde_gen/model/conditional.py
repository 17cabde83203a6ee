"""Conditions of a network: a class, a vector, a text and an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.embedding import NoiseEmbedding
from sde_gen.model.text.embedded import EmbeddedTokens
from sde_gen.model.text.encoder import TextEncoder, TextFeatures, TextTransformer
from sde_gen.model.transformer.layers import dense


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Sizes of the conditions of a network, and the encoder of texts.

    In all of them zeros stand for a missing condition, so that a network that is given none predicts to the bit what it
    predicts with zeros.

    Arguments:
        vector: length of the vector, 0 for none.
        image: channels of the image, which the network sees beside the noisy sample; 0 for none.
        vocabulary: number of tokens of a text, padding 0 included; 0 for no texts, or embedded ones.
        features: features of a token that is embedded outside the network; 0 for none.
        length: most tokens of a text.
        encoder: class of the encoder of texts, called with vocabulary, length and width.
        until: whether the network is given a second noise label, of the time that a flow map maps the sample to.

    Raises:
        ValueError: a size is negative, or texts are given both as tokens and embedded.
    """

    vector: int = 0
    image: int = 0
    vocabulary: int = 0
    features: int = 0
    length: int = 0
    encoder: Callable[..., TextEncoder] = TextTransformer
    until: bool = False

    def __post_init__(self) -> None:
        if min(self.vector, self.image, self.vocabulary, self.features, self.length) < 0:
            raise ValueError(
                f"vector={self.vector}, image={self.image}, vocabulary={self.vocabulary}, features={self.features}, "
                f"length={self.length}: must not be negative; 0 means none"
            )
        if self.vocabulary and self.features:
            raise ValueError(
                f"vocabulary={self.vocabulary}, features={self.features}: texts are given as tokens or as embedded "
                "ones, not as both"
            )

    @property
    def text(self) -> bool:
        """Return whether there are texts, as tokens or embedded."""
        return self.vocabulary > 0 or self.features > 0


NO_CONDITIONS = Conditions()


def _text(conditions: Conditions, width: int) -> TextEncoder | EmbeddedTokens | None:
    """Make the encoder of texts, or the projection of embedded tokens, where there are any."""
    if conditions.features:
        return EmbeddedTokens(features=conditions.features, length=conditions.length, width=width)
    if conditions.vocabulary:
        return conditions.encoder(vocabulary=conditions.vocabulary, length=conditions.length, width=width)
    return None


class ConditionalNetwork(nn.Module):
    """Base of the networks: one embedding of all conditions, added to that of the noise label.

    A subclass calls :meth:`add_conditions` once in its constructor, and :meth:`embed_conditions` in every call.
    """

    embedding: NoiseEmbedding
    classes: nn.Embedding | None
    vector: nn.Linear | None
    until: nn.Linear | None
    text: TextEncoder | EmbeddedTokens | None

    def add_conditions(self, features: int, num_classes: int, conditions: Conditions = NO_CONDITIONS) -> None:
        """Make the embeddings.

        Arguments:
            features: features of the embedding of the noise label, and of a token of a text.
            num_classes: number of classes, 0 for none; a further null class stands for "no label given".
            conditions: sizes of the other conditions.
        """
        self.classes = nn.Embedding(num_classes + 1, features) if num_classes else None
        self.vector = dense(conditions.vector, features) if conditions.vector else None
        self.text = _text(conditions, features)
        self.image_channels = conditions.image
        self.until = None
        if conditions.until:
            self.until = nn.Linear(self.embedding.features, features, bias=False)
            nn.init.zeros_(self.until.weight)

    def with_until(self, embedding: Tensor, c_noise: Tensor, until: Tensor | None) -> Tensor:
        r"""Add the second noise label to an embedding (B, features): :math:`W (\phi(c_s) - \phi(c_t))`.

        It adds nothing where both labels are equal, so the network then predicts to the bit what it predicts without.
        W is zero at first.

        Arguments:
            embedding: embedding of the noise label, after its layers.
            c_noise: noise labels c_t with shape (B,).
            until: noise labels c_s with shape (B,); None: those of c_noise.

        Raises:
            ValueError: a second label was given to a network without.
        """
        if until is None:
            return embedding
        if self.until is None:
            raise ValueError(
                "a time to map to was given to a network without; train a flow map with objective=mean_flow"
            )
        out: Tensor = embedding + self.until(self.embedding(until) - self.embedding(c_noise))
        return out

    def embed_conditions(
        self,
        embedding: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        text: TextFeatures | None = None,
    ) -> Tensor:
        """Add the embeddings of the conditions to one with shape (B, features); None stands for the null.

        Raises:
            ValueError: a condition was given to a network without.
        """
        embedding = with_class(embedding, self.classes, label)
        if self.vector is not None:
            zeros = embedding.new_zeros(len(embedding), self.vector.in_features)
            embedding = embedding + self.vector(zeros if vector is None else vector.to(embedding.dtype))
        elif vector is not None:
            raise ValueError("a vector was given to a network without; train one with conditioning=vector")
        return embedding if text is None else embedding + text.pooled

    def encode_text(self, tokens: Tensor | None, mask: Tensor | None, like: Tensor) -> TextFeatures | None:
        """Encode the texts of a batch, the empty text for None; None for a network without texts.

        Raises:
            ValueError: tokens were given to a network without texts, or a mask without embedded tokens.
        """
        if self.text is None:
            if tokens is not None or mask is not None:
                raise ValueError("a text was given to a network without; train one with conditioning=text")
            return None
        if tokens is None:
            if mask is not None:
                raise ValueError("a mask was given without tokens; give both, or none")
            return self.text.empty(len(like), like.device)
        features: TextFeatures = self.text(tokens, mask)
        return features

    def with_image(self, x: Tensor, image: Tensor | None) -> Tensor:
        """Append the channels of a condition image to (B, C, *sides), zeros for None.

        Raises:
            ValueError: an image was given to a network without.
        """
        if not self.image_channels:
            if image is not None:
                raise ValueError("an image was given to a network without; train one with conditioning=image")
            return x
        if image is None:
            image = x.new_zeros(len(x), self.image_channels, *x.shape[2:])
        return torch.cat([x, image.to(x.dtype)], dim=1)


class EmbeddedNetwork(ConditionalNetwork):
    """Base of networks whose blocks see one embedding: of noise label, class, vector and text.

    A subclass makes ``embedding``, the features of a noise label, and ``embed``, its layers, and defines
    :meth:`apply_blocks`.
    """

    embed: nn.Module

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        image: Tensor | None = None,
        until: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: events with shape (B, C, *sides), for a network of vectors (B, d).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, *sides).
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            (B, outputs * C, *sides), or (B, d).
        """
        embedding, text = self.embed_inputs(
            x, c_noise, label=label, vector=vector, tokens=tokens, mask=mask, until=until
        )
        return self.apply_blocks(x, image, embedding, text)

    def embed_inputs(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        until: Tensor | None = None,
    ) -> tuple[Tensor, TextFeatures | None]:
        """Return embedding and text as :meth:`apply_blocks` takes them, for the arguments of a call."""
        text = self.encode_text(tokens, mask, x)
        embedding = self.embed_conditions(
            self.with_until(self.embed(self.embedding(c_noise)), c_noise, until),
            label=label,
            vector=vector,
            text=text,
        )
        return self.activate(embedding), text

    def activate(self, embedding: Tensor) -> Tensor:
        """Apply the function between the embedding (B, features) and the blocks: SiLU."""
        return F.silu(embedding)

    def apply_blocks(
        self, x: Tensor, image: Tensor | None, embedding: Tensor, text: TextFeatures | None
    ) -> Tensor:
        """Apply all but the embeddings.

        Arguments:
            x: events with shape (B, C, *sides).
            image: condition images with shape (B, inputs.image, *sides); None stands for zeros, or there are none.
            embedding: embedding of noise label and conditions with shape (B, features), after :meth:`activate`.
            text: features of the texts; None for a network without texts.

        Returns:
            (B, outputs * C, *sides).
        """
        raise NotImplementedError


def with_class(embedding: Tensor, classes: nn.Embedding | None, label: Tensor | None) -> Tensor:
    """Add the class embedding to an embedding (B, E); None selects the null class, the last row.

    Raises:
        ValueError: a label was given to a network without classes.
    """
    if classes is None:
        reject_label(label)
        return embedding
    rows = label
    if rows is None:
        rows = torch.full((len(embedding),), classes.num_embeddings - 1, device=embedding.device)
    out: Tensor = embedding + classes(rows)
    return out


def check_image_shape(network: str, shape: Sequence[int]) -> None:
    """Check the shape of the events of a network of images.

    Raises:
        ValueError: it is not (C, H, W); the message names networks that take the shape.
    """
    if len(shape) != 3:
        others = "mlp" if len(shape) < 2 else "unet_cross or another of one to three axes, such as ncsnpp"
        raise ValueError(f"shape={tuple(shape)}: {network} takes images (C, H, W) alone; use model={others}")


def check_vector_shape(network: str, shape: Sequence[int], conditions: Conditions) -> None:
    """Check the shape of the events of a network of vectors, and that it has no condition image.

    Raises:
        ValueError: the shape is not (d,), or the conditions have an image.
    """
    if len(shape) != 1:
        raise ValueError(f"shape={tuple(shape)}: {network} takes vectors (d,); for images use model=ncsnpp")
    if conditions.image:
        raise ValueError("a vector has no image beside it as condition; use conditioning=vector")


def reject_label(label: Tensor | None) -> None:
    """Raise ValueError where a network without classes was given one."""
    if label is not None:
        raise ValueError("a label was given to a network without classes; train one with conditioning=label")
