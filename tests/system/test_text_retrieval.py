"""The towers rank the captions of pictures that they have seen: right on true pairs, by chance on shuffled ones."""

import colorsys

import pytest
import torch

from benchmarks.text_retrieval import score, train
from sde_gen.data import Dataset, encode_texts
from sde_gen.data.conditioning import Text


@pytest.mark.long
def test_towers_find_the_captions_of_plain_pictures() -> None:
    tones = torch.tensor([colorsys.hsv_to_rgb(number / 8, 1, 1) for number in range(8)])
    pictures = (255 * tones).to(torch.uint8)[:, :, None, None].expand(-1, -1, 32, 32).contiguous()
    captions = [f"word{number}" for number in range(8)]
    data = Dataset(values=pictures, levels=256, conditions={"text": encode_texts(captions)})
    text = Text().fit(data)
    tokens = text.given(data.conditions)["tokens"]
    towers = train(data, text, 20)
    assert score(towers, pictures, tokens, tokens)["top1"] == 1
    assert score(towers, pictures, tokens.roll(1, 0), tokens)["top1"] == 0
