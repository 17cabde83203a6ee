"""Images in tar files: what a batch holds, and every way for files to be wrong."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sde_gen.data import Shards
from sde_gen.data.shards import expand
from tests.helpers.tar_images import pack, pictures, png, shards

IMAGE = png(pictures(1)[0])


def key(values: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in values]


def both(splits):
    """All images and labels."""
    parts = splits.train, splits.test
    return {
        content: label
        for part in parts
        for content, label in zip(key(part.values[:]), part.labels.tolist(), strict=True)
    }


def test_shards_hold_their_images_and_labels(tmp_path):
    every = shards(tmp_path)
    splits = Shards(train=str(tmp_path / "train-{000..002}.tar"), size=8, test_fraction=0.3).load()
    assert both(splits) == {
        image.transpose(2, 0, 1).tobytes(): index % 3 for index, image in enumerate(every)
    }
    assert len(splits.train) + len(splits.test) == 24
    assert (splits.train.shape, splits.train.levels, splits.train.classes) == ((3, 8, 8), 256, 3)


def test_rows_are_those_of_a_tensor(tmp_path):
    shards(tmp_path)
    rows = Shards(train=str(tmp_path / "train-*.tar"), size=8).load().train.values
    whole = rows[:]
    assert whole.shape == rows.shape
    assert whole.dtype == rows.dtype
    for indices in (torch.tensor([5, 0, 5]), [3, 1], slice(2, 9, 3), slice(-3, None), 4, []):
        assert torch.equal(rows[indices], whole[indices])
    with pytest.raises(IndexError, match=f"of a set of {len(rows)}"):
        rows[torch.tensor([0, len(rows)])]
    with pytest.raises(IndexError, match="rows -1 to"):
        rows[torch.tensor([-1])]


def test_images_of_any_size_are_resized_and_cropped_as_pillow_does(tmp_path):
    wide, tall = pictures(1, (20, 31))[0], pictures(1, (40, 16))[0]
    pack(tmp_path / "a.tar", {"a.webp": png(wide, "webp"), "b.jpg": png(tall, "jpeg")})
    pack(tmp_path / "b.tar", {"c.png": png(wide)})
    splits = Shards(train=str(tmp_path / "a.tar"), test=str(tmp_path / "b.tar"), size=8, channels=1).load()
    expected = [
        np.asarray(
            ImageOps.fit(Image.open(io.BytesIO(content)).convert("L"), (8, 8), Image.Resampling.LANCZOS)
        )
        for content in (png(wide, "webp"), png(tall, "jpeg"), png(wide))
    ]
    np.testing.assert_array_equal(splits.train.values[:][:, 0], expected[:2])
    np.testing.assert_array_equal(splits.test.values[0][0], expected[2])
    assert splits.train.labels is None
    assert splits.train.classes == 0


def test_more_shards_move_no_image_to_another_split(tmp_path):
    shards(tmp_path, count=2)
    source = Shards(train=str(tmp_path / "train-*.tar"), size=8, test_fraction=0.4)
    before = source.load()
    pack(
        tmp_path / "train-002.tar",
        {f"{i}.png": png(p) for i, p in enumerate(pictures(9, seed=1))}
        | {f"{i}.cls": b"0" for i in range(9)},
    )
    after = source.load()
    assert set(key(before.test.values[:])) < set(key(after.test.values[:]))
    assert set(key(before.train.values[:])) < set(key(after.train.values[:]))


def test_test_split_has_the_requested_share(tmp_path):
    """400 draws: a share within four standard deviations of it, and that of the training the rest."""
    pack(tmp_path / "s.tar", {f"{index}.png": IMAGE for index in range(400)})
    splits = Shards(train=str(tmp_path / "s.tar"), test_fraction=0.3).load()
    assert abs(len(splits.test) - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5
    assert len(splits.train) == 400 - len(splits.test)


def test_other_images_under_the_same_names_have_another_fingerprint(tmp_path):
    for name, count in (("a", 8), ("b", 9)):
        files = {f"{index}.png": png(image) for index, image in enumerate(pictures(8, (count, 8)))}
        pack(tmp_path / name / "s.tar", files)
    one, other = (Shards(train=str(tmp_path / name / "s.tar"), test_fraction=0.3).load() for name in "ab")
    assert one.train.shape == other.train.shape
    assert len(one.train) == len(other.train)
    assert one.train.fingerprint() != other.train.fingerprint()


def test_an_index_is_made_once_and_knows_when_the_shards_change(tmp_path, monkeypatch):
    shards(tmp_path)
    source = Shards(train=str(tmp_path / "train-*.tar"), size=8, index=str(tmp_path / "deep" / "index"))
    first = source.load()
    with monkeypatch.context() as patch:
        patch.setattr("sde_gen.data.shards.index_members", None)  # no header is read again
        again = source.load()
    assert key(again.train.values[:]) == key(first.train.values[:])
    assert first.train.fingerprint() == again.train.fingerprint() != first.test.fingerprint()
    changed = tmp_path / "train-001.tar"
    pack(tmp_path / "other.tar", {"0.png": png(pictures(1)[0]), "0.cls": b"1"})
    content, other = changed.read_bytes(), (tmp_path / "other.tar").read_bytes()
    for written in (other, content):  # the second time its size is what it was
        changed.write_bytes(written)
        with pytest.raises(
            ValueError, match=r"index was built with other settings \(\S*train-001\.tar: .*delete it"
        ):
            source.load()


def test_shard_patterns_expand_ranges_and_wildcards(tmp_path):
    for name in ("a-08-0", "a-08-1", "a-09-0", "a-09-1", "a-10-0", "a-10-1", "b"):
        (tmp_path / name).touch()
    assert [path.name for path in expand(str(tmp_path / "a-{08..10}-{0..1}"))] == [
        "a-08-0",
        "a-08-1",
        "a-09-0",
        "a-09-1",
        "a-10-0",
        "a-10-1",
    ]
    assert [path.name for path in expand(str(tmp_path / "a-{09..09}-*"))] == ["a-09-0", "a-09-1"]
    assert [path.name for path in expand(str(tmp_path / "b"))] == ["b"]
    for empty in ("c-*.tar", "a-{10..08}"):
        with pytest.raises(ValueError, match=r"no shard matches .*data\.train"):
            expand(str(tmp_path / empty))
    with pytest.raises(ValueError, match=r"2 of the 4 shards .* not there, such as .*a-11-0"):
        expand(str(tmp_path / "a-{10..11}-{0..1}"))


def truncated(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.png": IMAGE, "b.png": b"<html>not found</html>"}, r"b\.png is not a PNG, JPEG or WebP image"),
        ({"a.png": IMAGE, "b.png": b""}, r"b\.png is not a PNG"),
        ({"a.png": IMAGE, "a.cls": b"1", "b.png": IMAGE}, "1 of 2 samples have no label"),
        (
            {"a.png": IMAGE, "a.json": b'{"text": "a"}', "b.png": IMAGE, "b.cls": b"0"},
            "1 of 2 samples have no label",
        ),
        ({"a.png": IMAGE, "a.cls": b"cat"}, r"a\.cls contains no label"),
        ({"a.png": IMAGE, "a.json": b"{"}, r"a\.json contains no label"),
        ({"a.png": IMAGE, "a.json": b"[1]"}, r"a\.json contains no label"),
        ({"a.png": IMAGE, "a.json": b"[" * 100_000}, r"a\.json contains no label"),
        ({"a.png": IMAGE, "a.json": b'{"label": 1e30}'}, r"a\.json has the label 1e\+30"),
        ({"a.png": IMAGE, "a.cls": b"2147483648"}, r"a\.cls has the label 2147483648; .* 2\^31 - 1"),
        ({"a.png": IMAGE, "a.cls": b"-1"}, "label -1; labels are integers"),
        ({"a.png": IMAGE, "a.json": b'{"label": 1.5}'}, r"label 1\.5"),
        ({"a.png": IMAGE, "a.json": b'{"label": true}'}, "label True"),
        ({"a.png": IMAGE, "a.json": b'{"label": 1}', "a.cls": b"2"}, "two labels, 1 and 2"),
        ({"a.png": IMAGE, "a.jpg": IMAGE}, r"two images, a\.png and a\.jpg"),
        ({"a.txt": b"nothing"}, "contain no image"),
        ({}, "contain no image"),
        ({"a.png": IMAGE}, "both splits need images"),
    ],
)
def test_shards_that_will_not_do(tmp_path, files, words):
    pack(tmp_path / "s.tar", files)
    with pytest.raises(ValueError, match=words):
        Shards(train=str(tmp_path / "s.tar")).load()


@pytest.mark.parametrize("left", [0, 100, 700, 1024 + len(IMAGE), 2048])
def test_shards_cut_short(tmp_path, left):
    """Within a header, within an image, between two members."""
    path = pack(tmp_path / "s.tar", {"a.png": IMAGE, "b.png": IMAGE, "c.png": IMAGE})
    assert len(IMAGE) < 512
    truncated(path, left)
    with pytest.raises(ValueError, match=r"s\.tar .*truncated.*download it again"):
        Shards(train=str(path)).load()


def test_a_damaged_header_is_not_the_end(tmp_path):
    path = pack(tmp_path / "s.tar", {"a.png": IMAGE, "b.png": IMAGE, "c.png": IMAGE})
    content = bytearray(path.read_bytes())
    content[1024 + 20] ^= 1  # the header of b.png
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        Shards(train=str(path)).load()


@pytest.mark.parametrize(
    ("name", "kind", "size", "words"),
    [
        ("z.json", b"0", 10**12, r"z\.json has 1,000,000,000,000 bytes, too many for a label"),
        ("z.png", b"0", 10**12, "truncated"),
        ("z.png", b"x", 10**12, "truncated"),  # attributes of the next member
        ("z.png", b"L", 2**80, "truncated"),  # its name
        ("z.txt", b"0", -512, r"z\.txt has -512 bytes"),  # so its header would be the next one, too
        ("z.png", b"S", 512, r"z\.png is a sparse file"),
    ],
)
def test_headers_that_claim_what_is_not_there(tmp_path, name, kind, size, words):
    """Nothing of such a length is read, and nobody is sent round for ever."""
    path = pack(tmp_path / "s.tar", {"a.png": IMAGE, "b.png": IMAGE, "c.png": IMAGE, name: IMAGE})
    header = bytearray(path.read_bytes())
    header[3072 + 124 : 3072 + 136] = (size % 2**96 if size < 0 else 2**95 + size).to_bytes(12, "big")
    header[3072 + 156 : 3072 + 157] = kind
    header[3072 + 148 : 3072 + 156] = b" " * 8
    header[3072 + 148 : 3072 + 156] = b"%06o\0 " % sum(header[3072:3584])
    path.write_bytes(header)
    with pytest.raises(ValueError, match=rf"s\.tar.*{words}"):
        Shards(train=str(path)).load()


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_shards(tmp_path, mode, name):
    (tmp_path / "a.png").write_bytes(IMAGE)
    with tarfile.open(tmp_path / "s.tar", mode) as archive:
        archive.add(tmp_path / "a.png", "a.png")
    with pytest.raises(ValueError, match=f"compressed by {name}, .*unpack it"):
        Shards(train=str(tmp_path / "s.tar")).load()


def test_what_is_no_tar_file(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"nonsense" * 300)
    with pytest.raises(ValueError, match="not a tar file"):
        Shards(train=str(tmp_path / "s.tar")).load()


@pytest.mark.parametrize(
    ("name", "value"), [("size", 0), ("channels", 2), ("test_fraction", 1.0), ("workers", 0)]
)
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=name):
        Shards(train="s.tar", **{name: value})


def test_damaged_images_are_named_and_skipped_only_on_request(tmp_path):
    every = pictures(12)
    files = {f"{i}.png": png(image) for i, image in enumerate(every)}
    files["3.png"] = files["3.png"][:150]
    pack(tmp_path / "s.tar", files)
    source = {"train": str(tmp_path / "s.tar"), "size": 8, "test_fraction": 0.3}
    splits = Shards(**source).load()  # nothing is decoded yet
    with pytest.raises(ValueError, match=r"s\.tar: 3\.png cannot be decoded .*skip_corrupt=true"):
        (splits.train.values[:], splits.test.values[:])
    with pytest.warns(UserWarning, match=r"skipped 1 unreadable images: .*s\.tar: 3\.png"):
        left = Shards(**source, skip_corrupt=True).load()
    assert set(key(left.train.values[:]) + key(left.test.values[:])) == {
        image.transpose(2, 0, 1).tobytes() for i, image in enumerate(every) if i != 3
    }


def test_hidden_members_are_left_out(tmp_path):
    """As tar on a Macintosh, and notebooks, leave them."""
    odd = {f"{name}.png": b"no picture" for name in ("._a", "x/._b", ".ipynb_checkpoints/a", "x/.old/y/a")}
    path = pack(tmp_path / "s.tar", {"./a.png": IMAGE, "x/b.png": IMAGE, **odd})
    assert len(Shards(train=str(path), test=str(path), size=8).load().train) == 2


def test_the_background_of_shards_is_in_their_fingerprint(tmp_path):
    path = pack(tmp_path / "s.tar", {"a.png": IMAGE})
    one, other = (
        Shards(train=str(path), test=str(path), size=8, background=color).load().train
        for color in ("white", None)
    )
    assert one.fingerprint() != other.fingerprint()


def test_names_of_any_length_and_folders(tmp_path):
    """Long names take further headers; a key is all up to the first dot of the last part."""
    long = "folder.v2/" + "n" * 150
    pack(
        tmp_path / "s.tar",
        {
            f"{long}.png": IMAGE,
            f"{long}.cls": b"1",
            "x/a.seg.png": b"no sample",
            "x/a.png": IMAGE,
            "x/a.cls": b"0\n",
            "x/a.json": gzip.compress(b"{}")[:0] or b"{}",
        },
    )
    splits = Shards(train=str(tmp_path / "s.tar"), test=str(tmp_path / "s.tar"), size=8).load()
    assert sorted(splits.train.labels.tolist()) == [0, 1]
