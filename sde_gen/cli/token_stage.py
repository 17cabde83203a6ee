"""Samples of a model of codes, and completions of images, by the command ``sample``."""

from functools import cached_property
from typing import Any

from torch import Tensor

from sde_gen.cli.app import reject_unused
from sde_gen.cli.guidance_setup import CONDITIONS, load_levels, typed_conditions
from sde_gen.cli.stages import CascadeStage
from sde_gen.data.codec import OutOfRange
from sde_gen.inverse.task import Task
from sde_gen.token_sampler import TokenSampler

OTHERS = (
    "solver",
    "grid",
    "steps",
    "sampler",
    "settings",
    "guidance",
    "threshold",
    "control_strength",
    "task",
    "method",
    "operator",
    "strength",
    "noise_std",
    "factor",
    "a",
    "b",
    "size",
    "image_noise",
    "control",
    "clip_skip",
    "gif",
    "trajectory_frames",
    "compile",
    *(f"not_{name}" for name in CONDITIONS),
)
"""Options of score networks."""


class TokenStage(CascadeStage):
    """A run of a model of codes, and how it is sampled; it is no stage of a cascade."""

    def check_options(self) -> None:
        """Reject options of score networks.

        Raises:
            ValueError: one is given; the message names it.
        """
        reject_unused(f"{self.run.folder} is a model of codes, which are drawn one after the other", *OTHERS)
        reject_unused(
            "codes are drawn from the top: give the number of rows of image=... that are kept, rows=...",
            "mask",
        )
        if type(self.config.get("image")) is not int:
            reject_unused("the data are read for a held-out image alone, image=INDEX", "data")
        _ = self.known  # better now than after the work

    @property
    def what(self) -> str:
        """Return the beginning of the name of the folder of samples."""
        return "codes"

    @property
    def model(self) -> Any:
        """Return the model."""
        return self.run.denoiser

    @cached_property
    def cond(self) -> dict[str, Tensor]:
        """Return the conditioning inputs of all samples."""
        typed = typed_conditions(self.config, CONDITIONS - {"image", "mask", "control"})
        return self.run.prompt(self.config.n, **typed)

    @cached_property
    def sampler(self) -> Any:
        """Return temperature and number of the likeliest codes, as a sampler that keeps known codes."""
        temperature, top_k = self.config.temperature, self.config.top_k
        sampler = TokenSampler(temperature=1.0 if temperature is None else float(temperature), top_k=top_k)

        def draw(model: Any, shape: tuple[int, ...], **settings: Any) -> Tensor:
            known = None if self.known is None else self.known.expand(shape[0], -1)
            return sampler(model, shape, known=known, **settings)

        return draw

    @cached_property
    def known(self) -> Tensor | None:
        """Return the codes of the kept rows of an image, int64 with shape (1, m); None without an image.

        Nothing of the other rows is encoded: the last row that is kept stands in their place.

        Raises:
            ValueError: the rows are missing, or are not those of whole codes.
        """
        image, rows, run = self.config.image, self.config.rows, self.run
        if image is None:
            if rows is not None:
                raise ValueError(
                    f"rows={rows}: name the image of which they are kept, image=FILE or image=INDEX"
                )
            return None
        height = run.data_spec.shape[1]
        side = height // run.event[1]
        if rows is None or rows % side or rows >= height:
            raise ValueError(
                f"rows={rows}: image=... is completed below its first rows, of which a code has {side}: give a "
                f"multiple of {side} below {height}"
            )
        levels = load_levels("image", self.config, [run.data_spec.shape], run).clone()
        levels[:, rows:] = levels[:, rows - 1 : rows]
        codes = run.codec.encode(levels.unsqueeze(0).to(run.device))
        return codes[:, :, : rows // side].flatten(1)

    def out_of_range(self, x: Tensor) -> OutOfRange | None:
        """Return None: a decoder's images are within the range of the data."""
        del x
        return None

    def open_task(self) -> Task | None:
        """Return None: a completion is no task."""
        return None

    @property
    def coupled_by(self) -> str | None:
        """Return None: samples do not depend on their batch."""
        return None

    @property
    def batch_coupled(self) -> bool:
        """Return false."""
        return False

    def check_solver(self) -> None:
        """Check nothing: there is no solver."""
