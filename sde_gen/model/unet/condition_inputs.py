"""Embeddings of class, noise level, vectors and texts that were computed outside of the network."""

import abc
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.model.activation import Activation, ActivationLayer
from sde_gen.model.embedding import NoiseEmbedding
from sde_gen.model.transformer.blocks import attend


@dataclass(frozen=True, kw_only=True)
class VectorInput(abc.ABC):
    """Abstract embedding of a vector.

    Arguments:
        size: length of the vector.

    Raises:
        ValueError: the size is not positive.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: expected a positive number")

    @abc.abstractmethod
    def layer(self, features: int) -> nn.Module:
        """Build the map from (B, size) to (B, features).

        Raises:
            ValueError: there is none to this number of features.
        """


@dataclass(frozen=True, kw_only=True)
class PlainVector(VectorInput):
    """The vector itself, which has the length of the embedding."""

    def layer(self, features: int) -> nn.Module:
        """Return the identity."""
        if self.size != features:
            raise ValueError(f"a vector of {self.size} numbers is no embedding of {features} features")
        return nn.Identity()


@dataclass(frozen=True, kw_only=True)
class LinearVector(VectorInput):
    """A linear map of the vector."""

    def layer(self, features: int) -> nn.Module:
        """Build the dense layer."""
        return nn.Linear(self.size, features)


@dataclass(frozen=True, kw_only=True)
class DenseVector(VectorInput):
    """Two dense layers with SiLU in between."""

    def layer(self, features: int) -> nn.Module:
        """Build the two dense layers."""
        return two_layers(self.size, features, F.silu)


@dataclass(frozen=True, kw_only=True)
class VectorAndNumbers:
    """A vector and sinusoids of further numbers, such as the size of an image and of its crop, by two dense layers.

    The network is given the vector with the numbers appended; their count follows from its length.

    Source: Podell et al., 2023, arXiv:2307.01952 (SDXL), section 2.2.

    Arguments:
        inputs: inputs of the first layer: the length of the vector, and the sinusoids of all numbers.
        sinusoids: features of a number.

    Raises:
        ValueError: there are not more inputs than features of a number.
    """

    inputs: int
    sinusoids: NoiseEmbedding

    def __post_init__(self) -> None:
        if self.inputs <= self.sinusoids.features:
            raise ValueError(
                f"inputs={self.inputs}: expected more than the {self.sinusoids.features} features of a number"
            )

    def layer(self, features: int) -> nn.Module:
        """Build the map from (B, V) to (B, features)."""
        return NumberedVector(self.inputs, self.sinusoids, features)


@dataclass(frozen=True, kw_only=True)
class ConditionInputs:
    """Inputs of a network besides sample, noise label and tokens.

    Arguments:
        classes: number of classes of the label; 0 for none. A further null class stands for "no label given".
        level: features of the label if it is a number, such as a noise level; None if it is a class.
        class_vector: embedding of the first numbers of the vector; None for none.
        added_vector: embedding of the others; None for none.
        pooling_heads: heads of the attention that pools the tokens; 0 for no pooling.
        pooling_context: features of a pooled token.
        concatenated: whether the embedding of label or ``class_vector`` is put beside that of the noise label, in the
            place of their sum.

    Raises:
        ValueError: two inputs exclude each other.
    """

    classes: int = 0
    level: NoiseEmbedding | None = None
    class_vector: VectorInput | None = None
    added_vector: VectorAndNumbers | None = None
    pooling_heads: int = 0
    pooling_context: int = 0
    concatenated: bool = False

    def __post_init__(self) -> None:
        labels = (self.classes > 0) + (self.level is not None) + (self.class_vector is not None)
        if min(self.classes, self.pooling_heads) < 0 or labels > 1:
            raise ValueError(
                f"classes={self.classes}, level={self.level}, class_vector={self.class_vector}: expected at most one"
            )
        if self.concatenated and (labels == 0 or self.added_vector is not None or self.pooling_heads):
            raise ValueError(
                "concatenated=true: expected a label or a class_vector, and nothing that is added"
            )


class InputEmbedding(nn.Module):
    """Sum of the embeddings of noise label and conditions.

    Arguments:
        inputs: the conditions.
        features: features of the embedding.
        activation: activation of the layers of a noise level.
    """

    def __init__(self, inputs: ConditionInputs, features: int, activation: Activation) -> None:
        super().__init__()
        self.level, self.concatenated = inputs.level, inputs.concatenated
        self.features = 2 * features if inputs.concatenated else features
        self.first = 0 if inputs.class_vector is None else inputs.class_vector.size
        self.classes = nn.Embedding(inputs.classes + 1, features) if inputs.classes else None
        self.dense = None if self.level is None else two_layers(self.level.features, features, activation)
        self.class_vector = None if inputs.class_vector is None else inputs.class_vector.layer(features)
        self.added_vector = None if inputs.added_vector is None else inputs.added_vector.layer(features)
        self.pooled = (
            TokenPooling(inputs.pooling_context, inputs.pooling_heads, features)
            if inputs.pooling_heads
            else None
        )

    def forward(
        self, embedding: Tensor, label: Tensor | None, vector: Tensor | None, tokens: Tensor | None
    ) -> Tensor:
        """Embed the conditions.

        Arguments:
            embedding: embedding of the noise label with shape (B, features).
            label: classes or numbers with shape (B,); None for the null class.
            vector: vectors with shape (B, V).
            tokens: tokens with shape (B, L, W).

        Raises:
            ValueError: a condition is missing, is not known to the network, or has another shape.
        """
        first, rest = self._parts(vector)
        class_features = self._of_class(embedding, label, first)
        if class_features is not None:
            embedding = (
                torch.cat([embedding, class_features], 1) if self.concatenated else embedding + class_features
            )
        if self.added_vector is not None:
            embedding = embedding + self.added_vector(rest)
        if self.pooled is not None and tokens is not None:
            embedding = embedding + self.pooled(tokens)
        return embedding

    def _parts(self, vector: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Split the vector into its parts."""
        known = self.class_vector is not None or self.added_vector is not None
        if vector is None:
            if known:
                raise ValueError("the network needs a vector, which was not given")
            return None, None
        if not known:
            raise ValueError("a vector was given to a network without")
        first, rest = vector[:, : self.first], vector[:, self.first :]
        if first.shape[1] < self.first or (rest.shape[1] > 0) != (self.added_vector is not None):
            raise ValueError(
                f"the vector has shape {tuple(vector.shape)}; expected (B, {self.first})"
                + ("" if self.added_vector is None else " with more numbers after those")
            )
        return first, rest

    def _of_class(self, embedding: Tensor, label: Tensor | None, first: Tensor | None) -> Tensor | None:
        """Return the embedding of the label, or of the first part of the vector."""
        out: Tensor | None = None
        if self.classes is not None:
            null = torch.full((len(embedding),), self.classes.num_embeddings - 1, device=embedding.device)
            out = self.classes(null if label is None else label)
        elif self.level is not None and self.dense is not None:
            if label is None:
                raise ValueError("the network needs a label, the noise level: give label=...")
            out = self.dense(self.level(label.to(embedding.dtype)))
        elif label is not None:
            raise ValueError("a label was given to a network without classes")
        if self.class_vector is not None:
            out = self.class_vector(first)
        return out


