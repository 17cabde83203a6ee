"""Execute the notebooks and compare what they print: ``python scripts/notebooks.py [--write] [NAME ...]``.

A notebook fails if a cell does, if it takes longer than three minutes, or if it prints other text than is stored, up to
small differences of numbers; ``--write`` stores what it prints and shows instead.
"""

import argparse
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
LIMIT = 180
"""Seconds of a notebook, at most."""
LARGEST = 300_000
"""Bytes of a notebook with its pictures, at most."""
RELATIVE, ABSOLUTE = 0.2, 0.06
"""Differences of printed numbers that count as the same: a network trained elsewhere has other last bits."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Text that the cells print, a string for each cell."""
    return [
        "".join(output.text for output in cell.get("outputs", ()) if output.output_type == "stream")
        for cell in notebook.cells
    ]


def same(stored: str, found: str) -> bool:
    """Return whether two texts agree, up to small differences of their numbers and the width of columns."""
    if [part.split() for part in NUMBER.split(stored)] != [part.split() for part in NUMBER.split(found)]:
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(found), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=RELATIVE, abs_tol=ABSOLUTE) for a, b in pairs)


def run(path: Path, *, write: bool) -> list[str]:
    """Execute a notebook; what is wrong with it."""
    notebook = nbformat.read(path, as_version=4)
    stored = printed(notebook)
    with tempfile.TemporaryDirectory() as folder:  # where files that it writes go
        client = nbclient.NotebookClient(
            notebook,
            timeout=LIMIT,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
            return [str(error)]
    if write:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        nbformat.write(notebook, path)
        size = path.stat().st_size
        return [f"{size:,} bytes; make its pictures smaller"] if size > LARGEST else []
    return [
        f"cell {index} prints\n{found}but {before!r} is stored; store it with --write"
        for index, (before, found) in enumerate(zip(stored, printed(notebook), strict=True))
        if not same(before, found)
    ]


def main() -> None:
    """Execute all notebooks, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of notebooks; without them all")
    parser.add_argument("--write", action="store_true", help="store what is printed and shown")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    paths = [FOLDER / f"{Path(name).stem}.ipynb" for name in arguments.names] or sorted(
        FOLDER.glob("*.ipynb")
    )
    failed = False
    for path in paths:
        begin = time.monotonic()
        problems = run(path, write=arguments.write)
        print(f"{path.name}: {'; '.join(problems) or 'ok'} ({time.monotonic() - begin:.0f} s)", flush=True)
        failed |= bool(problems)
    sys.exit(failed)


if __name__ == "__main__":
    main()
