"""Averages, learning rates, optimizers and number formats of the training."""

import copy
import math
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from sde_gen.checkpoint.state_dict import from_tensors, load_into, to_tensors
from sde_gen.training import optimizer, precision
from sde_gen.training.ema import EMAUpdater, HalfLifeEMA, WarmupEMA
from sde_gen.training.lr_schedule import ConstantLR, CosineLR, LinearLR
from sde_gen.training.optimizer import Adam, AdamW
from sde_gen.training.precision import Auto, BFloat16, Float32
from tests.helpers.catalogue import make, names

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew():
    """The processor is looked at once a process."""
    precision._processor.cache_clear()
    yield
    precision._processor.cache_clear()


class Number(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


def averaged(rule, nets, start, batch_size=1):
    """The average after nets with these values, one a step."""
    average, net = Number(start), Number(0.0)
    follower = EMAUpdater(average, net)
    for step, value in enumerate(nets, start=1):
        net.value.data.fill_(value)
        net.count += 1
        follower.update(rule.decay(step, step * batch_size, batch_size))
        assert average.count == step  # buffers are copied, not averaged
    return average.value.item()


def test_ema_of_a_constant_rate_is_the_geometric_sum():
    r, n, start = 0.15, 12, 5.0  # below the ramp from the first step on
    expected = r**n * start + n - r * (1 - r**n) / (1 - r)  # for the values 1, 2, ..., n
    assert averaged(WarmupEMA(rate=r), range(1, n + 1), start) == pytest.approx(expected, rel=1e-13)


def test_ema_ramp_telescopes():
    n = 50  # the product of (1 + k) / (10 + k)
    expected = math.factorial(n + 1) * math.factorial(10) / math.factorial(n + 10)
    assert averaged(WarmupEMA(rate=1 - 1e-12), [0.0] * n, 1.0) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 20, 500])
