"""Contract of conditioning: what is given is kept, and dropped at the requested rate, in training; prompts agree."""

import pytest
import torch

from sde_gen.data import Dataset, encode_texts
from sde_gen.data.conditioning import (
    ConditionImage,
    Conditioning,
    Label,
    Several,
    Text,
    Unconditional,
    Vector,
    Words,
)
from sde_gen.noise import IID, PerSample
from tests.helpers.catalogue import make, names

COUNT = 1_000
LABELS = torch.arange(COUNT) % 3
CAPTIONS = ("three top left", "seven, bottom right", "one")
LEVELS = (torch.arange(COUNT) % 17).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
DATA = Dataset(
    values=LEVELS,
    levels=17,
    classes=3,
    conditions={
        "label": LABELS,
        "vector": torch.stack([torch.arange(COUNT) % 7, 5.0 * (torch.arange(COUNT) % 2)], 1) + 3,
        "image": LEVELS,
        "control": LEVELS,
        "text": encode_texts(CAPTIONS)[LABELS],
    },
)
KINDS = names("conditioning")
OF_SAMPLES = ("superres", "colorize", "inpaint", "control", "control_canny")
"""Conditions that are made of the samples themselves."""
OF_LABELS = {
    "class": {"classes": 3},
    "label": {"classes": 3},
    "target": {"classes": 3},
    "several": {"parts": {"label": {"classes": 3}}},
    "encoded_text": {"encoder": {"_target_": "tests.helpers.embedder.Letters"}},
}


def build(name: str, **settings: object) -> Conditioning:
    """The conditioning of a yaml, fitted to the data."""
    built: Conditioning = make("conditioning", name, **OF_LABELS.get(name, {}), **settings)
    return built.fit(DATA)


def rows(count: int) -> dict[str, torch.Tensor]:
    return DATA.given(torch.arange(count))


@pytest.mark.parametrize("name", KINDS)
def test_is_a_function_of_conditions_and_noise(name: str) -> None:
    conditioning = build(name)
    first, again = (conditioning(DATA.conditions, IID.seeded(0)) for _ in range(2))
    assert tuple(first) == conditioning.keys == tuple(again)
    assert all(torch.equal(first[key], again[key]) and len(first[key]) == COUNT for key in first)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "inpaint"])
def test_what_is_kept_is_what_is_given_and_what_is_dropped_is_the_null(name: str) -> None:
    conditioning = build(name)
    trained, given = conditioning(rows(400), IID.seeded(0)), conditioning.given(rows(400))
    null = conditioning.null(400)
    for key in conditioning.keys:
        assert trained[key].dtype == given[key].dtype == null[key].dtype
        kept, dropped = ((trained[key] == other[key]).reshape(400, -1).all(1) for other in (given, null))
        assert bool((kept ^ dropped).all())
        assert (0 < int(dropped.sum()) < 200) == conditioning.drops(key)
    assert not conditioning.drops("augment")


@pytest.mark.parametrize("name", KINDS)
def test_a_permuted_batch_gives_permuted_rows(name: str) -> None:
    conditioning, order = build(name), torch.randperm(50, generator=torch.Generator().manual_seed(0))
    straight, permuted = (conditioning.given(DATA.given(index)) for index in (torch.arange(50), order))
    assert all(torch.equal(straight[key][order], permuted[key]) for key in straight)


@pytest.mark.parametrize("name", KINDS)
def test_prepared_data_give_the_same(name: str) -> None:
    conditioning = build(name)
    prepared = conditioning.prepare(DATA)
    assert set(prepared.conditions) == set(conditioning.names)
    ours, theirs = (conditioning(part, IID.seeded(0)) for part in (DATA.conditions, prepared.conditions))
    assert all(torch.equal(ours[key], theirs[key]) for key in conditioning.keys)


@pytest.mark.parametrize("name", KINDS)
def test_what_was_learned_is_restored_from_json(name: str) -> None:
    import json

    fitted = build(name)
    stored = json.loads(json.dumps(fitted.stored()))
    opened = make("conditioning", name, **OF_LABELS.get(name, {})).restore(stored)
    assert opened.sizes == fitted.sizes
    ours, theirs = (conditioning(rows(30), IID.seeded(0)) for conditioning in (fitted, opened))
    assert all(torch.equal(ours[key], theirs[key]) for key in fitted.keys)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "none"])
