"""Hourglass diffusion transformer (HDiT)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from sde_gen.model.conditional import NO_CONDITIONS, ConditionalNetwork, Conditions, check_image_shape
from sde_gen.model.embedding import Fourier, VectorFourier
from sde_gen.model.transformer.attention import AttentionPattern, GlobalAttention, NeighborhoodAttention
from sde_gen.model.transformer.layers import CosineAttention, Layer, MappingNetwork, RMSNorm, dense
from sde_gen.model.transformer.rotary import Rotation, SpreadRotation, TokenGrid
from sde_gen.model.transformer.tokens import TokenMerge, TokenSplit, TokenSplitWithSkip


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level of an hourglass: tokens of one size.

    Arguments:
        width: features of a token.
        depth: layers in the encoder path, and again in the decoder path; of the coarsest level, in all.
        hidden: units of a feed-forward layer.
        reach: which tokens a token attends to, None for layers without attention.
        dropout: dropout rate.

    Raises:
        ValueError: a number is not positive, dropout is no rate, or heads do not divide the features.
    """

    width: int = 128
    depth: int = 2
    hidden: int = 384
    reach: AttentionPattern | None = GlobalAttention()  # noqa: RUF009 (frozen)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"width={self.width}, depth={self.depth}, hidden={self.hidden}, dropout={self.dropout}: "
                "expected positive numbers and a rate in [0, 1)"
            )
        if self.reach is not None and self.width % self.reach.head:
            raise ValueError(
                f"width={self.width} cannot be shared evenly by heads of {self.reach.head} features"
            )

    def layers(
        self, grid: TokenGrid, features: int, rotation: Rotation, eps: float, first: int = 0
    ) -> "Layers":
        """Build the layers, numbered from ``first``."""
        return Layers(
            Layer(
                self._attention(grid, features, rotation, eps, index),
                self.width,
                self.hidden,
                features,
                self.dropout,
            )
            for index in range(first, first + self.depth)
        )

    def _attention(
        self, grid: TokenGrid, features: int, rotation: Rotation, eps: float, index: int
    ) -> nn.Module | None:
        if self.reach is None:
            return None
        heads = self.width // self.reach.head
        return CosineAttention(
            self.width,
            heads,
            features,
            mixer=self.reach.mixer(grid, index),
            rotary=rotation(heads, self.reach.head, grid),
            dropout=self.dropout,
            eps=eps,
        )


