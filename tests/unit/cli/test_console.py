"""Tables in the terminal: none loses a digit, however narrow."""

import pytest
from rich.console import Console

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