class NumberedVector(nn.Module):
    """Dense layers of a vector and of the sinusoids of numbers behind it.

    Arguments:
        inputs: inputs of the first layer.
        sinusoids: features of a number.
        features: features of the result.
    """

    def __init__(self, inputs: int, sinusoids: NoiseEmbedding, features: int) -> None:
        super().__init__()
        self.inputs, self.sinusoids = inputs, sinusoids
        self.dense = two_layers(inputs, features, F.silu)

    def forward(self, vector: Tensor) -> Tensor:
        """Embed (B, V) to (B, features).

        Raises:
            ValueError: no count of numbers fits the length V.
        """
        count, rest = divmod(self.inputs - vector.shape[1], self.sinusoids.features - 1)
        if rest or not 0 <= count < vector.shape[1]:
            raise ValueError(
                f"the vector has {vector.shape[1]} numbers; expected {self.inputs} - {self.sinusoids.features - 1} n "
                "with n numbers at its end, as 6 of SDXL"
            )
        plain, numbers = torch.split(vector, [vector.shape[1] - count, count], dim=1)
        waves = self.sinusoids(numbers.flatten()).view(len(vector), count * self.sinusoids.features)
        out: Tensor = self.dense(torch.cat([plain, waves], dim=1))
        return out


class TokenPooling(nn.Module):
    """The mean of the tokens, with a learned vector added, attends to itself and to all of them.

    Source: Saharia et al., 2022, arXiv:2205.11487 (Imagen), section 2.3; in this form the code of DeepFloyd IF.

    Arguments:
        context: features of a token.
        heads: number of heads, which divides them.
        features: features of the result.

    Raises:
        ValueError: the heads do not divide the features of a token.
    """

    def __init__(self, context: int, heads: int, features: int) -> None:
        super().__init__()
        if context < 1 or context % heads:
            raise ValueError(f"tokens of {context} features cannot be shared evenly by {heads} heads")
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(context), nn.LayerNorm(features)
        self.place = nn.Parameter(torch.randn(1, context) / context**0.5)
        self.query, self.key, self.value = (nn.Linear(context, context) for _ in range(3))
        self.out = nn.Linear(context, features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, L, context) to (B, features)."""
        tokens = self.norm_in(tokens)
        mean = tokens.mean(1, keepdim=True) + self.place
        tokens = torch.cat([mean, tokens], dim=1)
        parts = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(mean), self.key(tokens), self.value(tokens))
        )
        out: Tensor = self.norm_out(self.out(attend(*parts)[:, 0]))
        return out


def two_layers(inputs: int, features: int, activation: Activation) -> nn.Sequential:
    """Build two dense layers with an activation in between."""
    return nn.Sequential(
        nn.Linear(inputs, features), ActivationLayer(activation), nn.Linear(features, features)
    )
