"""Numbers that are not finite stop the training, explain themselves and harm nothing."""

import json
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch

from sde_gen.codec import Affine
from sde_gen.data import Batches
from sde_gen.engine import Trainer
from sde_gen.engine.watchdog import Watchdog
from sde_gen.objective import Draw, Loss
from tests.tiny import points, same, trainer, weights

SETTINGS = {"batch_size": 4, "accumulation": 2, "checkpoint_every": 4, "keep": 99, "seed": 3}
POISON = int(Batches(size=40, batch_size=4, seed=3).indices(5)[2])
"""Index of a sample that is first seen in step 5."""


@dataclass(frozen=True, kw_only=True)
class Poisoned(Affine):
    """A map that fails on one sample."""

    def encode(self, values, noise=None):
        bad = (values == points().values[POISON]).all(1, keepdim=True)
        return torch.where(bad, torch.nan, super().encode(values, noise))


def unharmed(folder, steps):
    """The same training without poison, stopped after so many steps."""
    left = iter(range(steps - 1, -1, -1))
    training = trainer(folder, settings=SETTINGS, stop=lambda: next(left) == 0)
    training.run()
    return training


def learned(training):
    """Weights and the optimiser's state; the average moves on by itself until somebody looks."""
    return {
        name: value for name, value in weights(training).items() if "calls" not in name and "ema" not in name
    }


def test_a_bad_sample_is_named_with_its_time_and_noise_level(tmp_path):
    training = trainer(tmp_path / "a", settings=SETTINGS, codec=Poisoned())
    step, row = 5, 2
    assert training.batches.indices(step)[row] == POISON
    expected = rf"the loss is not finite in step {step} \(row {row}: t=.*log-SNR.*sigma.*lower learning rate"
    with pytest.raises(FloatingPointError, match=expected):
        training.run()

    good = unharmed(tmp_path / "b", step)
    assert same(learned(training), learned(good))
    saved = sorted(path.name for path in (tmp_path / "a" / "checkpoints").iterdir())
    assert saved == sorted(path.name for path in (tmp_path / "b" / "checkpoints").iterdir())
    for path in (
        f"checkpoints/{name}/{file}.safetensors" for name in saved for file in ("net", "ema", "optimizer")
    ):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()

    told = json.loads((tmp_path / "a" / "not_finite.json").read_text())
    tensors = safetensors.torch.load_file(tmp_path / "a" / "not_finite.safetensors")
    assert (told["step"], told["seed"]) == (step, 3)
    assert [sample["row"] for sample in told["samples"]] == [row]
    assert tensors["x0"].isnan().all(1).nonzero().flatten().tolist() == [row]
    assert tensors["per_sample"].isnan().nonzero().flatten().tolist() == [row]
    sample, t = told["samples"][0], tensors["t"][row]
    assert sample["t"] == float(t)
    assert sample["sigma"] == float(training.denoiser.sde.sigma(t))
    assert sample["log_snr"] == float(training.denoiser.sde.log_snr(t))


def test_looking_late_as_on_a_gpu_tells_the_same(tmp_path):
    class Late(Trainer):
        def _check(self):
            if self.images >= self.settings.images:
                super()._check()

    early = trainer(tmp_path / "a", settings=SETTINGS, codec=Poisoned())
    with pytest.raises(FloatingPointError) as first:
        early.run()
    parts = {
        name: getattr(early, name)
        for name in ("objective", "held_out", "optimizer", "lr_schedule", "ema", "precision")
    }
    fresh = trainer(tmp_path / "c")
    late = Late(
        denoiser=fresh.denoiser,
        train=fresh.train,
        codec=Poisoned(),
        augmentation=fresh.augmentation,
        settings=early.settings,
        folder=tmp_path / "b",
        about={},
        conditioning=fresh.conditioning,
        **parts,
    )
    late._save = lambda: None  # on a GPU somebody looks before every checkpoint
    with pytest.raises(FloatingPointError) as second:
        late.run()
    assert str(first.value) == str(second.value).replace(str(tmp_path / "b"), str(tmp_path / "a"))
    assert same(learned(early), learned(late))


@pytest.mark.parametrize(
    ("factor", "what"), [(0.0, "the gradient"), (float("inf"), "the loss"), (float("nan"), "the loss")]
)
def test_gradients_and_infinities_too(tmp_path, factor, what):
    """sqrt(|w|) at w = 0 is a finite zero whose gradient is not."""

    class Spoiled:
        def draw(self, sde, x0, noise):
            t = torch.linspace(0.1, 0.9, len(x0), dtype=torch.float64)
            return Draw(t, torch.ones_like(t), torch.zeros_like(x0))

        def loss(self, denoiser, x0, draw, **cond):
            error = (denoiser(x0, draw.t, **cond).eps - x0).square().mean(1)
            w = denoiser.net.first.weight
            spoiled = error + (w - w).abs().sqrt().sum() if factor == 0 else error * factor
            return Loss(spoiled, draw.t, error)

    training = trainer(tmp_path, objective=Spoiled())
    before = {name: value.clone() for name, value in training.denoiser.net.named_parameters()}
    with pytest.raises(FloatingPointError, match=rf"{what}.* not finite in step 0 "):
        training.run()
    assert same(before, dict(training.denoiser.net.named_parameters()))
    assert not (tmp_path / "checkpoints").exists()


def test_the_first_bad_step_is_remembered():
    def number(value):
        return torch.tensor(value)

    dog = Watchdog(torch.device("cpu"))
    assert dog.first() is None
    good, nan, inf = number(1.0), number(float("nan")), number(float("inf"))
    flags = [
        float(dog.watch(step, *pair))
        for step, pair in enumerate([(good, good), (good, nan), (good, good), (inf, good)])
    ]
    assert flags == [0, 1, 1, 1]
    assert dog.first() == 1
    for pair in ((inf, good), (good, inf), (nan, good)):
        dog = Watchdog(torch.device("cpu"))
        assert float(dog.watch(5, *pair)) == 1
        assert dog.first() == 5
