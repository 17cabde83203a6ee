"""The settings file of a tuning at a number of evaluations, which the command sample reads."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sde_gen.cli import renamed, trusted
from sde_gen.cli.config_files import load
from sde_gen.evaluation.solver_tuning import SolverSetting
from sde_gen.utils import atomic


def write(setting: SolverSetting, path: Path) -> None:
    """Leave solver, grid and number of steps; whatever ends the process, the file is whole."""
    grid = (
        {"_target_": "sde_gen.grid.Listed", "times": setting.times.tolist()}
        if setting.grid == "listed"
        else load("grid", setting.grid)
    )
    found = {"solver": load("solver", setting.solver), "grid": grid, "steps": setting.steps}
    atomic.write(path, OmegaConf.to_yaml(OmegaConf.create(found)))


def settings(path: Path, trust: tuple[str, ...]) -> tuple[DictConfig, DictConfig, int]:
    """Read solver, grid and number of steps that tuning left.

    Raises:
        ValueError: the file is not to be read or trusted, or does not hold them.
    """
    if not path.is_file():
        raise ValueError(
            f"there are no settings {path}; python -m sde_gen.benchmark tune=true leaves such a file"
        )
    found = OmegaConf.load(path)
    if not isinstance(found, DictConfig) or not {"solver", "grid", "steps"} <= set(found):
        raise ValueError(f"{path} holds no solver, grid and steps; benchmark tune=true writes such files")
    found = OmegaConf.create(renamed.upgrade(OmegaConf.to_container(found)))
    trusted.check(OmegaConf.to_container(found), trust)
    return found.solver, found.grid, found.steps
