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
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PICTURES, PAGE = ROOT / "docs" / "_static" / "gallery", ROOT / "docs" / "gallery.md"
VP, SUB_VP = "runs/digits-vp-ncsnpp", "runs/digits-sub_vp-ncsnpp"
SIDE, COLORS = 400, 96
"""Largest side of a picture in pixels, and its colors."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Card of the gallery: a picture with its heading, caption and origin.

    Arguments:
        name: name of the entry.
        title: heading.
        text: what it shows.
    """

    name: str
    title: str
    text: str

    @property
    def stem(self) -> str:
        """Name of the picture's file without suffix."""
        return self.name

    @property
    def origin(self) -> str:
        """Where the picture comes from, as Markdown."""
        raise NotImplementedError

    def markdown(self, picture: str) -> str:
        """Return the card with the file of its picture."""
        image = f"![{self.title}](_static/gallery/{picture})"
        return f":::{{grid-item-card}} {self.title}\n\n{image}\n\n{self.text}\n\n{self.origin}\n:::\n"


@dataclass(frozen=True, kw_only=True)
class Entry(Card):
    """Picture made by commands.

    Arguments:
        commands: commands that lead to it, each a line of a shell.
        picture: pattern of the picture in the folder where the commands run; a page is photographed.
        crop: share of the picture's height that is shown.
    """

    commands: list[str]
    picture: str
    crop: float = 1.0

    @property
    def origin(self) -> str:
        """Commands that made the picture."""
        return "```sh\n" + "\n".join(map(wrapped, self.commands)) + "\n```"


@dataclass(frozen=True, kw_only=True)
class Notebook(Card):
    """Picture of a notebook's cell.

    Arguments:
        index: index of the picture in the notebook.
    """

    index: int = -1

    @property
    def stem(self) -> str:
        """Name of the picture's file without suffix."""
        return f"notebook_{self.name}"

    @property
    def origin(self) -> str:
        """Path of the notebook."""
        return f"`notebooks/{self.name}.ipynb`"


def sample(*words: str, run: str = VP) -> list[str]:
    """Return a command that samples from a run."""
    return [" ".join(["python -m sde_gen.sample", f"run={run}", *words, "out=samples"])]


ENTRIES = [
    Entry(
        name="samples",
        title="Samples",
        text="Digits of 8 x 8 pixels after 150,000 training images, 20 steps.",
        commands=sample("n=64", "seed=0"),
        picture="samples/samples.png",
    ),
    Entry(
        name="trajectory",
        title="From noise to image",
        text="Noisy samples, and below each of them the clean image that the network predicts.",
        commands=sample("n=3", "steps=20", "trajectory_frames=10", "seed=4"),
        picture="samples/trajectory.png",
    ),
    Entry(
        name="animation",
        title="Animation",
        text="The probability flow of nine samples.",
        commands=sample("n=9", "gif=true", "steps=16", "seed=1"),
        picture="samples/trajectory.gif",
    ),
    Entry(
        name="few",
        title="Five evaluations",
        text="The same samples in four steps and a last step to clean images.",
        commands=sample("n=64", "seed=0", "steps=4"),
        picture="samples/samples.png",
    ),
    Entry(
        name="superres",
        title="Super-resolution",
        text="Truth and measurement of 4 x 4 pixels, draws of the posterior, and twice their standard deviation.",
        commands=sample("task=superres", "factor=2", "image=3", "n=6"),
        picture="samples/samples.png",
    ),
    Entry(
        name="deblur",
        title="Deblurring",
        text="The same for a blurred image: another operator, the same noise model.",
        commands=sample("task=deblur", "image=7", "n=6"),
        picture="samples/samples.png",
    ),
    Entry(
        name="inpaint",
        title="Inpainting",
        text="The left half is known.",
        commands=sample("task=inpaint", "image=5", "mask=left.png", "n=6"),
        picture="samples/samples.png",
    ),
    Entry(
        name="interpolate",
        title="Interpolation",
        text="Images between two held-out images, through their latents.",
        commands=sample("task=interpolate", "a=0", "b=1", "n=8"),
        picture="samples/samples.png",
    ),
    Entry(
        name="labels",
        title="Class guidance",
        text="A class in every column, at guidance scale 3; 100,000 training images.",
        commands=[
            "python -m sde_gen.train conditioning=label optimizer.lr=2e-3 run=runs/digits-label "
            "engine.images=100000",
            "python -m sde_gen.sample run=runs/digits-label guidance=cfg guidance.scale=3 "
            "label=[0,1,2,3,4,5,6,7] n=64 out=samples",
        ],
        picture="samples/samples.png",
    ),
    Entry(
        name="moons",
        title="Points in the plane",
        text="A process, an MLP and 400,000 training points.",
        commands=[
            "python -m sde_gen.train data=moons codec=affine model=mlp run=runs/moons "
            "engine.images=400000 engine.batch_size=512 optimizer.lr=2e-3",
            "python -m sde_gen.sample run=runs/moons n=2000 batch_size=2000 out=samples",
        ],
        picture="samples/samples.png",
    ),
    Entry(
        name="benchmark",
        title="Errors of solvers",
        text="Distance to a fine reference by network evaluations, and by time.",
        commands=[
            f"python -m sde_gen.benchmark run={VP} solvers=[straight_adams,dpm_solver_pp,heun,ddim] "
            "steps=[4,6,10,16,25] n=16 out=benchmark"
        ],
        picture="benchmark/benchmark.png",
    ),
    Entry(
        name="report",
        title="Report of a run",
        text="Every training, evaluation and sampling writes a page.",
        commands=sample("n=36", "solver=heun", "steps=10"),
        picture=f"{VP}/report.html",
        crop=0.8,
    ),
    Entry(
        name="compare",
        title="Comparison of runs",
        text="Settings that differ, curves, metrics with standard errors, samples side by side.",
        commands=[f"python -m sde_gen.compare runs=[{VP},{SUB_VP}] out=comparison.html"],
        picture="comparison.html",
    ),
]

NOTEBOOKS = [
    Notebook(
        name="two_dimensions", title="Two dimensions", text="Training and sampling in ten lines.", index=-1
    ),
    Notebook(
        name="own_process_and_solver",
        title="Custom process and solver",
        text="A custom process, a custom solver, and its order.",
        index=1,
    ),
    Notebook(
        name="likelihood", title="Likelihood", text="The density of a trained network and the true one."
    ),
    Notebook(
        name="inverse_problems",
        title="Inverse problems",
        text="Methods compared with the exact posterior.",
        index=1,
    ),
    Notebook(name="guidance", title="Guidance", text="Effect of the guidance scale on samples.", index=0),
]


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


def wrapped(command: str, width: int = 42) -> str:
    """Return a command on lines of limited width."""
    lines = [""]
    for word in command.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return " \\\n".join(lines)


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
