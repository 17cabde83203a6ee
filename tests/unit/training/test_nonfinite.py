"""Numbers that are not finite stop the training, explain themselves and harm nothing."""

import json
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.data import Batches
from sde_gen.data.codec import Affine
from sde_gen.objective import Loss, NoiseDraw, Objective
from sde_gen.training import Callback, Trainer
from sde_gen.training.nonfinite import NonFiniteGuard
from sde_gen.training.optimizer import Adam, AdamW
from tests.helpers.tiny_run import points, read, same, trainer, weights

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
    """The same training without poison, stopped after the given number of steps."""
    left = iter(range(steps - 1, -1, -1))
    training = trainer(folder, settings=SETTINGS, stop=lambda: next(left) == 0)
    training.run()
    return training


def learned(training):
    """Weights and the optimizer's state; the average moves on by itself until somebody looks."""
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

    summary = json.loads((tmp_path / "a" / "not_finite.json").read_text())
    tensors = safetensors.torch.load_file(tmp_path / "a" / "not_finite.safetensors")
    assert (summary["step"], summary["seed"]) == (step, 3)
    assert [sample["row"] for sample in summary["samples"]] == [row]
    assert tensors["x0"].isnan().all(1).nonzero().flatten().tolist() == [row]
    assert tensors["per_sample"].isnan().nonzero().flatten().tolist() == [row]
    sample, t = summary["samples"][0], tensors["t"][row]
    assert sample["t"] == float(t)
    assert sample["sigma"] == float(training.denoiser.sde.sigma(t))
    assert sample["log_snr"] == float(training.denoiser.sde.log_snr(t))


def test_late_checks_as_on_a_gpu_report_the_same(tmp_path):
    class Late(Trainer):
        def _check(self):
            if self.images >= self.settings.images:
                super()._check()

    settings = {**SETTINGS, "checkpoint_every": 160}
    early = trainer(tmp_path / "a", settings=settings, codec=Poisoned())
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

    class Spoiled(Objective):
        def draw(self, sde, x0, noise):
            t = torch.linspace(0.1, 0.9, len(x0), dtype=torch.float64)
            return NoiseDraw(t, torch.ones_like(t), torch.zeros_like(x0))

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


def test_guard_remembers_first_nonfinite_step():
    def number(value):
        return torch.tensor(value)

    guard = NonFiniteGuard(torch.device("cpu"))
    assert guard.first() is None
    good, nan, inf = number(1.0), number(float("nan")), number(float("inf"))
    flags = [
        float(guard.update(step, *pair))
        for step, pair in enumerate([(good, good), (good, nan), (good, good), (inf, good)])
    ]
    assert flags == [0, 1, 1, 1]
    assert guard.first() == 1
    for pair in ((inf, good), (good, inf), (nan, good)):
        guard = NonFiniteGuard(torch.device("cpu"))
        assert float(guard.update(5, *pair)) == 1
        assert guard.first() == 5


OFTEN = {"checkpoint_every": 8, "images": 80}


@pytest.mark.parametrize(
    ("lr", "words"),
    [(1e12, r"the loss has exploded to .*e\+"), (1e38, "the loss is not finite with the weights after")],
)
def test_exploded_weights_are_never_saved(tmp_path, lr, words):
    """Finite weights too: those of 1e12 have a loss of 1e24, after which everything else follows."""
    trainer(tmp_path, settings={**OFTEN, "keep": 1}).run()
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    training = trainer(tmp_path, settings={**OFTEN, "images": 160, "keep": 1}, optimizer=Adam(lr=lr))
    words += rf".* step 10 .*goes on from {tmp_path}/checkpoints/000000000080; usual remedies: a lower"
    with pytest.raises(FloatingPointError, match=words):
        training.run()
    after = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert after == before
    summary = json.loads((tmp_path / "not_finite.json").read_text())
    assert (summary["step"], summary["weights"]) == (10, "after the step")
    going_on = trainer(tmp_path, settings={**OFTEN, "images": 160, "keep": 1})
    assert going_on.run()
    assert checkpoint.latest(tmp_path / "checkpoints").images == 160


def test_an_explosion_between_two_checkpoints_is_measured_by_the_first_loss(tmp_path):
    """The loss of the same batch before the step is as large as after it."""
    training = trainer(tmp_path, settings={"images": 80, "checkpoint_every": 40}, optimizer=Adam(lr=1e12))
    with pytest.raises(FloatingPointError, match=r"step 4 .*there is no checkpoint yet"):
        training.run()
    assert not (tmp_path / "checkpoints").exists()


def test_the_last_checkpoint_that_a_step_has_confirmed_is_kept(tmp_path):
    """The checkpoint of the failing step may be at fault; keep=1 would leave it alone."""
    training = trainer(tmp_path, settings={**SETTINGS, "keep": 1}, codec=Poisoned())
    words = "goes on from .*000000000020, which holds these weights: to go on from .*000000000016, delete it"
    for _ in range(2):  # resumed, it fails at once, and nothing is lost
        with pytest.raises(FloatingPointError, match=words):
            training.run()
        assert [path.name for path in checkpoint.paths(tmp_path / "checkpoints")] == [
            f"{n:012d}" for n in (16, 20)
        ]
        training = trainer(tmp_path, settings={**SETTINGS, "keep": 1}, codec=Poisoned())
    assert trainer(tmp_path, settings={**SETTINGS, "keep": 1}).run()
    best = checkpoint.best_path(tmp_path / "checkpoints")
    assert set(checkpoint.paths(tmp_path / "checkpoints")) == {best, tmp_path / "checkpoints" / f"{160:012d}"}


