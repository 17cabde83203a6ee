"""Parts of HDiT: the reach of attention, rotary embeddings, and the inputs of the conditioning."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sde_gen.model import HDiT
from sde_gen.model.transformer.attention import (
    AttentionPattern,
    GlobalAttention,
    NeighborhoodAttention,
    ShiftedWindowAttention,
)
from sde_gen.model.transformer.hdit import Level
from sde_gen.model.transformer.rotary import LearnedRotation, SpreadRotation, TokenGrid
from tests.reference.k_diffusion import seen_by


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REACHES: list[tuple[AttentionPattern, dict[str, Any], int]] = [
    (GlobalAttention(head=4), {"type": "global"}, 0),
    *(
        (NeighborhoodAttention(head=4, size=size), {"type": "neighborhood", "kernel_size": size}, 0)
        for size in (1, 3, 5)
    ),
    *(
        (ShiftedWindowAttention(head=4, size=size), {"type": "shifted-window", "window_size": size}, index)
        for size in (1, 2, 3, 6)
        for index in (0, 1)
    ),
]


@pytest.mark.parametrize(("reach", "kind", "index"), REACHES, ids=lambda value: str(value))
@pytest.mark.parametrize("sides", [(6, 6), (12, 6), (6, 18)], ids=str)
def test_attention_is_dense_attention_of_what_is_seen(
    reach: AttentionPattern, kind: dict[str, Any], index: int, sides: tuple[int, int]
) -> None:
    """Outputs and gradients: with an explicit mask of all pairs, set pair by pair."""
    parts = [draw(2, 3, *sides, 4, seed=seed).requires_grad_() for seed in range(3)]
    found = reach.mixer(TokenGrid(*sides, 1.0), index)(*parts)
    query, key, value = (part.flatten(2, 3) for part in parts)
    weight = (query @ key.mT).exp() * seen_by(kind, index, *sides)
    expected = (weight / weight.sum(3, keepdim=True) @ value).view(found.shape)
    torch.testing.assert_close(found, expected)
    cotangent = draw(*found.shape, seed=4)
    slopes = [torch.autograd.grad(out, parts, cotangent) for out in (found, expected)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("sides", [(5, 5), (7, 5), (9, 13), (23, 8)], ids=str)
def test_every_token_has_as_many_neighbors(sides: tuple[int, int]) -> None:
    """Grids that tiles do not divide: with equal weights the mean of 25 tokens, the nearest ones that fit inside."""
    mixer = NeighborhoodAttention(head=4, size=5).mixer(TokenGrid(*sides, 1.0), 0)
    nothing = torch.zeros(1, 1, *sides, 1).double()
    places = torch.eye(math.prod(sides)).double().view(1, 1, *sides, -1)
    share = mixer(nothing, nothing, places).view(math.prod(sides), -1)
    seen = seen_by({"type": "neighborhood", "kernel_size": 5}, 0, *sides)
    torch.testing.assert_close(share, seen.double() / 25)


@pytest.mark.parametrize("rotation", [SpreadRotation(), LearnedRotation()], ids=str)
def test_rotated_products_know_differences_of_places_alone(rotation: Any) -> None:
    """A query and a key, the same at all places: moved together, they have the same product; lengths stay."""
    rotary = rotation(3, 16, TokenGrid(5, 4, 0.5)).double()
    query, key = (draw(1, 3, 1, 1, 16, seed=seed).expand(-1, -1, 5, 4, -1) for seed in range(2))
    products = torch.einsum("bhrci,bhsdi->hrcsd", rotary(query), rotary(key))
    torch.testing.assert_close(products[:, :-1, :-1, :-1, :-1], products[:, 1:, 1:, 1:, 1:])
    torch.testing.assert_close(rotary(query).norm(dim=-1), query.norm(dim=-1))
    for axis in (1, 2):  # and neither axis is left out
        assert (products.select(axis, 0) - products.select(axis, 1)).abs().min() > 1e-6


def test_frequencies_are_a_geometric_progression() -> None:
    """From pi up to, and without, 10 pi, one for every head and pair; learned ones to 5 pi, the same for all heads."""
    rows, columns = SpreadRotation()(3, 16, TokenGrid(5, 4, 1.0)).both().double()
    assert torch.equal(rows, columns)
    assert rows.shape == (3, 2)
    line = rows.T.flatten()
    torch.testing.assert_close(line, math.pi * 10 ** (torch.arange(6).double() / 6), rtol=1e-6, atol=0)
    learned = LearnedRotation()(3, 16, TokenGrid(5, 4, 1.0)).both().double()
    expected = math.pi * 5 ** (torch.arange(4).double() / 3)
    torch.testing.assert_close(learned, expected.expand(2, 3, 4), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("grid", "rows", "columns"),
    [
        (TokenGrid(2, 4, 1.0), [-0.25, 0.25], [-0.75, -0.25, 0.25, 0.75]),
        (TokenGrid(2, 2, 0.5), [-0.25, 0.25], [-0.5, 0.5]),
        (TokenGrid(2, 2, 2.0), [-0.5, 0.5], [-0.25, 0.25]),
    ],
)
def test_places_fill_the_image(grid: TokenGrid, rows: list[float], columns: list[float]) -> None:
    found = grid.places(torch.zeros((), dtype=torch.float64))
    assert [place.tolist() for place in found] == [rows, columns]


def made(**settings: Any) -> HDiT:
    torch.manual_seed(0)
    level = Level(width=16, depth=1, hidden=16, reach=GlobalAttention(head=8))
    settings = {"shape": (1, 4, 4), "features": 16, "mapping_hidden": 16, "levels": [level], **settings}
    net = HDiT(**settings)
    for parameter in net.parameters():
        parameter.data.normal_(std=0.3)
    return net.double().eval()


def test_a_network_of_augmentations_and_conditions() -> None:
    """Zeros say what silence does; a network without refuses both."""
    x, c_noise = draw(2, 1, 4, 4), torch.ones(2).double()
    net = made(augmentations=2, conditions=3)
    silent = net(x, c_noise)
    assert torch.equal(net(x, c_noise, augment=torch.zeros(2, 2), condition=torch.zeros(2, 3)), silent)
    for cond in ({"augment": torch.ones(2, 2)}, {"condition": torch.ones(2, 3)}):
        assert (net(x, c_noise, **cond) - silent).abs().min() > 1e-6
        with pytest.raises(ValueError, match=r"without (augment|condition) input"):
            made()(x, c_noise, **cond)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GlobalAttention(head=0), "head=0"),
        (lambda: NeighborhoodAttention(size=4), "odd number"),
        (lambda: ShiftedWindowAttention(size=0), "at least one token"),
        (lambda: ShiftedWindowAttention(size=3).mixer(TokenGrid(4, 6, 1.0), 0), "do not fall into windows"),
        (lambda: Level(width=0), "positive numbers"),
        (lambda: Level(dropout=1.0), "a rate in"),
        (lambda: Level(width=96), "heads of 64 features"),
        (lambda: made(levels=[Level(width=12, reach=GlobalAttention(head=12))]), "multiple of 8"),
        (lambda: made(levels=[]), "a level at least"),
        (lambda: made(eps=0.0), "positive numbers"),
    ],
)
def test_impossible_settings(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_layers_without_attention_see_their_own_token() -> None:
    """The influence of a token of 2x2 pixels on all others is nothing."""
    net = made(levels=[Level(width=16, depth=2, hidden=16, reach=None)])
    x = draw(1, 1, 4, 4)
    moved = x.clone()
    moved[..., :2, :2] += 1
    change = (net(moved, torch.ones(1).double()) - net(x, torch.ones(1).double())).abs()[0, 0]
    assert change[:2, :2].min() > 0
    assert not change[2:].any()
    assert not change[:, 2:].any()
