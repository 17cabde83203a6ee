"""Stages of a cascade: runs of which each but the first is given the images that the one before has drawn."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.cli import instantiate, pretrained, run_reference
from sde_gen.cli.app import as_list, reject_unused
from sde_gen.cli.guidance_setup import (
    CONDITIONS,
    apply_guidance,
    choose_conditions,
    open_task,
    typed_conditions,
)
from sde_gen.cli.run import SAMPLED, Run, load_run
from sde_gen.cli.run_defaults import take_sampler
from sde_gen.cli.sample_size import of_size
from sde_gen.data.codec import OutOfRange
from sde_gen.data.conditioning.base import PLURALS
from sde_gen.denoiser import Denoiser
from sde_gen.inverse.task import Task
from sde_gen.noise import PerSample, spawn_seeds
from sde_gen.sampler import Sampler
from sde_gen.solver.callbacks import Hook, StopOnNaN

OF_CODES = ("temperature", "top_k", "rows")
"""Options of models of codes."""

IMAGE, VECTOR = "image", "vector"
"""Conditions that a stage is given by the one before, which draws images or embeddings."""


@dataclass(frozen=True)
class CascadeStage:
    """A run, and how it is sampled.

    Arguments:
        run: the run.
        config: the configuration of the command for this stage.
        names: names of its solver and grid.
        before: the stage whose images it is given; None for the first.
    """

    run: Run
    config: DictConfig
    names: Mapping[str, str]
    before: "CascadeStage | None" = None

    def check_options(self) -> None:
        """Reject options of models of codes.

        Raises:
            ValueError: one is given; the message names it.
        """
        reject_unused("only a model of codes has it, of objective=token_cross_entropy", *OF_CODES)

    @property
    def what(self) -> str:
        """Return the beginning of the name of the folder of samples."""
        return f"{self.names['solver']}-{self.names['grid']}-{self.config.steps}"

    def open_task(self) -> Task | None:
        """Build the task; None if there is none."""
        return open_task(self.config, self.run)

    @cached_property
    def number(self) -> int:
        """Return the number of stages before this one."""
        return 0 if self.before is None else 1 + self.before.number

    @cached_property
    def model(self) -> Denoiser:
        """Return the denoiser with its guidance."""
        return apply_guidance(self.config, self.run, after=self.before is not None)

    @cached_property
    def cond(self) -> dict[str, Tensor]:
        """Return the conditioning inputs of all samples, but those that the stage before draws."""
        if self.before is None:
            return choose_conditions(self.config, self.run)
        blank = torch.zeros(1, *self.before.run.data_spec.shape)
        found = self._prompt(blank, self.config.n)
        return {key: value for key, value in found.items() if key != IMAGE}

    @property
    def given(self) -> str | None:
        """Return the condition that the stage before draws; None for the first stage."""
        return None if self.before is None else condition_of(self.before.run)

    @cached_property
    def sampler(self) -> Sampler:
        """Return solver, grid and steps of this stage."""
        built: Sampler = instantiate.make(self.config.sampler)
        return built

    def draw(self, index: range, seeds: Sequence[int], hooks: Sequence[Hook], make: Any = None) -> Tensor:
        """Draw some of the samples in model space, and before them what the stages before draw.

        Arguments:
            index: consecutive indices of samples.
            seeds: seeds of all samples.
            hooks: hooks of this stage.
            make: the sampler of a task; None for that of the stage.
        """
        part = slice(index.start, index.stop)
        mine = [stage_seeds(seed, self.number) for seed in seeds[part]]
        cond = {key: value[part] for key, value in self.cond.items()}
        if self.before is not None:
            x = self.before.draw(index, seeds, [StopOnNaN()])
            self.before.report_range(x)
            drawn = typed_samples(self.before.run, self.run, x)
            if self.given == VECTOR:
                cond = self._prompt(drawn, len(index), first=index.start)
            else:
                cond |= self._image(drawn, [seed for _, seed in mine])
        denoiser, shape = self.run.bind(cond, self.model), (len(index), *self.run.event)
        noise = PerSample([seed for seed, _ in mine])
        sampler = self.sampler if make is None else make
        found: Tensor = sampler(denoiser, shape, noise=noise, hooks=hooks, device=self.run.device)
        return found

    def out_of_range(self, x: Tensor) -> OutOfRange | None:
        """Count the values of samples of this stage outside the range of its data; None if that has no limits."""
        times = self.sampler.grid(self.run.denoiser.sde, self.sampler.steps)
        return OutOfRange.of(x, self.run.codec, sigma=float(self.run.denoiser.sde.sigma(times[-1])))

    def report_range(self, x: Tensor) -> None:
        """Warn where samples that the next stage is given leave the range of the data."""
        outside = self.out_of_range(x)
        if outside is not None and outside.notable:
            warnings.warn(f"{self.run.folder}: {outside.advice}", stacklevel=2)

    def _image(self, images: Tensor, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Return the conditioning input of drawn images, with noise of the level ``image_noise``, and that level."""
        clean = self._prompt(images, len(images))
        if not self.config.image_noise:
            return {IMAGE: clean[IMAGE]}
        found = self.run.conditioning.noised(clean, self.config.image_noise, PerSample(seeds))
        return {key: value for key, value in found.items() if value is not clean[key]}

    def _prompt(self, drawn: Tensor, count: int, first: int = 0) -> dict[str, Tensor]:
        """Return the conditioning inputs of samples from ``first`` on, for what the stage before has drawn."""
        given = {str(self.given): drawn}
        typed = typed_conditions(self.config, CONDITIONS - given.keys())
        try:
            return self.run.prompt(
                count, **{name: _from(value, first) for name, value in typed.items()}, **given
            )
        except ValueError as error:
            before = None if self.before is None else self.before.run.folder
            raise ValueError(f"{self.run.folder} is no stage after {before}: {error}") from error

    @property
    def nets(self) -> list[torch.nn.Module]:
        """Return the networks of all stages up to this one."""
        return [*([] if self.before is None else self.before.nets), self.run.denoiser.net]

    @property
    def runs(self) -> list[Run]:
        """Return the runs of all stages up to this one."""
        return [*([] if self.before is None else self.before.runs), self.run]

    @property
    def batch_coupled(self) -> bool:
        """Return whether samples of a batch depend on each other in this stage or one before."""
        return self.sampler.solver.batch_coupled or (self.before is not None and self.before.batch_coupled)

    @property
    def coupled_by(self) -> str | None:
        """Return the name of the solver where it couples the samples of a batch, else None."""
        solver = self.sampler.solver
        return type(solver).__name__ if solver.batch_coupled else None

    def check_solver(self) -> None:
        """Check the solvers of all stages up to this one on their processes.

        Raises:
            ValueError: one does not fit.
        """
        if self.before is not None:
            self.before.check_solver()
        times = self.sampler.grid(self.run.denoiser.sde, self.sampler.steps)
        self.sampler.solver.check(self.run.denoiser, times)


