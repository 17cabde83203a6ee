"""Files that a bundle takes along."""

from pathlib import Path

from sde_gen.cli.bundle import packed_files


def test_folders_of_one_name_keep_their_own_files(tmp_path: Path) -> None:
    """Two encoders in folders of the same name, and one of them named twice."""
    for name in ("clip", "t5"):
        (tmp_path / name / "text_encoder").mkdir(parents=True)
        (tmp_path / name / "text_encoder" / "weights").write_text(name)
    first, second = (
        {"path": str(tmp_path / name / "text_encoder"), "sha256": name} for name in ("clip", "t5")
    )
    found = packed_files([first, second, first], tmp_path, tmp_path / "bundle")
    assert [(tmp_path / "bundle" / node["path"] / "weights").read_text() for node in found] == [
        "clip",
        "t5",
        "clip",
    ]
    assert found[0] == found[2]


def test_files_that_lie_in_the_run_keep_their_places(tmp_path: Path) -> None:
    (tmp_path / "run" / "parts" / "tokenizer").mkdir(parents=True)
    (tmp_path / "run" / "parts" / "tokenizer" / "vocab.json").write_text("{}")
    node = {"tokenizer": "parts/tokenizer", "tokenizer_sha256": None}
    assert packed_files(node, tmp_path / "run", tmp_path / "bundle") == node
    assert (tmp_path / "bundle" / "parts" / "tokenizer" / "vocab.json").read_text() == "{}"
