"""Pipes, devices and links in a run folder are rejected, without blocking or writing outside the folder."""

import os

import pytest

from sde_gen.data import atomic_build
from sde_gen.evaluation.results_log import ResultsLog
from sde_gen.training import JSONL
from sde_gen.utils.atomic import exclusive


def _lock(path):
    with exclusive(path.parent):
        pass


CASES = {
    "log.jsonl": lambda path: JSONL(path).on_train_start(0, 1),
    "more.jsonl": lambda path: JSONL(path).on_log({"images": 1}),
    ".cache.lock": lambda path: atomic_build.build_atomically(path.with_name("cache"), {}, lambda _: {}),
    ".lock": _lock,
    "bpd.jsonl": lambda path: ResultsLog(path, {}).begin(),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pipe_or_a_device_is_rejected(name, tmp_path):
    path = tmp_path / name
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)  # a reader is there, so that a write into the pipe would not wait
    try:
        with pytest.raises(OSError, match="Not a regular file"):
            CASES[name](path)
    finally:
        os.close(keep)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_link_is_rejected_and_its_target_unchanged(name, there, tmp_path):
    target, path = tmp_path / "elsewhere", tmp_path / "run" / name
    path.parent.mkdir()
    if there:
        target.write_text("mine")
    path.symlink_to(target)
    with pytest.raises(OSError, match="link") as found:
        CASES[name](path)
    assert found.value.filename == str(path)
    assert target.read_text() == "mine" if there else not target.exists()
    assert path.is_symlink()


@pytest.mark.parametrize("line", ["[1]", '{"images": [1]}', '{"images": Infinity}', "\udcff"])
def test_an_edited_line_of_the_log_is_dropped(line, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images": 1}\n' + line.encode(errors="surrogateescape") + b"\n")
    JSONL(path).on_train_start(1, 2)
    assert path.read_text() == '{"images": 1}\n'
