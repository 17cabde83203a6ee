"""The training loop: steps, resuming, stopping, and callbacks."""

import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from sde_gen.checkpoint import store as checkpoint
from sde_gen.data import Augmentation, Dataset
from sde_gen.data.codec import Affine
from sde_gen.data.conditioning import Label, Unconditional
from sde_gen.objective import Loss, NoiseDraw, Objective
from sde_gen.sde import VP
from sde_gen.training import JSONL, Callback
from sde_gen.training.ema import WarmupEMA
from sde_gen.training.lr_schedule import ConstantLR
from sde_gen.training.optimizer import Adam, Optimizer
from sde_gen.training.seeding import derive, seeded
from tests.helpers.tiny_run import Net, points, read, same, trainer, weights


@dataclass(frozen=True, kw_only=True)
class Double(Affine):
    """Continuous data in float64, so that sums in another order agree closely."""

    def encode(self, values, noise=None):
        return super().encode(values, noise).double()


@dataclass(frozen=True, kw_only=True)
class Mirror(Augmentation):
    """Change the sign of about half of the samples."""

    def __call__(self, values, generator):
        return torch.where(torch.rand(len(values), 1, generator=generator) < 0.5, values, -values)


@dataclass(frozen=True, kw_only=True)
class Descent(Optimizer):
    """Plain gradient descent: unlike Adam it feels the scale of the gradient."""

    def build(self, parameters):
        return torch.optim.SGD(parameters, lr=self.lr, fused=True)


class Reconstruction(Objective):
    """A loss without randomness."""

    def draw(self, sde, x0, noise):
        del sde, noise
        t = torch.full((len(x0),), 0.5, dtype=torch.float64)
        return NoiseDraw(t, torch.ones_like(t), torch.zeros_like(x0))

    def loss(self, denoiser, x0, draw, **cond):
        error = ((denoiser(x0, draw.t, **cond).eps - x0) ** 2).mean(1)
        return Loss(error, draw.t, error)


def double_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(dropout=0.0, dtype=torch.float64)


def exact(folder, *, callbacks=(), lr=0.5, **settings):
    """A deterministic training in float64 by gradient descent."""
    return trainer(
        folder,
        settings=settings,
        net=double_net(),
        objective=Reconstruction(),
        codec=Double(),
        optimizer=Descent(lr=lr),
        lr_schedule=ConstantLR(warmup=0),
        callbacks=callbacks,
    )


class Records(Callback):
    def __init__(self):
        self.records = []

    def on_log(self, record):
        self.records.append(record)


def flat(training):
    return torch.cat([parameter.detach().flatten() for parameter in training.denoiser.net.parameters()])


def test_a_warm_up_longer_than_the_training_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"warm-up of 32 images is longer than the training of 16"):
        trainer(tmp_path, settings={"images": 16})


def test_accumulated_micro_batches_are_the_big_batch(tmp_path):
    results = {}
    for accumulation in (1, 2, 8):
        callback = Records()
        training = exact(
            tmp_path / str(accumulation),
            callbacks=[callback],
            images=80,
            log_every=8,
            accumulation=accumulation,
        )
        start = flat(training)
        assert training.run()
        results[accumulation] = flat(training), [record["grad_norm"] for record in callback.records]
        assert (flat(training) - start).norm() > 0.1  # it did learn
    for accumulation in (2, 8):
        torch.testing.assert_close(results[accumulation][0], results[1][0], rtol=1e-12, atol=1e-13)
        assert results[accumulation][1] == pytest.approx(results[1][1], rel=1e-6)  # norms are of float64 too


@pytest.mark.parametrize("accumulation", [2, 8])
def test_all_that_is_random_in_a_step_does_not_depend_on_how_it_is_cut(tmp_path, accumulation):
    """Stratified times, noise, dropped labels and a random change of the data, in training and in validation."""
    whole, cut = (
        trainer(
            tmp_path / str(parts),
            settings={"accumulation": parts, "images": 48, "batch_size": 16, "validate": 14},
            net=double_net(),
            codec=Double(),
            augmentation=Mirror(),
            conditioning=Label(classes=3, dropout=0.5),
        )
        for parts in (1, accumulation)
    )
    for training in (whole, cut):
        seen = training.train_step.compute_gradients(
            training.ddp_model, 0, training.metrics.forward_backward_timer
        )
        assert len(seen) == training.settings.accumulation
        training.drawn = [torch.cat(part) for part in zip(*((x0, *loss) for x0, loss in seen), strict=True)]
        training.adam.zero_grad(set_to_none=True)
    assert len(set(whole.drawn[2].tolist())) == 16
    for one, other in zip(whole.drawn, cut.drawn, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-13)
    for training in (whole, cut):
        assert training.run()
    torch.testing.assert_close(flat(cut), flat(whole), rtol=1e-11, atol=1e-12)
    assert cut.validation_loss() == pytest.approx(whole.validation_loss(), rel=1e-11)