class Layers(nn.ModuleList):
    """Layers one after the other."""

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Apply all to x (B, H, W, width) with the features (B, features)."""
        for layer in self:
            x = layer(x, cond)
        return x


class HDiT(ConditionalNetwork):
    """The hourglass diffusion transformer: attention near by where tokens are fine, everywhere where they are coarse.

    Between two levels four tokens become one and one becomes four, joined to those of the encoder path by a learned
    weighted mean. Noise label, class and augmentation scale the normalizations. With one level it is a plain vision
    transformer.

    Source: Crowson et al., 2024, arXiv:2401.11605, section 4. The network of their code for 256x256 (flowers):
    patches of 4x4, levels of width (128, 256, 512) and depth (2, 2, 4), neighborhoods of 7x7 at the first two, heads
    of 64, hidden = 3 width, features 256 and mapping_hidden 768.

    Arguments:
        shape: event shape (C, H, W); the tokens' sides must be divisible by 2^(levels - 1).
        patch: height and width of the rectangles of pixels that are the finest tokens.
        levels: the levels, fine to coarse.
        features: features of the mapping network, even.
        mapping_depth: its layers.
        mapping_hidden: units of its layers.
        mapping_dropout: its dropout rate.
        num_classes: number of classes, 0 for none; a further null class stands for "no label given".
        augmentations: number of augmentation labels, zeros for an unaugmented sample; 0 for none.
        conditions: number of further conditioning inputs, zeros if not given; 0 for none.
        rotation: rotary position embedding.
        eps: added to the squared length of queries and keys.
        aspect: height of a patch, in units of its width, as places see it.
        inputs: sizes of the conditions besides class and ``conditions``.

    Raises:
        ValueError: an impossible shape or setting; the message lists valid ones.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: Sequence[int] = (2, 2),
        levels: Sequence[Level] = (
            Level(width=64, depth=2, hidden=192, reach=NeighborhoodAttention(head=32, size=3)),
            Level(width=128, depth=2, hidden=384, reach=GlobalAttention(head=32)),
        ),
        features: int = 128,
        mapping_depth: int = 2,
        mapping_hidden: int = 384,
        mapping_dropout: float = 0.0,
        num_classes: int = 0,
        augmentations: int = 0,
        conditions: int = 0,
        rotation: Rotation = SpreadRotation(),  # noqa: B008 (frozen)
        eps: float = 1e-6,
        aspect: float = 1.0,
        inputs: Conditions = NO_CONDITIONS,
    ) -> None:
        super().__init__()
        _check(shape, patch, len(levels))
        if min(features, mapping_hidden) < 1 or features % 2 or min(eps, aspect) <= 0:
            raise ValueError(
                f"features={features}, mapping_hidden={mapping_hidden}, eps={eps}, aspect={aspect}: expected positive "
                "numbers, and of features an even one"
            )
        if min(mapping_depth, num_classes, augmentations, conditions) < 0:
            raise ValueError(
                f"mapping_depth={mapping_depth}, num_classes={num_classes}, augmentations={augmentations}, "
                f"conditions={conditions}: must not be negative"
            )
        self.embedding = Fourier(features // 2, scale=1.0)
        self.embed = dense(features, features)
        self.add_conditions(features, num_classes, inputs)
        self.augmentation = (
            nn.Sequential(VectorFourier(augmentations, features // 2), dense(features, features))
            if augmentations
            else None
        )
        self.condition = dense(conditions, features) if conditions else None
        self.mapping = MappingNetwork(features, mapping_depth, mapping_hidden, mapping_dropout)
        self.cond_sizes = {"augment": augmentations, "condition": conditions}
        rows, columns = shape[1] // patch[0], shape[2] // patch[1]
        grids = [TokenGrid(rows >> level, columns >> level, aspect) for level in range(len(levels))]
        rest = (features, rotation, eps)
        self.stem = TokenMerge(shape[0] + inputs.image, levels[0].width, patch)
        self.down = nn.ModuleList(
            level.layers(grid, *rest) for level, grid in zip(levels[:-1], grids, strict=False)
        )
        self.merge = nn.ModuleList(TokenMerge(fine.width, coarse.width) for fine, coarse in pairwise(levels))
        self.middle = levels[-1].layers(grids[-1], *rest)
        self.split = nn.ModuleList(
            TokenSplitWithSkip(coarse.width, fine.width) for fine, coarse in pairwise(levels)
        )
        self.up = nn.ModuleList(
            level.layers(grid, *rest, first=level.depth)
            for level, grid in zip(levels[:-1], grids, strict=False)
        )
        self.norm = RMSNorm(levels[0].width)
        self.out = TokenSplit(levels[0].width, shape[0], patch, zero=True)

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
        augment: Tensor | None = None,
        condition: Tensor | None = None,
        until: Tensor | None = None,
    ) -> Tensor:
        """Apply the network.

        Arguments:
            x: images with shape (B, C, H, W).
            c_noise: noise labels with shape (B,).
            label: classes with shape (B,); None stands for the null class.
            vector: vectors with shape (B, V); None stands for zeros, as in all of the following.
            tokens: texts with shape (B, L), padded with zeros, or embedded ones (B, L, inputs.features).
            mask: which of the embedded tokens are no padding, with shape (B, L); None: all.
            image: condition images with shape (B, inputs.image, H, W).
            augment: descriptions of the augmentation with shape (B, augmentations); None stands for zeros.
            condition: further numbers with shape (B, conditions); None stands for zeros.
            until: noise labels of the times to map to with shape (B,); None: those of c_noise.

        Returns:
            Images with the shape of x.

        Raises:
            ValueError: a network without classes, augmentations or conditions was given such.
        """
        text = self.encode_text(tokens, mask, x)
        cond = self.embed_conditions(
            self.with_until(self.embed(self.embedding(c_noise)), c_noise, until),
            label=label,
            vector=vector,
            text=text,
        )
        for name, part, given in (
            ("augment", self.augmentation, augment),
            ("condition", self.condition, condition),
        ):
            if part is None:
                if given is not None:
                    raise ValueError(f"{name} was given to a network without {name} input")
                continue
            numbers = c_noise.new_zeros(len(x), self.cond_sizes[name]) if given is None else given
            cond = cond + part(numbers.to(c_noise.dtype))
        cond = self.mapping(cond)
        h, skips = self.stem(self.with_image(x, image).movedim(1, 3)), []
        for layers, merge in zip(self.down, self.merge, strict=True):
            h = layers(h, cond)
            skips.append(h)
            h = merge(h)
        h = self.middle(h, cond)
        for split, layers in reversed(list(zip(self.split, self.up, strict=True))):
            h = layers(split(h, skips.pop()), cond)
        out: Tensor = self.out(self.norm(h)).movedim(3, 1)
        return out


def _check(shape: Sequence[int], patch: Sequence[int], levels: int) -> None:
    """Raise ValueError if the sizes define no network."""
    check_image_shape("HDiT", shape)
    if len(patch) != 2 or min(patch) < 1 or levels < 1:
        raise ValueError(
            f"patch={list(patch)}, {levels} levels: expected height and width of a patch, and a level at least"
        )
    factors = [side * 2 ** (levels - 1) for side in patch]
    if any(side % factor or side < factor for side, factor in zip(shape[1:], factors, strict=True)):
        raise ValueError(
            f"images of {shape[1]}x{shape[2]} in patches of {patch[0]}x{patch[1]} do not halve {levels - 1} times: "
            f"sides must be multiples of {factors[0]} and {factors[1]}; or give fewer levels"
        )
