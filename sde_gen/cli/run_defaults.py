"""Options of the command ``sample`` that follow from the run, or from other options."""

from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf, open_dict

from sde_gen.cli import config_files
from sde_gen.cli.app import cli_overrides
from sde_gen.cli.config_files import CONF
from sde_gen.cli.run import Run


def take_sampler(config: DictConfig, run: Run, chosen: Mapping[str, str]) -> dict[str, str]:
    """Take solver, grid, steps and guidance of the run where it stores them and the command line does not set them.

    Arguments:
        config: the configuration of the command, which is changed.
        run: the run.
        chosen: names of the files of solver and grid.

    Returns:
        Names of solver and grid for the folder of the samples.
    """
    stored = run.config.get("sampling")
    if stored is None or config.get("settings") is not None:
        return dict(chosen)
    given = {key.partition(".")[0] for key in cli_overrides()} | {
        key.split(".")[1] for key in cli_overrides() if key.startswith("sampler.")
    }
    names = dict(chosen)
    with open_dict(config):
        for key in ("solver", "grid"):
            if key not in given:
                config[key] = run.config[key]
                names[key] = str(run.config[key]._target_).rpartition(".")[2].lower()
        if "steps" not in given:
            config.steps = stored.steps
        if not {"grid", "denoise_final"} & given:
            config.sampler.denoise_final = stored.denoise_final
        if not {"grid", "solver", "final_gain"} & given:
            config.sampler.final_gain = stored.get("final_gain", 1.0)
        for key, node in default_guidance(run).items():
            if config.get(key) is None and key not in given:
                config[key] = node
    return names


def default_guidance(run: Run) -> dict[str, DictConfig]:
    """Return by option the guidance that a run stores as the default of its samples: its scale, then its bound."""
    stored = run.config.get("sampling") or {}
    found: dict[str, DictConfig] = {}
    if "guidance" in stored:
        found["guidance"] = config_files.load("guidance", "cfg")
        found["guidance"].scale = stored["guidance"]
    if "clip" in stored:
        found["threshold"] = config_files.load("guidance", "clip")
        found["threshold"].update(low=-stored["clip"], high=stored["clip"])
    return found


def take_task(config: DictConfig, run: Run) -> None:
    """Choose the task that ``strength`` or ``mask`` asks for, if none is chosen.

    Raises:
        ValueError: the options do not go together.
    """
    task, strength = config.get("task"), config.get("strength")
    masked = config.mask is not None and "mask" not in run.conditioning.names
    if strength is not None:
        if masked or (task is not None and "strength" not in task):
            raise ValueError(
                f"strength={strength} is the noise of a variation of image=..., and neither of a mask nor of another "
                "task: leave it out"
            )
        _choose(config, "vary")
        config.task.strength = strength
    elif task is None and masked:
        _choose(config, "inpaint")


def _choose(config: DictConfig, name: str) -> None:
    if config.get("task") is not None:
        return
    node = OmegaConf.load(CONF / "task" / f"{name}.yaml")
    with open_dict(config):
        config.task = node
