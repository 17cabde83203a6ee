"""Pipes and devices in a run folder are refused, not waited for."""

import os

import pytest

from sde_gen.evaluation.results_log import ResultsLog
from sde_gen.training import JSONL
from sde_gen.utils.atomic import exclusive


def _lock(path):
    with exclusive(path.parent):
        pass


CASES = {
    "log.jsonl": lambda path: JSONL(path).on_train_start(0, 1),
    ".lock": _lock,
    "bpd.jsonl": lambda path: ResultsLog(path, {}).begin(),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pipe_or_a_device_is_refused(name, tmp_path):
    path = tmp_path / name
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)  # a reader is there, so that a write into the pipe would not wait
    try:
        with pytest.raises(OSError, match="Not a regular file"):
            CASES[name](path)
    finally:
        os.close(keep)
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(OSError, match="Not a regular file"):
        CASES[name](path)


@pytest.mark.parametrize("line", ["[1]", '{"images": [1]}', '{"images": Infinity}', "\udcff"])
def test_an_edited_line_of_the_log_is_dropped(line, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"images": 1}\n' + line.encode(errors="surrogateescape") + b"\n")
    JSONL(path).on_train_start(1, 2)
    assert path.read_text() == '{"images": 1}\n'
