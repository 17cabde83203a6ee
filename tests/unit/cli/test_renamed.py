"""Stored configurations with former names of arguments."""

from hydra.utils import instantiate

from sde_gen.cli.renamed import upgrade
from sde_gen.grid import ProcessTime
from sde_gen.objective.time_sampler import Importance, Stratified
from sde_gen.sde import VE


def test_the_former_argument_law_is_renamed_at_any_depth():
    importance = {"_target_": "sde_gen.time_sampler.importance.Importance", "t_max": 0.9}
    stratified = {"_target_": "sde_gen.time_sampler.stratified.Stratified", "law": importance}
    config = {"objective": {"_target_": "sde_gen.objective.DSM", "time_sampler": stratified}, "law": 1}
    new = upgrade(config)
    assert new["law"] == 1, "not an argument of these classes"
    time_sampler = instantiate(new["objective"]["time_sampler"])
    assert time_sampler == Stratified(distribution=Importance(t_max=0.9))


def test_former_names_of_a_grid_and_of_an_argument_are_renamed():
    process = {"_target_": "sde_gen.sde.VE"}
    for path in ("sde_gen.grid.TimeOf", "sde_gen.grid.time_of.TimeOf"):
        grid = instantiate(upgrade({"grid": {"_target_": path, "process": process}})["grid"])
        assert grid == ProcessTime(process=VE())
    metric = {"_target_": "sde_gen.evaluation.metric.BitsPerDim", "closer": 4}
    assert upgrade({"metric": metric})["metric"]["diagnose_every"] == 4
