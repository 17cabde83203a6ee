"""Tokenizers: CLIP's byte-pair encoding as transformers reads it, and words learned from captions."""

import json
from pathlib import Path

import pytest

from sde_gen.data.conditioning import Pretrained, Words

FOLDER = Path(__file__).parents[2] / "data" / "tokenizer_clip"


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_clip_s_tokens_are_those_of_transformers(name: str) -> None:
    pytest.importorskip("tokenizers")
    expected = json.loads((FOLDER / "expected.json").read_text())
    tokenizer = Pretrained(path=str(FOLDER / name)).fit([])
    assert tokenizer.vocabulary == 1 + len(json.loads((FOLDER / "vocab.json").read_text()))
    for text, ids, mask in zip(
        expected["texts"], expected["input_ids"], expected["attention_mask"], strict=True
    ):
        found = [token - 1 for token in tokenizer(text)]
        kept = ids[: sum(mask)]
        if len(found) > len(ids):  # transformers truncates, and puts the mark of the end back
            found, kept = found[: len(ids) - 1], kept[:-1]
        assert found == kept, text


def test_files_that_are_no_tokenizer_or_another_one(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match="there is no file"):
        Pretrained(path=str(tmp_path / "none.json")).fit([])
    with pytest.raises(ValueError, match=r"there is no file .*vocab\.json"):
        Pretrained(path=str(tmp_path)).fit([])
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer that can be read"):
        Pretrained(path=str(tmp_path / "bad.json")).fit([])("a")
    known = Pretrained(path=str(FOLDER / "tokenizer.json")).fit([])
    (tmp_path / "other.json").write_text((FOLDER / "tokenizer.json").read_text() + " ")
    with pytest.raises(ValueError, match="is not the tokenizer of the training"):
        Pretrained(path=str(tmp_path / "other.json")).restore(known.stored())("a")


def test_words() -> None:
    words = Words().fit(["Flag: C\u00f4te d\u2019Ivoire", "a flag"])
    assert words.words == ["flag", ":", "a", "c\u00f4te", "d\u2019ivoire"]
    assert words("A FLAG:") == [4, 2, 3]
    assert words("a cow") == [4, 1]
    with pytest.raises(ValueError, match=r"'a cow' has words that are in no training caption: cow"):
        words("a cow", strict=True)
    assert Words().restore(words.stored()) == words
    for bad, answer in (
        ({"min_count": 0}, "min_count=0"),
        ({"words": ["a", "a"]}, "the word a is listed twice"),
    ):
        with pytest.raises(ValueError, match=answer):
            Words(**bad)
    with pytest.raises(ValueError, match="call fit"):
        Words()("a")
    with pytest.raises(ValueError, match="none of the words of the 1 training captions occurs 2 times"):
        Words(min_count=2).fit(["a"])
