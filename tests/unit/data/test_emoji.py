"""Emoji from an archive of the true form, made here: what is read, how it is split, and every way to be wrong."""

import colorsys
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sde_gen.data import Emoji, decode_texts
from sde_gen.data import emoji as module
from sde_gen.data.emoji import ARCHIVE, CATEGORIES, without_variants
from sde_gen.data.hue import COLORS, distance, hue
from sde_gen.data.text import decode_captions

RUNNERS = ["1F3C3", "1F3C3-200D-2640-FE0F", "1F3C3-200D-2642-FE0F-200D-27A1-FE0F"]
TONES = [f"1F3F{digit}" for digit in "BCDEF"]


def entry(unified: str, category: str, tones: tuple[str, ...] = ()) -> dict:
    """Return the entry of an emoji in emoji.json, with the fields that are read."""
    made = {"unified": unified, "image": f"{unified.lower()}.png", "category": category}
    made["name"] = f"THING {unified}"
    if tones:
        variants = [f"{unified}-{tone}" for tone in tones]
        made["skin_variations"] = {
            tone: {"unified": variant, "image": f"{variant.lower()}.png"}
            for tone, variant in zip(tones, variants, strict=True)
        }
    return made


def things(count: int = 60) -> list[dict]:
    """Emoji of one code point each, in all categories."""
    return [entry(f"{0x1F600 + i:X}", CATEGORIES[i % 10]) for i in range(count)]


def people() -> list[dict]:
    """Runners of three sexes and directions with all skin tones."""
    return [entry(unified, "People & Body", tuple(TONES)) for unified in RUNNERS]


def images(entries: list[dict]) -> list[str]:
    """Names of all files, variants behind the emoji they are of."""
    return [part["image"] for one in entries for part in (one, *one.get("skin_variations", {}).values())]


def archive(folder: Path, entries: list[dict], pictures: dict[str, Image.Image]) -> bytes:
    """Write the package's archive; random pictures stand in for those not given."""
    rng = np.random.default_rng(0)
    files = {"emoji.json": json.dumps(entries).encode()}
    for name in images(entries):
        noise = Image.fromarray(rng.integers(0, 256, (64, 64, 4)).astype(np.uint8))
        stream = io.BytesIO()
        pictures.get(name, noise).save(stream, "PNG")
        files[f"img/google/64/{name}"] = stream.getvalue()
    files["img/google/sheets/64.png"] = b"not asked for"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE).write_bytes(gzip.compress(made.getvalue(), 1))
    return made.getvalue()


@pytest.fixture
def trusted(monkeypatch):
    """Write an archive and take it for the published one."""

    def write(folder: Path, entries: list[dict], pictures: dict[str, Image.Image] | None = None) -> str:
        content = archive(folder, entries, pictures or {})
        monkeypatch.setattr(module, "CONTENT", hashlib.sha256(content).hexdigest())
        return str(folder)

    return write


def test_transparent_is_white_and_areas_are_averaged_in_every_mode(tmp_path, trusted):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (200, 100, 0, 255)
    pixels[0, 0] = (200, 100, 0, 0)  # a quarter of the first pixel of the result
    pixels[:, 40] = (0, 0, 0, 128)  # half of a column, half transparent
    gray = np.zeros((64, 64, 2), np.uint8)
    gray[..., 1] = 51  # a fifth of black
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.info["transparency"] = 0
    palette.paste(0, (0, 0, 64, 32))
    entries = things(20)
    modes = [Image.fromarray(pixels, "RGBA"), Image.fromarray(gray, "LA"), palette]
    root = trusted(tmp_path, entries, dict(zip(images(entries), modes, strict=False)))
    splits = Emoji(root=root).load()
    values = torch.cat([splits.train.values, splits.test.values])

    def found(*corner):
        (index,) = (values[:, :, -1, 0] == torch.tensor(corner)).all(1).nonzero()
        return values[index.item()].int()

    drawn = found(200, 100, 0)
    assert drawn[:, 5, 5].tolist() == [200, 100, 0]
    assert drawn[:, 5, 18].tolist() == [255, 255, 255]
    assert drawn[:, 5, 20].tolist() == [191, 191, 191]  # 255 (1 - 1/4)
    assert drawn[:, 0, 0].tolist() == [214, 139, 64]  # three quarters color, one quarter white
    assert bool((found(204, 204, 204) == 204).all())
    assert found(10, 20, 30)[:, 0, 0].tolist() == [255, 255, 255]