def test_what_is_typed_is_what_the_data_give(name: str, tmp_path) -> None:
    """A row's own values, typed, give the row that the data give."""
    from PIL import Image

    path = tmp_path / "gray.png"
    picture = Image.new("L", (2, 2) if name == "superres" else (4, 4), round(255 * 2 / 16))  # level 2 of 17
    if name == "inpaint":
        picture.putalpha(255)
        picture.paste((0, 0), (1, 1, 3, 3))
    picture.save(path)
    conditioning = build(name)
    given = conditioning.given({key: value[2:3] for key, value in DATA.conditions.items()})
    all_typed = {
        "label": 2,
        "text": CAPTIONS[2],
        "image": str(path),
        "vector": [5.0, 3.0],
        "control": str(path),
    }
    typed = {key: value for key, value in all_typed.items() if key in conditioning.names}
    found = conditioning.prompt(typed, 3)
    assert all(torch.equal(found[key], given[key].repeat(3, *[1] * (given[key].ndim - 1))) for key in given)


@pytest.mark.parametrize("name", KINDS)
def test_a_condition_of_another_kind_is_refused(name: str) -> None:
    conditioning = build(name)
    with pytest.raises(ValueError, match=r"depth=3: the run was trained without"):
        conditioning.prompt({"depth": 3}, 2)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("none", *OF_SAMPLES)])
def test_data_without_the_condition_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"the data have no (labels|images|captions|vectors) to condition on"
    ):
        build(name).prepare(Dataset(values=torch.zeros(3, 1, 4, 4), levels=None))


def test_drops_the_share_that_is_asked_for_and_no_class_more_than_another() -> None:
    labels = torch.arange(20_000) % 3
    label = Label(classes=3, dropout=0.25)({"label": labels}, IID.seeded(0))["label"]
    dropped = label == 3
    assert bool((label == labels)[~dropped].all())
    for k in range(3):
        assert float(dropped[labels == k].double().mean()) == pytest.approx(
            0.25, abs=0.02
        )  # four standard errors


def test_several_conditions_are_dropped_alone_and_together() -> None:
    """Of 1,000, at rates of .2 and .3 alone and .1 together; five standard errors."""
    several = Several(
        parts={"class": Label(classes=3, dropout=0.2), "text": Text(dropout=0.3)}, dropout=0.1
    ).fit(DATA)
    found = several(DATA.conditions, IID.seeded(0))
    no_label, no_text = found["label"] == 3, (found["tokens"] == 0).all(1)
    shares = [float(part.double().mean()) for part in (no_label, no_text, no_label & no_text)]
    for share, exact in zip(shares, [0.1 + 0.9 * 0.2, 0.1 + 0.9 * 0.3, 0.1 + 0.9 * 0.06], strict=True):
        assert abs(share - exact) < 5 * (exact * (1 - exact) / COUNT) ** 0.5


def test_several_conditions_without_dropout_together_are_their_parts() -> None:
    """Bit for bit, and no random number more is drawn, so that what is drawn next is the same, too."""
    parts = {"class": Label(classes=3, dropout=0.2), "text": Text(dropout=0.3).fit(DATA)}
    noise, other = IID.seeded(0), IID.seeded(0)
    found = Several(parts=parts, dropout=0.0)(DATA.conditions, noise)
    alone = {key: rows for part in parts.values() for key, rows in part(DATA.conditions, other).items()}
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[key], alone[key]) for key in alone)
    assert torch.equal(noise.uniform(LABELS), other.uniform(LABELS))
    sure = Several(parts={"class": Label(classes=3, dropout=0.0), "text": Text(dropout=0.1)}, dropout=0.0)
    assert not sure.drops("label")
    assert sure.drops("tokens")


def test_of_several_conditions_none_is_typed_or_some_are() -> None:
    """Where nothing is typed every class is drawn in turn; where something is, the rest are the nulls."""
    several = Several(parts={"label": Label(classes=3), "vector": Vector()}).fit(DATA)
    assert several.prompt({}, 4)["label"].tolist() == [0, 1, 2, 0]
    typed = several.prompt({"vector": [3.0, 3.0]}, 2)
    null = several.null(1)["label"].tolist()
    assert typed.get("label", torch.tensor(null * 2)).tolist() == null * 2
    assert torch.equal(
        typed["vector"], several.given(rows(1) | {"vector": torch.tensor([[3.0, 3.0]] * 2)})["vector"]
    )


def test_a_label_s_fate_is_its_own() -> None:
    conditioning = Label(classes=3, dropout=0.5)
    together = conditioning({"label": LABELS[:8]}, PerSample(range(8)))["label"]
    alone = [conditioning({"label": LABELS[i : i + 1]}, PerSample([i]))["label"] for i in range(8)]
    assert torch.equal(together, torch.cat(alone))


