"""Stored configurations with former names of arguments."""

from hydra.utils import instantiate

from sde_gen.cli.renamed import upgrade
from sde_gen.objective.time_sampler import Importance, Stratified


def test_the_former_argument_law_is_renamed_at_any_depth():
    importance = {"_target_": "sde_gen.time_sampler.importance.Importance", "t_max": 0.9}
    stratified = {"_target_": "sde_gen.time_sampler.stratified.Stratified", "law": importance}
    config = {"objective": {"_target_": "sde_gen.objective.DSM", "time_sampler": stratified}, "law": 1}
    new = upgrade(config)
    assert new["law"] == 1, "not an argument of these classes"
    time_sampler = instantiate(new["objective"]["time_sampler"])
    assert time_sampler == Stratified(distribution=Importance(t_max=0.9))
