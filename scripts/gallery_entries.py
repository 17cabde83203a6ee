"""Entries of the gallery: cards with the commands, or the notebook, that make their pictures."""

from dataclasses import dataclass

VP, SUB_VP = "runs/digits-vp-ncsnpp", "runs/digits-sub_vp-ncsnpp"


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


def wrapped(command: str, width: int = 42) -> str:
    """Return a command on lines of limited width."""
    lines = [""]
    for word in command.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return " \\\n".join(lines)


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