def test_splits_are_whole_and_what_is_drawn_is_in_one_of_them(tmp_path, trusted):
    entries = things() + people()
    names = images(entries)
    colors = {
        name: Image.new("RGBA", (64, 64), (i, 255 - i, 7, 255)) for i, name in enumerate(names)
    }  # distinguished by red
    root = trusted(tmp_path, entries, colors)
    splits = Emoji(root=root, skin_tones=25).load()
    red = {part: set(getattr(splits, part).values[:, 0, 0, 0].tolist()) for part in ("train", "test")}
    assert red["train"] | red["test"] == set(range(len(names)))
    assert red["train"].isdisjoint(red["test"])
    running = set(range(60, len(names)))
    assert running <= red["train"] or running <= red["test"]
    assert 1 <= len(red["test"]) <= 20
    for part in (splits.train, splits.test):
        assert (part.levels, part.classes, part.shape) == (256, 10, (3, 32, 32))
        for value, label in zip(part.values[:, 0, 0, 0].tolist(), part.labels.tolist(), strict=True):
            assert label == (value % 10 if value < 60 else CATEGORIES.index("People & Body"))
    fewer = Emoji(root=trusted(tmp_path, things(40), colors), skin_tones=25).load()
    kept = set(fewer.test.values[:, 0, 0, 0].tolist())
    assert kept == {value for value in red["test"] if value < 40}, "one emoji more moves no other"


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (1, [2]), (2, [1, 3]), (5, [0, 1, 2, 3, 4])])
def test_skin_tones_are_spread_evenly(tmp_path, trusted, count, chosen):
    entries = [entry("1F44B", "People & Body", tuple(TONES)), *things(20)]
    colors = {name: Image.new("RGBA", (64, 64), (i, 0, 0, 255)) for i, name in enumerate(images(entries)[:6])}
    splits = Emoji(root=trusted(tmp_path, entries, colors), skin_tones=count, size=4).load()
    values = torch.cat([splits.train.values, splits.test.values])
    plain = values[(values[:, 1:] == 0).flatten(1).all(1)]
    assert sorted(plain[:, 0, 0, 0].tolist()) == [0, *(1 + tone for tone in chosen)]


def test_a_picture_that_repeats_is_taken_once(tmp_path, trusted):
    entries = things(30)
    flag = Image.new("RGBA", (64, 64), "red")
    splits = Emoji(root=trusted(tmp_path, entries, dict.fromkeys(images(entries)[::10], flag))).load()
    assert len(splits.train) + len(splits.test) == 28


def test_drawings_of_one_kind_are_the_same():
    for one, other in [
        ("1F3C3", "1F3C3-1F3FF-200D-2640-FE0F-200D-27A1-FE0F"),
        ("1F9D1-200D-1F680", "1F469-1F3FC-200D-1F680"),
        ("1F468-200D-1F467", "1F9D1-200D-1F9D2"),
        ("2764-FE0F", "2764"),
    ]:
        assert without_variants(one) == without_variants(other)
    assert (
        len({without_variants(one) for one in ("1F3C3", "1F6B6", "2640-FE0F", "2642-FE0F", "1F9D1", "1F9D2")})
        == 6
    )


