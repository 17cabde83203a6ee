"""Weights keep their meaning when a training goes on."""

import dataclasses
import os

import pytest
from omegaconf import OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.cli.training_compatibility import check_compatible
from tests.unit.checkpoint.test_store import made

OLD = {
    "sde": {"beta_max": 20.0},
    "parametrization": {"_target_": "EDM"},
    "codec": {"_target_": "Uniform"},
    "engine": 1,
}
"""The part of a configuration that the check reads."""


def save(folder, images, config):
    return checkpoint.save(
        folder / "checkpoints", dataclasses.replace(made(images), about={"config": config})
    )


@pytest.mark.parametrize("kind", ["sde", "parametrization", "codec"])
def test_weights_are_not_taken_for_what_they_are_not(tmp_path, kind):
    save(tmp_path, 64, OLD)
    newest = save(tmp_path, 128, OLD)
    new = OmegaConf.create({**OLD, kind: {"other": 3}, "engine": 2})
    for _ in range(2):
        with pytest.raises(
            ValueError, match=rf"other settings \({kind}\..*: .* -> None; {kind}\.other: None -> 3"
        ):
            check_compatible(tmp_path, new)
        os.truncate(
            newest / "checkpoint.json", 5
        )  # then that before says it, which the training goes back to


def test_equivalent_training_resumes(tmp_path):
    check_compatible(tmp_path, OmegaConf.create(OLD))  # there is none
    save(tmp_path, 64, {**OLD, "sde": {"beta_max": 10.0}})
    save(tmp_path, 128, OLD)
    check_compatible(tmp_path, OmegaConf.create({**OLD, "engine": 2}))