def open_stages(config: DictConfig, choices: Mapping[str, str]) -> CascadeStage:
    """Open the runs of a command; return the last stage, the only one for a single run.

    Arguments:
        config: the configuration of the command.
        choices: names of solver and grid that the command chose, which a run's own defaults may replace.

    Raises:
        ValueError: a run cannot be opened or be given the images of the one before, or no run has a typed condition.
    """
    folders = [
        str(pretrained.copy(one)) if pretrained.is_name(one) else str(one) for one in as_list(config.run)
    ]
    if not folders:
        raise ValueError("run=[] names no run folder")
    found = [load_run(_merged(config, {"run": folder}), *SAMPLED) for folder in folders]
    typed = typed_conditions(config, CONDITIONS)
    if config.get("size") is not None and not found[-1].of_codes:
        found[-1] = of_size(found[-1], as_list(config.size))
    if len(found) == 1:
        found = chain(found[0], typed.keys())
        folders = [str(run.folder) for run in found[:-1]] + folders
    if len(found) == 1:
        return _stage(found[0], _merged(config, {"run": folders[0]}), choices)
    for run in found:
        if run.of_codes:
            raise ValueError(f"{run.folder} is a model of codes, and no stage of a cascade: give it alone")
    if config.get("task") is not None or config.trajectory_frames:
        raise ValueError("a cascade draws samples alone: give one run for task=... or trajectory_frames=...")
    unknown = typed.keys() - {name for run in found for name in run.conditioning.names}
    if unknown:
        raise ValueError(f"no stage is given {' or '.join(sorted(unknown))}; leave it out")
    stage = _stage(found[0], _of_stage(config, found[0], folders[0], None), choices)
    for run, folder in zip(found[1:], folders[1:], strict=True):
        _check(stage.run, run)
        stage = _stage(run, _of_stage(config, run, folder, condition_of(stage.run)), choices, stage)
        _ = stage.cond  # better now than after the work
    return stage


