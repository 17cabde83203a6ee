"""Make the gallery of the documentation: ``python scripts/gallery.py --vp RUN --sub-vp RUN``.

Every entry is a command and the picture that it leaves. The commands are run in a temporary folder; small copies of the
pictures go to docs/_static/gallery, and docs/gallery.md shows them. Screenshots of pages need Chromium.
"""

import argparse
import base64
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gallery_entries import ENTRIES, NOTEBOOKS, SUB_VP, VP, Entry, Notebook
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES, PAGE = ROOT / "docs" / "_static" / "gallery", ROOT / "docs" / "gallery.md"
SIDE, COLORS = 400, 96
"""Largest side of a picture in pixels, and its colors."""


def run(command: str, folder: Path) -> None:
    """Run a command of the gallery."""
    print(f"  {command}", flush=True)
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **os.environ}
    subprocess.run(words, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL)


def photograph(page: Path, to: Path, *, crop: float) -> None:
    """Take a picture of a page with Chromium.

    Raises:
        FileNotFoundError: it is not installed.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError("a screenshot of a page needs Chromium; install it")
    height = round(1500 * crop)
    with tempfile.TemporaryDirectory() as profile:
        words = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
        ]
        shot = [f"--screenshot={to}", f"--window-size=1200,{height}", page.resolve().as_uri()]
        subprocess.run([browser, *words, *shot], check=True, stderr=subprocess.DEVNULL)


def save(picture: Image.Image, path: Path, *, page: bool = False) -> None:
    """Save a small copy of a picture; that of a page is larger and keeps its colors."""
    small, side = picture.convert("RGB"), 2 * SIDE if page else SIDE
    small.thumbnail((side, 2 * side), Image.Resampling.LANCZOS)
    (small if page else small.quantize(COLORS)).save(path, optimize=True)


def make(entry: Entry, runs: dict[str, Path]) -> str:
    """Run the commands of an entry in an empty folder, and save its picture; the name of its file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, place in runs.items():
            shutil.copytree(place, folder / name, ignore=shutil.ignore_patterns("optimizer*", ".lock"))
        left = Image.new("L", (8, 8))
        left.paste(255, (0, 0, 4, 8))
        left.save(folder / "left.png")
        for command in entry.commands:
            run(command, folder)
        found = folder / entry.picture
        if found.suffix == ".gif":
            shutil.copy(found, PICTURES / f"{entry.name}.gif")
            return f"{entry.name}.gif"
        page = found.suffix == ".html"
        if page:
            photograph(found, folder / "page.png", crop=entry.crop)
            found = folder / "page.png"
        with Image.open(found) as picture:
            save(picture, PICTURES / f"{entry.name}.png", page=page)
    return f"{entry.name}.png"


def cell_picture(notebook: Notebook) -> str:
    """Save a picture that is stored in a notebook; the name of its file."""
    content = json.loads((ROOT / "notebooks" / f"{notebook.name}.ipynb").read_text())
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", ())]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    with Image.open(io.BytesIO(base64.b64decode(pictures[notebook.index]))) as picture:
        save(picture, PICTURES / f"{notebook.stem}.png")
    return f"{notebook.stem}.png"


def write_page(files: dict[str, str]) -> None:
    """Write the page of the gallery."""
    entries, notebooks = (
        "\n".join(card.markdown(files[card.stem]) for card in cards) for cards in (ENTRIES, NOTEBOOKS)
    )
    grid = "::::{{grid}} 1 1 2 2\n:gutter: 2\n\n{}::::\n"
    PAGE.write_text(
        "# Gallery\n\nPictures with their commands, made by `python scripts/gallery.py`. The runs are those of\n"
        "`make demo`, for VP and for sub-VP.\n\n"
        + grid.format(entries)
        + "\n## Notebooks\n\nEach runs in less than a minute on one core.\n\n"
        + grid.format(notebooks)
    )


def main() -> None:
    """Make all pictures, or those named, and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of entries; without them all")
    parser.add_argument("--vp", type=Path, default=Path(VP), help="run folder of the VP process on digits")
    parser.add_argument("--sub-vp", type=Path, default=Path(SUB_VP), help="the same of sub-VP")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    known = {path.stem: path.name for path in PICTURES.iterdir()}
    files = {}
    for entry in ENTRIES:
        if arguments.names and entry.name not in arguments.names:
            files[entry.name] = known[entry.name]
            continue
        print(entry.name, flush=True)
        files[entry.name] = make(entry, {VP: arguments.vp, SUB_VP: arguments.sub_vp})
    for notebook in NOTEBOOKS:
        files[notebook.stem] = cell_picture(notebook)
    write_page(files)
    size = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{PAGE.relative_to(ROOT)}, {size:,} bytes of pictures")


if __name__ == "__main__":
    main()
