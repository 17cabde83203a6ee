"""Texts embedded outside the network: caches, several captions, nulls, joined encoders, and folders that do not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sde_gen.data import Dataset, encode_texts
from sde_gen.data.conditioning import Behind, Beside, EncodedText, Label, Several, Text
from sde_gen.data.text import SEPARATOR
from sde_gen.interop.transformers import CLIP, T5, load_clip
from sde_gen.noise import IID, PerSample
from tests.helpers.embedder import Letters

FILES = Path(__file__).parents[2] / "data"
ENCODERS, TOKENIZER = FILES / "text_encoders", FILES / "tokenizer_clip"
CAPTIONS = ("ab", "c", "ab")


def data(captions: tuple[str, ...] = CAPTIONS) -> Dataset:
    return Dataset(
        values=torch.zeros(len(captions), 2), levels=None, conditions={"text": encode_texts(captions)}
    )


def calls(conditioning: EncodedText) -> list[str]:
    """Texts that were embedded."""
    found: list[str] = vars(conditioning.encoder)["calls"]
    return found


def test_a_caption_is_embedded_once() -> None:
    known = EncodedText(encoder=Letters()).fit(data())
    prepared = known.prepare(data())
    assert calls(known) == ["ab", "c"]
    given = known.given(prepared.given([2, 1]))
    assert calls(known) == ["ab", "c"]
    assert given["tokens"].tolist() == [[[97, 1], [98, 2]], [[99, 1], [0, 0]]]
    assert given["mask"].tolist() == [[True, True], [True, False]]
    assert given["vector"].tolist() == [[195, 1], [99, 1]]
    assert known.sizes == {"features": 2, "length": 2, "vector": 2}


def test_embedded_captions_are_read_from_the_cache(tmp_path) -> None:
    first, again = (EncodedText(encoder=Letters(), cache=str(tmp_path)).fit(data()) for _ in range(2))
    first.prepare(data())
    again.prepare(data())
    assert calls(again) == []
    found, expected = (one.given(data().conditions) for one in (again, first))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert calls(again) == []
    other = EncodedText(encoder=Letters(factor=2.0), cache=str(tmp_path)).fit(data())
    other.prepare(data())
    assert calls(other) == ["ab", "c"]
    assert float(other.given(data().conditions)["tokens"][0, 0, 0]) == 2 * 97
    for folder in tmp_path.glob("captions-*"):
        (folder / "tokens.bin").write_bytes(b"short")
    broken = EncodedText(encoder=Letters(), cache=str(tmp_path)).fit(data())
    with pytest.raises(
        ValueError, match=r"captions-\w+ is damaged \(tokens.bin has 5 bytes, not 32\); delete it"
    ):
        broken.prepare(data())


def test_too_many_captions_for_the_memory_are_refused(monkeypatch) -> None:
    from sde_gen.data.conditioning import embedded_captions

    monkeypatch.setattr(embedded_captions, "MOST_IN_MEMORY", 31)
    with pytest.raises(
        ValueError, match=r"2 captions take .*: give a folder for them, conditioning.cache=FOLDER"
    ):
        EncodedText(encoder=Letters()).fit(data()).prepare(data())


@pytest.mark.parametrize(
    "build", [lambda: EncodedText(encoder=Letters(), dropout=0.0), lambda: Text(dropout=0.0)]
)
def test_one_of_several_captions_is_drawn_anew(build) -> None:
    """Shares of a half and of a third among 3,000 draws, five standard errors; the first one otherwise."""
    several = data((SEPARATOR.join(("a", "b")), "c", SEPARATOR.join(("d", "e", "f"))))
    known = build().fit(several)
    key = known.keys[0]
    first = known.given(several.conditions)[key]
    assert torch.equal(first, known.prompt({"text": ["a", "c", "d"]}, 3)[key])
    prepared = known.prepare(several).given([0] * 3000 + [1] * 9 + [2] * 3000)
    drawn = known(prepared, IID.seeded(0))[key]
    assert torch.equal(drawn[3000:3009], first[1:2].expand_as(drawn[3000:3009]))
    assert torch.equal(known.given(prepared)[key][-1], first[2])
    for rows, texts in ((drawn[:3000], "ab"), (drawn[3009:], "def")):
        share = 1 / len(texts)
        for text in texts:
            same = (rows == known.prompt({"text": text}, 1)[key]).reshape(3000, -1).all(1)
            assert abs(float(same.double().mean()) - share) < 5 * (share * (1 - share) / 3000) ** 0.5


def test_a_sample_s_caption_and_dropout_are_its_own() -> None:
    known = EncodedText(encoder=Letters(), dropout=0.5).fit(data())
    several = data((SEPARATOR.join(("ab", "c")), "c", "ab"))
    together = known(several.conditions, PerSample(range(3)))
    for row in range(3):
        alone = known(several.given([row]), PerSample([row]))
        assert all(torch.equal(alone[key], together[key][row : row + 1]) for key in alone)


def test_a_missing_text_is_learned_or_the_empty_one() -> None:
    learned = EncodedText(encoder=Letters(length=2))
    empty = replace(learned, learned_null=False, pooled=False)
    assert learned.default(2) == learned.omitted(2) == {}
    assert all(not value.any() for value in learned.null(2).values())
    for found in (empty.default(2), empty.omitted(2), empty.null(2), empty.prompt({}, 2)):
        assert found["tokens"].shape == (2, 2, 2)
        assert torch.equal(found["tokens"], empty.prompt({"text": ""}, 2)["tokens"])
    several = Several(parts={"label": Label(classes=3), "text": empty})
    found = several.prompt({"label": 1}, 2)
    assert found["label"].tolist() == [1, 1]
    assert torch.equal(found["tokens"], empty.null(2)["tokens"])
    assert several.together("mask") == ("tokens", "mask")
    assert several.together("label") == ("label",)
    with pytest.raises(ValueError, match="never trained without text"):
        replace(learned, dropout=0.0).prompt({}, 1)
    with pytest.raises(ValueError, match="text=3: expected a text"):
        learned.prompt({"text": 3}, 1)
    with pytest.raises(ValueError, match=r"use conditioning\.pooled=false"):
        _ = EncodedText(encoder=Letters(length=2, pooled=False)).sizes


def test_joined_encoders() -> None:
    """Features beside each other as in Stable Diffusion XL, tokens behind each other as in Stable Diffusion 3."""
    one, two = Letters(), Letters(pooled=False, factor=2.0)
    beside = Beside(parts={"one": one, "two": two}).fit(CAPTIONS)
    assert beside.sizes == (2, 4, 2)
    assert beside(["ab"]).tokens.tolist() == [[[97, 1, 194, 1], [98, 2, 196, 2]]]
    assert beside(["c"]).pooled.tolist() == [[99, 1]]
    both = Behind(parts={"wide": beside, "two": two}).fit(CAPTIONS)
    assert both.sizes == (4, 4, 2)
    found = both(["c"])
    assert found.tokens.tolist() == [[[99, 1, 198, 1], [0] * 4, [198, 1, 0, 0], [0] * 4]]
    assert found.mask.tolist() == [[True, False, True, False]]
    opened = Behind(parts={"wide": Beside(parts={"one": one, "two": two}), "two": two})
    assert opened.restore(json.loads(json.dumps(both.stored()))) == both
    assert both.fingerprint != Behind(parts={"two": two, "wide": beside}).fit(CAPTIONS).fingerprint
    with pytest.raises(ValueError, match="different numbers of tokens, 2 of one, 3 of two"):
        _ = Beside(parts={"one": Letters(length=2), "two": Letters(length=3)}).sizes
    with pytest.raises(ValueError, match="at least one encoder"):
        Beside(parts={})


EXPECTED = json.loads((TOKENIZER / "expected.json").read_text())
SD15 = {"path": str(ENCODERS / "clip_text_sd15"), "tokenizer": str(TOKENIZER), "length": 16}


def test_clip_from_its_folder_is_given_what_a_pipeline_gives_it() -> None:
    """Tokens of transformers, cut and filled up with the mark of the end, all of them attended to."""
    pytest.importorskip("tokenizers")
    clip = CLIP(**SD15, truncate=True, masked=False).fit(EXPECTED["texts"])
    rows = [clip.row(text, "")[0] for text in EXPECTED["texts"]]
    assert rows == EXPECTED["input_ids"]
    found, network = clip(EXPECTED["texts"]), load_clip(ENCODERS / "clip_text_sd15")
    expected = network(torch.tensor(EXPECTED["input_ids"]))
    assert torch.equal(found.tokens, expected.last)
    assert torch.equal(found.pooled, expected.pooled)
    assert bool(found.mask.all())
    masked = replace(clip, masked=True, skip=1, normalize=False)(EXPECTED["texts"])
    mask = torch.tensor(EXPECTED["attention_mask"])
    assert torch.equal(masked.mask, mask.bool())
    assert torch.equal(masked.tokens, network(torch.tensor(EXPECTED["input_ids"]), mask).hidden[-2])


def test_padding_is_that_of_the_tokenizer_s_settings(tmp_path) -> None:
    pytest.importorskip("tokenizers")
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    settings = tmp_path / "tokenizer" / "tokenizer_config.json"
    settings.write_text(json.dumps({"pad_token": {"content": "!"}}))
    place = {**SD15, "tokenizer": str(settings.parent)}
    assert CLIP(**place).fit([""]).row("", "")[0] == [632, 633, *[0] * 14]
    settings.unlink()
    with pytest.raises(ValueError, match=r"names a pad_token .*conditioning.encoder.padding"):
        CLIP(**place).fit([""])
    assert CLIP(**place, padding=7).fit([""]).row("", "")[0] == [632, 633, *[7] * 14]


def test_what_does_not_fit_is_refused_in_a_line(tmp_path) -> None:
    pytest.importorskip("tokenizers")
    for build, texts, answer in (
        (lambda: CLIP(**SD15), ["a", "x " * 40], r"the caption of sample 1, 'x x .* has 42 tokens; .* has 16: shorten"),
        (lambda: CLIP(**{**SD15, "length": 17}), ["a"], "length=17: the encoder in .* takes 16 tokens at most"),
        (lambda: CLIP(**SD15, skip=4), ["a"], "skip=4: .* has 3 layers"),
        (lambda: T5(**{**SD15, "path": str(ENCODERS / "t5_v11")}), ["a"],
         "tokenizer in .*tokenizer_clip has 634 tokens, the encoder in .*t5_v11 knows 100"),
        (lambda: CLIP(path=str(ENCODERS / "clip_text_sd15")), ["a"], "no tokenizer in or beside .*clip_text_sd15"),
        (lambda: CLIP(path=str(tmp_path / "none")), ["a"], "there is no folder"),
        (lambda: CLIP(**{**SD15, "length": 0}), ["a"], "length=0"),
        (lambda: CLIP(**SD15, skip=-1), ["a"], "skip=-1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=answer) as caught:
            build().fit(texts)(texts)
        assert "\n" not in str(caught.value)
    known = CLIP(**SD15).fit(["a"])
    with pytest.raises(ValueError, match=r"text=x x .* has 42 tokens"):
        known(["x " * 40])


def test_a_moved_or_changed_folder_is_refused_by_name(tmp_path) -> None:
    pytest.importorskip("tokenizers")
    shutil.copytree(ENCODERS / "clip_text_projection", tmp_path / "text_encoder_2")
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer_2")
    known = EncodedText(encoder=CLIP(path=str(tmp_path / "text_encoder_2"))).fit(data())
    stored = json.loads(json.dumps(known.stored()))
    assert (tmp_path / "tokenizer_2") == Path(stored["encoder"]["tokenizer"])
    assert known.sizes == {"features": 20, "length": 4, "vector": 20}

    def opened() -> dict[str, int]:
        return EncodedText(encoder=CLIP(path="text_encoder_2")).restore(stored).sizes

    assert opened() == known.sizes
    config = tmp_path / "text_encoder_2" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(
        ValueError, match=r"text_encoder_2 is not the encoder of texts of the training: its SHA-256"
    ):
        opened()
    config.write_text(config.read_text()[:-1])
    assert opened() == known.sizes
    merges = tmp_path / "tokenizer_2" / "merges.txt"
    merges.write_text(merges.read_text() + "\n")
    with pytest.raises(ValueError, match=r"tokenizer_2 is not the tokenizer of the training"):
        opened()
    (tmp_path / "text_encoder_2").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"is no longer in .*text_encoder_2; put its folder back there"):
        opened()
