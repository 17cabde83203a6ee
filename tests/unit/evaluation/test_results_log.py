"""Results that outlive their process: none lost, none invented, none of other settings."""

import errno
import fcntl
import json
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sde_gen.evaluation import results_log as module
from sde_gen.evaluation.results_log import ResultsLog
from tests.helpers import subprocesses

SETTINGS = {"metric": {"steps": 4}, "seed": 0}


def row(image: int, value: float = 0.5) -> dict[str, float]:
    return {"image": image, "value": value}


def begun(path: Path, settings: dict[str, object] = SETTINGS) -> ResultsLog:
    log = ResultsLog(path, settings)
    log.begin()
    return log


def test_results_are_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bpd.jsonl"
    begun(path).append([row(3), row(1)])
    again = begun(path)
    assert again.rows() == {3: row(3), 1: row(1)}
    again.append([row(1, 0.7)])
    assert again.rows()[1] == row(1, 0.7), "a later result takes the place of an earlier one"


def test_a_line_that_a_kill_cut_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    begun(path).append([row(0), row(1)])
    whole = path.read_bytes()
    for length in range(len(whole) - 1, whole.index(b"\n") + 1, -7):
        path.write_bytes(whole[:length])
        log = ResultsLog(path, SETTINGS)
        complete = whole[:length].count(b"\n") - 1
        assert len(log.rows()) == complete
        log.append([row(5)])
        found = ResultsLog(path, SETTINGS).rows()
        assert 5 in found
        assert len(found) in (complete + 1, complete + 2), "a line cut just before its end is whole"


def test_damage_in_the_middle_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    begun(path).append([row(0), row(1), row(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00\xff" * 8 + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.warns(UserWarning, match="1 damaged"):
        assert set(begun(path).rows()) == {0, 2}


def test_results_of_other_settings_are_refused_until_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    old = begun(path)
    old.append([row(0)])
    other = ResultsLog(path, {**SETTINGS, "metric": {"steps": 8}})
    with pytest.raises(ValueError, match=r"steps.*fresh=true"):
        other.begin()
    assert old.rows() == {0: row(0)}
    other.begin(fresh=True)
    assert other.rows() == {}
    with pytest.raises(ValueError, match="other settings"):
        old.append([row(1)])


def test_file_without_results_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    begun(path, {"seed": 1})
    assert begun(path).rows() == {}
    assert json.loads(path.read_text()) == {"settings": SETTINGS}


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    path.write_text("my notes\nof last week\n")
    with pytest.raises(ValueError, match="is not a results log"):
        begun(path)
    assert path.read_text() == "my notes\nof last week\n"
    path.write_bytes(b'{"sett')  # a first line that a kill cut
    assert begun(path).rows() == {}


def hold(path: Path, ready: Any) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ready.set()
        time.sleep(0.4)


def test_only_one_process_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    log, ready = begun(path), subprocesses.context().Event()
    with subprocesses.children() as begin:
        other = begin(hold, path, ready)
        assert ready.wait(30)
        before = time.monotonic()
        log.append([row(0)])
        assert time.monotonic() - before > 0.2
        subprocesses.wait_for([other])


def fill(path: Path) -> None:
    """Write until the file may not grow: what a full disk does, some bytes and then an error."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = begun(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def on_and_on() -> None:
        for image in range(100):
            log.append([row(image)])

    with pytest.raises(OSError, match="the same command goes on") as full:
        on_and_on()
    assert full.value.filename == str(path)


def test_what_fits_on_the_disk_stays(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    with subprocesses.children() as begin:
        (found,) = subprocesses.wait_for([begin(fill, path)])
    assert found.code == 0, found.text
    log = ResultsLog(path, SETTINGS)
    done = set(log.rows())
    assert len(done) > 10
    assert done == set(range(len(done)))
    log.append([row(99)])
    assert set(begun(path).rows()) == {*done, 99}


def test_a_disk_that_fails_loses_nothing_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bpd.jsonl"
    log = begun(path)
    log.append([row(0)])

    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.append([row(1)])
    log.append([row(2)])
    assert {0, 2} <= set(begun(path).rows())


def write(path: Path, first: int) -> None:
    log = ResultsLog(path, SETTINGS)
    for image in range(first, first + 50):
        log.append([row(image), row(image + 1000)])


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "bpd.jsonl"
    begun(path)
    with subprocesses.children() as begin:
        found = subprocesses.wait_for([begin(write, path, first) for first in (0, 50, 100)])
    assert [code for code, _ in found] == [0, 0, 0], found
    assert set(begun(path).rows()) == {*range(150), *range(1000, 1150)}
