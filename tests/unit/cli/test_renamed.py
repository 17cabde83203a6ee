"""Stored configurations with former names of arguments."""

from hydra.utils import instantiate

from sde_gen.cli.renamed import upgrade
from sde_gen.objective.time_sampler import Importance
from sde_gen.objective.weighting import Simple


def test_the_former_argument_law_is_renamed_at_any_depth():
    importance = {"_target_": "sde_gen.time_sampler.importance.Importance", "t_max": 0.9}
    stratified = {"_target_": "sde_gen.time_sampler.Stratified", "law": importance}
    config = {"objective": {"_target_": "sde_gen.objective.DSM", "time_sampler": stratified}, "law": 1}
    new = upgrade(config)
    assert new["law"] == 1, "not an argument of these classes"
    objective = instantiate(new["objective"], weighting=Simple())
    assert objective.time_sampler.distribution == Importance(t_max=0.9)