def test_the_step_follows_the_mean_gradient_up_to_the_clip(tmp_path):
    indices = trainer(tmp_path / "a").batches.indices(0)
    batch, labels = points().values[indices].double(), points().labels[indices]
    training = exact(tmp_path / "b", images=8, grad_clip=1e9, lr=0.25)
    one = Reconstruction()
    loss = one.loss(training.denoiser, batch, one.draw(VP(), batch, None), label=labels).per_sample.mean()
    gradient = torch.autograd.grad(loss, list(training.denoiser.net.parameters()))
    gradient = torch.cat([part.flatten() for part in gradient])
    start = flat(training)
    training.run()
    torch.testing.assert_close(flat(training), start - 0.25 * gradient, rtol=1e-12, atol=1e-14)

    clip = float(gradient.norm()) / 3
    training = exact(tmp_path / "c", images=8, grad_clip=clip, lr=0.25)
    training.run()
    moved = start - flat(training)
    assert float(moved.norm()) == pytest.approx(0.25 * clip, rel=1e-5)  # the clip guards with + 1e-6
    torch.testing.assert_close(moved / moved.norm(), gradient / gradient.norm(), rtol=1e-10, atol=1e-12)


def test_the_average_follows_the_rule(tmp_path):
    """One minus the rate in every step, against weights collected from outside."""
    seen = []

    class Collect(Callback):
        def on_step_end(self, images):
            seen.append(flat(training))

    training = exact(tmp_path, callbacks=[Collect()], images=80)
    training.ema = WarmupEMA(rate=0.5)
    expected = flat(training)
    training.run()
    for step, value in enumerate(seen, start=1):
        rate = min(0.5, (1 + step) / (10 + step))
        expected = rate * expected + (1 - rate) * value
    average = torch.cat([parameter.flatten() for parameter in training.ema_model.net.parameters()])
    torch.testing.assert_close(average, expected, rtol=1e-12, atol=1e-14)
    assert not any(parameter.requires_grad for parameter in training.ema_model.parameters())