def test_what_is_no_archive(tmp_path, trusted):
    with pytest.raises(ValueError, match=r"npm pack emoji-datasource-google@16\.0\.0"):
        Emoji(root=str(tmp_path / "nowhere")).load()
    root = trusted(tmp_path, things(20))
    whole = (tmp_path / ARCHIVE).read_bytes()
    (tmp_path / ARCHIVE).write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        Emoji(root=root).load()
    archive(tmp_path, things(21), {})
    with pytest.raises(ValueError, match="not the archive of"):
        Emoji(root=root).load()
    for wrong in ({"size": 0}, {"size": 65}, {"skin_tones": -1}, {"test_fraction": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Emoji(**wrong)


def test_download_is_explicit_and_checked(tmp_path, trusted, monkeypatch):
    server = Path(trusted(tmp_path / "server", things(20)))
    there = {"root": str(tmp_path / "here"), "url": (server / ARCHIVE).as_uri(), "size": 8}
    assert len(Emoji(**there, download=True).load().train) > 10
    assert len(Emoji(**there).load().train) > 10
    monkeypatch.setattr(module, "CONTENT", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256"):
        Emoji(**{**there, "root": str(tmp_path / "other")}, download=True).load()
    assert not list((tmp_path / "other").iterdir())


REAL = Path("data/emoji") / ARCHIVE


@pytest.mark.skipif(not REAL.exists(), reason="the archive is not fetched")
def test_the_real_emoji():
    splits = Emoji().load()
    assert (len(splits.train), len(splits.test), splits.train.shape) == (1718, 179, (3, 32, 32))
    assert torch.bincount(splits.train.labels).min() == 5  # patches of the skin tones


KEYWORDS = Path(__file__).parents[2] / "data" / "emojilib.json"


def test_keywords_are_further_captions(tmp_path, trusted):
    """From a few entries of the real file, and from an archive as npm packs it."""
    root, known = trusted(tmp_path / "emoji", things()), json.loads(KEYWORDS.read_text())
    names = Emoji(root=root).load().train
    archived = tmp_path / "emojilib.tgz"
    with tarfile.open(archived, "w:gz") as tar:
        tar.add(KEYWORDS, "package/dist/emoji-en-US.json")
    for path in (KEYWORDS, archived):
        data = Emoji(root=root, keywords=str(path)).load().train
        assert torch.equal(data.values, names.values)
        found = decode_captions(data.conditions["text"])
        assert [some[0] for some in found] == decode_texts(names.conditions["text"])
        for some in found:
            emoji = chr(int(some[0].split()[1], 16))
            assert some[1:] == [word.replace("_", " ") for word in known.get(emoji, [])]
        assert sum(len(some) > 3 for some in found) > 5


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"a": 1}', b"\x1f\x8b"])
def test_keywords_that_are_none_are_refused(tmp_path, trusted, content):
    root = trusted(tmp_path / "emoji", things(20))
    for name in ("a.json", "a.tgz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not of npm pack emojilib@4.0.3"):
            Emoji(root=root, keywords=str(tmp_path / name)).load()
    with pytest.raises(ValueError, match=r"there is no file .*none.json with keywords"):
        Emoji(root=root, keywords=str(tmp_path / "none.json")).load()


def test_recolored_pictures_have_the_hue_of_their_caption(tmp_path, trusted):
    """Of 60 emoji, 20 of one color each: in six hues, a share of which is held out; gray ones are left alone."""
    entries = things()
    entries[1]["name"] = "RED THING"
    tones = {
        name: Image.new(
            "RGB", (64, 64), tuple(round(255 * part) for part in colorsys.hsv_to_rgb(i / 20, 1, 1))
        )
        for i, name in enumerate(images(entries)[:20])
    }
    shades = {name: Image.new("RGB", (64, 64), (i, i, i)) for i, name in enumerate(images(entries)[20:])}
    root = trusted(tmp_path, entries, {**tones, **shades})
    plain, splits = Emoji(root=root).load(), Emoji(root=root, recolored=True, test_fraction=0.3).load()
    assert len(splits.train) + len(splits.test) == 60 + 6 * 19
    assert 15 < len(splits.test) < 55
    assert bool((splits.test.conditions["color"] >= 0).all())
    true = splits.train.values[splits.train.conditions["color"] < 0]
    every = torch.cat([plain.train.values, plain.test.values])
    assert {one.numpy().tobytes() for one in true} == {one.numpy().tobytes() for one in every}
    pairs = set()
    for part in (splits.train, splits.test):
        for value, color, text in zip(
            part.values, part.conditions["color"].tolist(), decode_texts(part.conditions["text"]), strict=True
        ):
            if color >= 0:
                assert text.startswith(f"{COLORS[color]} thing ")
                assert float(distance(hue(value[None]).angle, torch.tensor(60.0 * color))) < 1
                assert text not in pairs
                pairs.add(text)