def test_half_life_does_not_depend_on_the_batch_size(batch_size):
    rule = HalfLifeEMA(images=1000, ramp=1e9)
    assert averaged(rule, [0.0] * (1000 // batch_size), 1.0, batch_size) == pytest.approx(0.5, rel=1e-12)


def test_half_life_ramp_is_a_power_of_the_harmonic_number():
    n, ramp = 20, 0.5
    expected = 0.5 ** (sum(1 / k for k in range(1, n + 1)) / ramp)
    assert averaged(HalfLifeEMA(images=1e12, ramp=ramp), [0.0] * n, 1.0, 64) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("name", names("ema"))
def test_ema_starts_from_little_of_the_first_weights(name):
    rule = make("ema", name)
    decays = [rule.decay(step, 64 * step, 64) for step in range(1, 10_000)]
    assert decays[0] < 0.2 < 0.99 < decays[-1] < 1
    assert all(later >= earlier for earlier, later in pairwise(decays))


def test_bad_averages():
    for build in (
        lambda: WarmupEMA(rate=1.0),
        lambda: WarmupEMA(rate=-0.1),
        lambda: HalfLifeEMA(images=0),
        lambda: HalfLifeEMA(ramp=0),
    ):
        with pytest.raises(ValueError, match=r"must (lie|be)"):
            build()


@pytest.mark.parametrize("name", names("lr_schedule"))
def test_a_warm_up_longer_than_the_training_is_warned_of(name):
    schedule = make("lr_schedule", name, warmup=1000)
    with pytest.warns(UserWarning, match=r"1,000 images .* training of 250: .* only 0.25 of"):
        schedule.check(250)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.check(1000)


@pytest.mark.parametrize("name", names("lr_schedule"))
def test_warm_up_is_a_straight_line_from_zero(name):
    budget = 10**9  # decay has not begun
    schedule = make("lr_schedule", name, warmup=1000)
    assert [schedule(images, budget) for images in (0, 250, 500, 1000, 2000)] == pytest.approx(
        [0, 0.25, 0.5, 1, 1]
    )
    assert make("lr_schedule", name, warmup=0)(1, budget) == pytest.approx(1)
    with pytest.raises(ValueError, match="warmup=-1"):
        type(schedule)(warmup=-1)


def test_ends_of_the_learning_rate():
    assert ConstantLR(warmup=0)(100, 100) == 1
    linear = LinearLR(warmup=0, share=0.4)
    assert [linear(p, 100) for p in (1, 60, 80, 90, 100, 107)] == pytest.approx([1, 1, 0.5, 0.25, 0, 0])
    cosine = CosineLR(warmup=0)
    assert [cosine(p, 300) for p in (100, 150, 200, 300, 310)] == pytest.approx([0.75, 0.5, 0.25, 0, 0])
    with pytest.raises(ValueError, match="share=0"):
        LinearLR(share=0)


def problem(dtype=torch.float64):
    """A convolution in another memory format than the usual, and a vector."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    return net.to(memory_format=torch.channels_last)


def set_gradients(net, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = torch.empty_like(parameter).copy_(
            torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        )


def steps(net, optim, first, last, skip=0.0):
    for seed in range(first, last):
        set_gradients(net, seed)
        optimizer.step(optim, lr=0.1 / (1 + seed), skip=torch.tensor(skip))
    return [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        (Adam(lr=0.3, beta1=0.8, beta2=0.9, eps=1e-6), torch.optim.Adam),
        (AdamW(lr=0.3, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1), torch.optim.AdamW),
    ],
)
def test_fused_optimizer_agrees_with_the_plain_one(settings, other):
    mine, original = problem(), problem()
    ours = steps(mine, settings.build(mine.parameters()), 0, 5)
    decay = {"weight_decay": 0.1} if other is torch.optim.AdamW else {}
    plain = other(original.parameters(), lr=0.3, betas=(0.8, 0.9), eps=1e-6, foreach=False, **decay)
    for seed in range(5):
        set_gradients(original, seed)
        plain.param_groups[0]["lr"] = 0.1 / (1 + seed)
        plain.step()
    for a, b in zip(ours, original.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_skipped_step_changes_nothing(name):
    net = problem()
    optim = make("optimizer", name).build(net.parameters())
    before = steps(net, optim, 0, 3)
    state = copy.deepcopy(to_tensors(optim))
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.step(optim, lr=0.1, skip=torch.tensor(1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert all(torch.equal(state[key], value) for key, value in to_tensors(optim).items())


@pytest.mark.parametrize("name", names("optimizer"))
def test_optimizer_resumes_from_its_tensors(name):
    whole, half = problem(torch.float32), problem(torch.float32)
    expected = steps(whole, make("optimizer", name).build(whole.parameters()), 0, 6)
    first = make("optimizer", name).build(half.parameters())
    steps(half, first, 0, 3)
    stored = {key: value.clone().contiguous() for key, value in to_tensors(first).items()}
    second = make("optimizer", name).build(half.parameters())
    from_tensors(second, stored)
    assert all(torch.equal(a, b) for a, b in zip(expected, steps(half, second, 3, 6), strict=True))


def test_tensors_of_another_optimizer_or_network():
    net = problem()
    optim = Adam().build(net.parameters())
    with pytest.raises(ValueError, match=r"entry '9.exp_avg', but there are 4 parameters"):
        from_tensors(optim, {"9.exp_avg": torch.zeros(1)})
    tensors = dict(net.state_dict())
    tensors["2.bias"] = torch.zeros(5)
    tensors["extra"] = tensors.pop("0.bias")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(
        ValueError, match=r"run x .*1 missing \(0.bias\); 1 unexpected \(extra\); .*2.bias \(5,\) for \(2,\)"
    ):
        load_into(net, tensors, what="run x")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", names("optimizer"))
def test_bad_optimizers(name):
    for bad in ({"lr": 0.0}, {"lr": -1.0}, {"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            type(make("optimizer", name))(**bad)
    with pytest.raises(ValueError, match="weight_decay"):
        AdamW(weight_decay=-1)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx512f avx512_bf16", torch.bfloat16),
        ("fpu avx512f amx_bf16 amx_tile", torch.bfloat16),
        ("fpu avx2", torch.float32),
    ],
)
def test_auto_precision_depends_on_the_processor(monkeypatch, flags, dtype):
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor : 0\nflags\t\t: {flags}\n")
    assert Auto().dtype(CPU) is dtype


def test_auto_without_knowledge(monkeypatch):
    def missing(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    assert Auto().dtype(CPU) is torch.float32


def test_bfloat16_where_there_is_none(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "flags\t\t: avx2\n")
    with pytest.warns(UserWarning, match="cpu does not support bfloat16; using float32"):
        assert BFloat16().dtype(CPU) is torch.float32


def test_formats_of_products(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "flags\t\t: avx512_bf16\n")
    a = torch.ones(4, 4)
    with BFloat16().context(CPU):
        assert (a @ a).dtype is torch.bfloat16
    with Float32().context(CPU):
        assert (a @ a).dtype is torch.float32
    assert (a @ a).dtype is torch.float32