class StopAt:
    """A callback that stops after the given number of steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 19])
def test_stopped_training_resumes_bit_identically(tmp_path, steps):
    whole = trainer(tmp_path / "whole")
    assert whole.run()
    first = trainer(tmp_path / "parts", stop=StopAt(steps))
    assert not first.run()
    assert first.images == 8 * steps
    second = trainer(tmp_path / "parts", init=99)  # other first weights: all come from the checkpoint
    assert second.run()
    assert same(weights(whole), weights(second))
    assert not same(weights(whole), weights(first))
    left, right = (checkpoint.latest(tmp_path / name / "checkpoints") for name in ("whole", "parts"))
    assert left.about == right.about  # the held-out loss is the same number too
    assert same(read(left.ema), read(right.ema))


class Crash(BaseException):
    pass


def test_a_crash_goes_back_to_the_last_checkpoint_and_ends_in_the_same_bits(tmp_path):
    whole = trainer(tmp_path / "whole", callbacks=[JSONL(tmp_path / "whole" / "log.jsonl")])
    whole.run()

    class Fall(Callback):
        def on_step_end(self, images):
            if images == 72:  # the checkpoint is at 48, a record at 64
                raise Crash

    def parts(*callbacks):
        return trainer(tmp_path / "parts", callbacks=[JSONL(tmp_path / "parts" / "log.jsonl"), *callbacks])

    with pytest.raises(Crash):
        parts(Fall()).run()
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"images": 8')  # a line cut short by a kill
    second = parts()
    second.run()
    assert same(weights(whole), weights(second))

    def log(name):
        records = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        return [
            (record["images"], record["lr"], record["images"] > 64 and record["loss"]) for record in records
        ]

    assert log("parts") == log("whole")  # the record at 64 spans a restart, so its loss may differ
    assert [images for images, _, _ in log("whole")] == list(range(16, 161, 16))


def test_everything_random_follows_from_the_seed_alone(tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = trainer(tmp_path / "1")
    one.run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = trainer(tmp_path / "2")
    two.run()
    assert same(weights(one), weights(two))
    other = trainer(tmp_path / "3", settings={"seed": 1})
    other.run()
    assert not same(weights(one), weights(other))


def test_seeds_of_steps_processes_and_streams_differ():
    seeds = {derive(*key) for key in torch.cartesian_prod(*[torch.arange(5)] * 4).tolist()}
    assert len(seeds) == 5**4
    device = torch.device("cpu")
    draws = []
    for seed in (1, 2, 1):
        with seeded(device, seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_noise_and_times_change_with_step_and_micro_batch(tmp_path):
    """Every point is the same, so what reaches the network differs by its noise alone."""
    seen, label = [], torch.zeros(40, dtype=torch.int64)

    class Spy(Net):
        def forward(self, x, c_noise, *, label=None):
            if self.training:
                seen.extend((*row, float(c)) for row, c in zip(x.tolist(), c_noise, strict=True))
            return super().forward(x, c_noise, label=label)

    data = Dataset(values=torch.zeros(40, 2), labels=label, levels=None, classes=3)
    trainer(tmp_path, net=Spy(), train=data, settings={"images": 24, "accumulation": 2, "validate": 0}).run()
    for number in range(3):  # two coordinates and the noise label
        assert len({row[number] for row in seen}) == 24


def test_the_network_learns_in_training_mode_and_is_averaged_in_the_other(tmp_path):
    training = trainer(tmp_path, settings={"images": 16})
    training.denoiser.eval()
    training.run()
    assert training.denoiser.net.calls == 2  # counted in training mode only
    assert not training.ema_model.training


def test_dropout_masks_change_with_step_and_micro_batch(tmp_path):
    masks = []

    class Spy(Net):
        def forward(self, x, c_noise, *, label=None):
            if self.training:
                masks.append(tuple(self.drop(torch.ones(64)).tolist()))
            return super().forward(x, c_noise, label=label)

    trainer(tmp_path, net=Spy(), settings={"images": 24, "accumulation": 2, "validate": 0}).run()
    assert len(set(masks)) == 6
    assert masks[6:] == masks[4:6], "the last step is played again before it is saved"


def test_callbacks_are_called_with_what_happened(tmp_path):
    calls = []

    class Everything(Callback):
        def on_train_start(self, images, budget):
            calls.append(("start", images, budget))

        def on_step_end(self, images):
            calls.append(("step", images))

        def on_log(self, record):
            calls.append(("log", record["images"]))
            assert json.loads(json.dumps(record)) == record
            assert all(math.isfinite(value) for value in record.values() if not isinstance(value, dict))
            assert 0 <= record["share_outside_forward_backward"] < 1
            assert record["images_per_second"] > 0
            left = (160 - record["images"]) / record["images_per_second"]
            assert record["seconds_left"] == pytest.approx(left)

        def on_preview(self, denoiser, images):
            calls.append(("preview", images))
            assert not denoiser.training
            assert same(dict(denoiser.net.state_dict()), dict(training.ema_model.net.state_dict()))
            assert training.denoiser.training

        def on_checkpoint(self, path, images):
            calls.append(("saved", images))
            assert checkpoint.load(path).images == images

    training = trainer(tmp_path, callbacks=[Everything()])
    assert training.run()
    assert calls[0] == ("start", 0, 160)
    expected = {
        "step": range(8, 161, 8),
        "log": range(16, 161, 16),
        "preview": (80, 160),
        "saved": (48, 96, 144, 160),
    }
    for name, images in expected.items():
        assert [call[1] for call in calls if call[0] == name] == list(images)
    assert calls.index(("saved", 160)) < calls.index(
        ("preview", 160)
    )  # a preview that fails costs no weights
    calls.clear()
    training = trainer(tmp_path, callbacks=[Everything()])
    assert training.run()  # already there: nothing is done, nothing written
    assert calls == [("start", 160, 160)]


def test_training_learns(tmp_path):
    callback = Records()
    training = trainer(
        tmp_path,
        settings={"images": 3200, "batch_size": 32, "log_every": 640},
        optimizer=Adam(lr=1e-2),
        callbacks=[callback],
    )
    before = training.validation_loss()
    training.run()
    assert training.validation_loss() < 0.6 * before
    assert callback.records[-1]["loss"] < 0.7 * callback.records[0]["loss"]


def test_few_held_out_rows_are_repeated_with_other_noise(tmp_path):
    """The loss of three copies of the rows, to the bit."""
    rows = trainer(tmp_path / "rows").train_step.held_out
    once, many, copies = (
        trainer(tmp_path / name, settings={"validate": times * len(rows)})
        for name, times in (("once", 1), ("many", 3), ("copies", 3))
    )
    repeated = replace(
        rows,
        values=torch.cat([rows.values] * 3),
        conditions={key: torch.cat([each] * 3) for key, each in rows.conditions.items()},
    )
    copies.train_step = replace(copies.train_step, held_out=repeated)
    assert many.validation_loss() == copies.validation_loss() != once.validation_loss()


def test_held_out_loss_is_of_the_average_and_the_same_every_time(tmp_path):
    training = trainer(tmp_path)
    training.run()
    first = training.validation_loss()
    assert first == training.validation_loss()
    with torch.no_grad():
        for parameter in training.denoiser.net.parameters():
            parameter.zero_()
    assert first == training.validation_loss()
    with torch.no_grad():
        for parameter in training.ema_model.net.parameters():
            parameter.zero_()
    assert first != training.validation_loss()
    assert trainer(tmp_path / "none", settings={"validate": 0}).validation_loss() is None


@pytest.mark.filterwarnings("error::UserWarning")  # going on with the same settings is silent
def test_resuming_with_other_settings_is_reported(tmp_path):
    trainer(tmp_path, stop=StopAt(2), about={"config": {"sde": "vp", "lr": 1.0}, "shape": (2,)}).run()
    trainer(tmp_path, stop=StopAt(1), about={"config": {"sde": "vp", "lr": 1.0}, "shape": (2,)}).run()
    with pytest.warns(UserWarning, match=r"other settings: config.sde: vp -> ve; config.new: None -> 3"):
        trainer(tmp_path, about={"config": {"sde": "ve", "lr": 1.0, "new": 3}, "shape": (2,)}).run()


def test_checkpoints_of_another_training(tmp_path):
    trainer(tmp_path, stop=StopAt(1)).run()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"seen 8 images, which is not a multiple of batch_size=5"):
        trainer(tmp_path, settings={"batch_size": 5}).run()
    with pytest.raises(ValueError, match=r"another network.*first.bias \(8,\) for \(9,\)"):
        trainer(tmp_path, net=Net(width=9)).run()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_one_training_at_a_time_in_a_folder(tmp_path):
    class Second(Callback):
        def on_step_end(self, images):
            with pytest.raises(ValueError, match="another training is at work in"):
                trainer(tmp_path).run()

    assert trainer(tmp_path, settings={"images": 16}, callbacks=[Second()]).run()
    assert trainer(tmp_path, settings={"images": 16}).run()


def test_plain_data_only_in_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="plain data"):
        trainer(tmp_path, about={"config": nn.ReLU()})


@pytest.mark.parametrize(
    "bad",
    [
        {"images": 0},
        {"batch_size": 0},
        {"keep": 0},
        {"grad_clip": 0.0},
        {"grad_clip": float("nan")},
        {"validate": -1},
        {"seed": -1},
        {"accumulation": 3},
        {"checkpoint_every": 0},
        {"channels_last": "maybe"},
    ],
)
def test_bad_settings(tmp_path, bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"{name}='?{value}"):
        trainer(tmp_path, settings=bad)


def test_channels_last_is_where_images_are(tmp_path):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x, c_noise):
            assert x.is_contiguous(memory_format=torch.channels_last)
            return self.conv(x)

    images = Dataset(
        values=torch.randint(0, 5, (16, 3, 4, 4), dtype=torch.uint8), labels=None, levels=None, classes=0
    )
    training = trainer(tmp_path, net=Image(), train=images, held_out=images, conditioning=Unconditional())
    assert training.denoiser.net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert training.run()
    again = trainer(
        tmp_path / "again",
        net=Image(),
        train=images,
        held_out=images,
        conditioning=Unconditional(),
        stop=StopAt(7),
    )
    again.denoiser.net.load_state_dict(Image().state_dict())
    assert not again.run()