def test_ends_of_the_range() -> None:
    assert Unconditional()({"label": LABELS}, IID.seeded(0)) == {}
    for dropout, expected in ((0.0, LABELS), (1.0, torch.full_like(LABELS, 3))):
        found = Label(classes=3, dropout=dropout)({"label": LABELS}, IID.seeded(0))
        assert torch.equal(found["label"], expected)


def test_vectors_are_standardized_and_a_one_is_appended() -> None:
    vector = Vector().fit(DATA)
    found = vector.given(DATA.conditions)["vector"].double()
    exact = torch.tensor([0.0, 0.0, 1.0]).double(), torch.tensor([1.0, 1.0, 0.0]).double()
    torch.testing.assert_close(found.mean(0), exact[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(0, unbiased=False), exact[1], atol=1e-6, rtol=0)
    constant = Dataset(values=torch.zeros(4, 2), levels=None, conditions={"vector": torch.full((4, 1), 7.0)})
    assert torch.equal(
        Vector().fit(constant).given(constant.conditions)["vector"], torch.tensor([[0.0, 1.0]]).repeat(4, 1)
    )


def test_words_are_numbered_by_count_and_padded() -> None:
    text = Text().fit(DATA)
    assert text.tokenizer == Words(words=["left", "three", "top", ",", "bottom", "one", "right", "seven"])
    assert text.given(rows(3))["tokens"].tolist() == [[3, 4, 2, 0], [9, 5, 6, 8], [7, 0, 0, 0]]
    assert text.prompt({"text": ["Seven", "ONE"]}, 3)["tokens"][:, 0].tolist() == [9, 7, 9]
    assert torch.equal(text.prompt({"text": ""}, 2)["tokens"], text.null(2)["tokens"])
    rare = Text(tokenizer=Words(min_count=334)).fit(DATA)
    assert rare.given(rows(3))["tokens"].tolist() == [[3, 4, 2, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("make_it", "typed", "answer"),
    [
        (Text(), {"text": "three blue left"}, "words that are in no training caption: blue"),
        (Text(), {"text": "one one one one one"}, "has 5 tokens; the longest that the network takes has 4"),
        (Text(), {"text": 3}, "text=3: expected a text"),
        (Vector(), {"vector": [1.0]}, r"vector=\[1.0\]: expected 2 finite numbers"),
        (Vector(), {"vector": [1.0, float("nan")]}, "expected 2 finite numbers"),
        (Vector(), {"vector": "red"}, r"vector=\['red'\]: expected 2 finite numbers"),
        (ConditionImage(), {"image": "none.png"}, "image not found: none.png"),
        (ConditionImage(), {"image": 3}, "image=3: the condition is an image file"),
        (Text(dropout=0.0), {}, r"never trained without text .*give text="),
        (Label(classes=3), {"text": "one"}, "trained without captions; train one with conditioning=text"),
        (Label(classes=3), {"label": 3}, "label=3: the classes are 0 to 2"),
    ],
)
def test_what_does_not_fit_is_answered(make_it: Conditioning, typed: dict, answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        make_it.fit(DATA).prompt(typed, 2)


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="no labels"):
        Label(classes=0)
    with pytest.raises(ValueError, match="of one class, so a label says nothing; use conditioning=none"):
        Label(classes=1).fit(
            Dataset(values=torch.zeros(2, 1), levels=None, classes=1, labels=torch.zeros(2).long())
        )
    with pytest.raises(ValueError, match="no labels"):
        Label(classes=3)({}, IID.seeded(0))
    for kind in (Vector, Text, ConditionImage):
        with pytest.raises(ValueError, match="dropout"):
            kind(dropout=1.5)
        with pytest.raises(ValueError, match="call fit"):
            kind().null(2)
    with pytest.raises(ValueError, match="read or give the same"):
        Several(parts={"a": Label(classes=3), "b": Label(classes=3)})
    with pytest.raises(ValueError, match="at least one conditioning"):
        Several(parts={})
    with pytest.raises(
        ValueError, match=r"vector of 1 of 2 samples holds numbers that are not finite, first.* sample 1"
    ):
        Dataset(
            values=torch.zeros(2, 2), levels=None, conditions={"vector": torch.tensor([[0.0], [torch.nan]])}
        )
    with pytest.raises(ValueError, match="3 text for 2 samples"):
        Dataset(values=torch.zeros(2, 2), levels=None, conditions={"text": encode_texts(["a", "b", "c"])})
