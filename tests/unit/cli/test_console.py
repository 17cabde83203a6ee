"""Tables in the terminal: none loses a digit, however narrow; progress without a terminal: a line now and then."""

import re
import time

import pytest
from rich.console import Console
from rich.progress import Progress

from sde_gen.cli import console


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_wide_table_keeps_every_cell(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "console", Console(width=width, highlight=False))
    columns = ["solver", *(f"process_{n}" for n in range(9))]
    rows = [[f"solver_{r}", *(f"{r}.{n}0" for n in range(9))] for r in range(3)]
    console.print_summary("orders", columns, rows)
    text = capsys.readouterr().out
    for cell in [*columns, *(cell for row in rows for cell in row)]:
        assert cell in text
    assert max(map(len, text.splitlines())) <= width
    assert text.count("solver_1") == {30: 9, 80: 2, 200: 1}[width], "every part says whose numbers these are"


def test_where_there_is_no_terminal_progress_is_printed_in_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress(every=0.05) as bar:
        task = bar.add_task("images", total=1000, completed=200, begun=200, note="")
        time.sleep(0.2)  # the work itself says nothing
        silent = capfd.readouterr()
        bar.update(task, completed=600, note="loss 0.5")
        time.sleep(0.2)
        moved = capfd.readouterr().err
        bar.update(task, completed=1000)
    assert not silent.out
    assert set(silent.err.splitlines()) == {"images: 200/1,000, 0:00:00 passed"}
    assert re.match(r"images: 600/1,000, 0:00:00 passed, 0:00:0\d left, loss 0.5\n", moved)
    assert re.fullmatch(
        r"(images: .*\n)*images: 1,000/1,000, 0:00:0\d passed, loss 0.5\n", capfd.readouterr().err
    )


def test_the_remaining_time_is_estimated_from_what_was_done_here() -> None:
    now = [0.0]
    bar = Progress(get_time=lambda: now[0], disable=True)
    task = bar.add_task("images", total=1000, completed=400, begun=400, note="")
    now[0] = 60.0
    bar.update(task, completed=500)
    assert console.line(bar.tasks[0]) == "images: 500/1,000, 0:01:00 passed, 0:05:00 left"


def test_a_process_that_does_not_lead_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress(shown=False, every=0.01) as bar:
        bar.add_task("images", total=10, note="")
        time.sleep(0.05)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.progress() as bar:
        bar.add_task("images", total=10, note="")
    assert "\x1b[" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["\x1b[31mcat", "[/cat]", "[red]cat"])
def test_tables_show_names_without_markup_and_control_characters(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.print_table("samples", {"class": name})
    console.print_summary("samples", ["class", "n"], [[name, "1"]])
    assert capsys.readouterr().out.count(name.replace("\x1b", " ")) == 2