def test_a_training_clears_what_a_killed_one_left(tmp_path):
    """Even one with nothing left to do; what a stopped one keeps is deleted once a step has confirmed the newest."""
    left = iter(range(9, -1, -1))
    settings = {**OFTEN, "keep": 1, "validate": 0}
    trainer(tmp_path, settings=settings, stop=lambda: next(left) == 5).run()
    store = tmp_path / "checkpoints"
    assert [path.name for path in checkpoint.paths(store)] == [f"{n:012d}" for n in (32, 40)]
    trainer(tmp_path, settings=settings).run()
    assert [path.name for path in store.iterdir()] == [f"{80:012d}"]
    for name in (".000000000080.old", ".000000000088.new"):
        (store / name).mkdir()
    trainer(tmp_path, settings=settings).run()
    assert [path.name for path in store.iterdir()] == [f"{80:012d}"]


def test_the_reproducer_reproduces_the_step(tmp_path):
    """From its weights, the step and the seed alone."""

    class Spoiled(Callback):
        def on_step_end(self, images):
            if images == 24:
                training.denoiser.net.last.weight.data.mul_(1e30)

    training = trainer(tmp_path, settings=SETTINGS, callbacks=[Spoiled()])
    with pytest.raises(FloatingPointError, match="batch and weights are in"):
        training.run()
    tensors = safetensors.torch.load_file(tmp_path / "not_finite.safetensors")
    summary = json.loads((tmp_path / "not_finite.json").read_text())
    assert summary["about"]["config"] == {"name": "tiny"}
    fresh = trainer(tmp_path / "fresh", settings={**SETTINGS, "seed": summary["seed"]}, init=7)
    net = {name[4:]: value for name, value in tensors.items() if name.startswith("net.")}
    fresh.denoiser.net.load_state_dict(net)
    fresh.denoiser.train()
    played = fresh.train_step.compute_gradients(
        fresh.denoiser, summary["step"], fresh.metrics.forward_backward_timer
    )
    assert torch.equal(torch.cat([x0 for x0, _ in played]), tensors["x0"])
    assert torch.equal(torch.cat([loss.per_sample for _, loss in played]), tensors["per_sample"])


def test_a_full_disk_does_not_hide_what_happened(tmp_path):
    (tmp_path / "not_finite.safetensors").mkdir()
    with pytest.raises(
        FloatingPointError, match=r"not finite in step 5 .*could not be written \(.*not_finite"
    ):
        trainer(tmp_path, settings=SETTINGS, codec=Poisoned()).run()


@pytest.mark.parametrize("part", ["net", "ema", "optimizer"])
def test_a_stored_number_that_is_not_finite_is_refused(tmp_path, part):
    trainer(tmp_path, settings={"images": 96}).run()
    saved = checkpoint.latest(tmp_path / "checkpoints")
    parts = {name: read(getattr(saved, name)) for name in checkpoint.PARTS}
    name = next(name for name, value in parts[part].items() if value.ndim == 2)
    parts[part][name] = parts[part][name].clone().index_fill_(0, torch.tensor([1]), torch.nan)
    checkpoint.save(tmp_path / "checkpoints", Checkpoint(images=96, about=saved.about, **parts))
    what = {"net": "weights", "ema": "averaged weights", "optimizer": "numbers of the optimizer"}[part]
    words = rf"000000000096 .* holds {what} that are not finite; delete it to go on from .*000000000048"
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, settings={"images": 160}).run()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_average_that_is_not_finite_is_not_saved(tmp_path, bad):
    class Spoiled(Callback):
        def on_step_end(self, images):
            if images == 64:
                training.ema_model.net.last.bias.data[0] = bad

    training = trainer(tmp_path, callbacks=[Spoiled()])
    words = "the averaged weights at 96 images are not finite, so they are not saved; .*goes on from .*000000000048"
    with pytest.raises(FloatingPointError, match=words):
        training.run()
    assert [path.name for path in checkpoint.paths(tmp_path / "checkpoints")] == ["000000000048"]


@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("numbers", [{"lr": float("inf")}, {"lr": float("nan")}, {"eps": float("inf")}])
def test_optimizer_hyperparameters_must_be_finite(kind, numbers):
    with pytest.raises(ValueError, match=r"(lr|eps)=(inf|nan) must be a finite number"):
        kind(**numbers)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (float("inf"), "must be a finite number"),
        (float("nan"), "must be a finite number"),
        (-1.0, "must be finite and not negative"),
    ],
)
def test_weight_decay_must_be_finite(decay, expected):
    with pytest.raises(ValueError, match=f"weight_decay={decay} {expected}"):
        AdamW(weight_decay=decay)
