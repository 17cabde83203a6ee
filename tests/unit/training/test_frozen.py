"""Training of some parameters: the others are constant, without average or optimizer state."""

import pytest
import torch

from sde_gen.model.adapter import LoRA
from sde_gen.training.frozen import freeze
from tests.helpers.tiny_run import Net, same, trainer, weights


def frozen_net(*patterns: str) -> Net:
    torch.manual_seed(0)
    net = Net()
    freeze(net, patterns)
    return net


def test_frozen_parameters_are_constant_without_optimizer_state(tmp_path):
    training = trainer(tmp_path, net=frozen_net("first.*"), settings={"images": 64})
    before = weights(training)
    training.run()
    after = weights(training)
    fixed = {"first.weight", "first.bias"}
    for name in ("net", "ema"):
        for key in training.denoiser.net.state_dict():
            if key != "calls":
                assert torch.equal(before[f"{name}.{key}"], after[f"{name}.{key}"]) == (key in fixed), key
    assert len(training.adam.state_dict()["state"]) == 3
    assert all(
        parameter.requires_grad for group in training.adam.param_groups for parameter in group["params"]
    )


def test_resuming_is_bit_identical(tmp_path):
    first = trainer(tmp_path / "a", net=frozen_net("first.*"), stop=lambda: first.images == 48)
    assert not first.run()
    second = trainer(tmp_path / "a", net=frozen_net("first.*"))
    second.run()
    straight = trainer(tmp_path / "b", net=frozen_net("first.*"))
    straight.run()
    assert same(weights(second), weights(straight))


def test_resuming_with_other_frozen_parameters_is_rejected(tmp_path):
    trainer(tmp_path, net=frozen_net("first.*"), settings={"images": 48}).run()
    for patterns in ((), ("last.*",)):
        with pytest.raises(ValueError, match=r"trains other parameters.*classes\.weight.*freeze="):
            trainer(tmp_path, net=frozen_net(*patterns)).run()
    assert trainer(tmp_path, net=frozen_net("first.*")).run()


def test_freezing_all_parameters_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="all parameters are frozen"):
        trainer(tmp_path, net=frozen_net("*"))
    with pytest.raises(ValueError, match=r"secnd\.\* names no parameter"):
        frozen_net("secnd.*")


def test_only_the_adapter_is_trained_and_resumed(tmp_path):
    def net():
        torch.manual_seed(0)
        return LoRA(rank=2)(Net())

    first = trainer(tmp_path / "a", net=net(), settings={"images": 80}, stop=lambda: first.images == 48)
    before = weights(first)
    assert not first.run()
    second = trainer(tmp_path / "a", net=net(), settings={"images": 80})
    second.run()
    straight = trainer(tmp_path / "b", net=net(), settings={"images": 80})
    straight.run()
    assert same(weights(second), weights(straight))
    moved = {
        key for key, value in weights(second).items() if key in before and not torch.equal(value, before[key])
    }
    assert {key.rpartition(".")[2] for key in moved} == {"a", "b", "calls"}