def _stage(
    run: Run, config: DictConfig, choices: Mapping[str, str], before: CascadeStage | None = None
) -> CascadeStage:
    """Return a stage with the default sampler of its run."""
    names = take_sampler(config, run, {key: choices[key] for key in ("solver", "grid")})
    return CascadeStage(run, config, names, before)


def chain(run: Run, typed: Collection[str]) -> list[Run]:
    """Return a run after the stages before it that it names, but for those whose samples are typed.

    Arguments:
        run: the run.
        typed: names of the typed conditions; one that the first stage takes is of that.
    """
    before = run.named.get(run_reference.BEFORE)
    if before is None:
        return [run]
    earlier, name = chain(before, typed), condition_of(before)
    return [run] if name in typed and name not in earlier[0].conditioning.names else [*earlier, run]


def condition_of(run: Run) -> str:
    """Return the condition that samples of a run are for the stage after it: vectors for embeddings, else images."""
    return VECTOR if len(run.data_spec.shape) == 1 else IMAGE


def typed_samples(before: Run, run: Run, x: Tensor) -> Tensor:
    """Return samples of the stage before as a condition of a run: levels of images, or numbers.

    Arguments:
        before: the run of the stage before.
        run: the run that is given its samples.
        x: the samples in the model space of the stage before.
    """
    codec = before.codec
    return (codec.decode_unrounded(x) if run.conditioning.unrounded else codec.decode(x)).cpu()


def _check(before: Run, run: Run) -> None:
    """Raise ValueError unless a run is given images of the levels, or the embeddings, that the run before draws."""
    name = condition_of(before)
    if name not in run.conditioning.names:
        raise ValueError(
            f"{run.folder} is given no {PLURALS[name]}, as a stage after {before.folder} must be: train it with "
            f"conditioning={'superres' if name == IMAGE else 'vector'}"
        )
    if name == IMAGE and before.data_spec.levels != run.data_spec.levels:
        raise ValueError(
            f"{run.folder} is for images of {run.data_spec.levels} levels, {before.folder} draws those of "
            f"{before.data_spec.levels}"
        )


def _of_stage(config: DictConfig, run: Run, folder: str, drawn: str | None) -> DictConfig:
    """Return the configuration of a stage: with the conditions that it is given, and guidance away from these alone.

    Arguments:
        config: the configuration of the command.
        run: the run of the stage.
        folder: its folder.
        drawn: the condition that the stage before draws; None for the first stage.
    """
    names = run.conditioning.names
    keys = [key for key in run.conditioning.keys if drawn != IMAGE or key != IMAGE]
    known = set(names) - {drawn}
    left = {name: None for name in CONDITIONS - known} | {f"not_{name}": None for name in CONDITIONS - known}
    settings: dict[str, Any] = {key: value for key, value in left.items() if key in config} | {"run": folder}
    if IMAGE not in names:
        settings["image_noise"] = 0.0
    node = config.get("guidance")
    if node is not None and "drop" in node:
        dropped = tuple(filter(run.conditioning.drops, keys)) or keys
        drop = [key for key in (dropped if node.drop is None else node.drop) if key in keys]
        settings["guidance"] = {"drop": drop} if drop else None
    return _merged(config, settings)


def _from(value: Any, first: int) -> Any:
    """Return typed values, which are taken in turn, in the order from sample ``first`` on."""
    if not isinstance(value, list) or not value:
        return value
    start = first % len(value)
    return value[start:] + value[:start]


def _merged(config: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    copy = config.copy()
    for key, value in settings.items():
        if isinstance(value, dict):
            copy[key] = OmegaConf.merge(copy[key], value)
        else:
            copy[key] = value
    return copy


def stage_seeds(seed: int, number: int) -> tuple[int, int]:
    """Return the seeds of samples and of noise of the images of a stage; the first stage keeps the seed."""
    found = [seed, seed, *spawn_seeds(seed, 2 * number)]
    return found[-2], found[-1]
