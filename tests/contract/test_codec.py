"""Codecs: every level survives, noise stays in its bin, the log-determinant is that of the map."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logit

from sde_gen.data import Dataset
from sde_gen.data.codec import Affine, Logit, Lossy, OutOfRange, Scaled, Standardized, UniformCodec
from sde_gen.likelihood import bits_per_dim
from sde_gen.noise import IID, PerSample


@pytest.mark.parametrize("levels", [2, 17, 256, 4096])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3.0, 0.5)])
def test_every_level_returns_with_and_without_noise(levels, low, high):
    codec = UniformCodec(levels=levels, low=low, high=high)
    k = torch.arange(levels).repeat(50).reshape(50, levels)
    assert torch.equal(codec.decode(codec.encode(k)), k)
    x = codec.encode(k, IID.seeded(0))
    assert torch.equal(codec.decode(x), k)
    assert low <= float(x.min()) < float(x.max()) <= high


class Extreme:
    """Noise whose distribution function rounds to zero or one."""

    def __init__(self, size):
        self.size = size

    def normal(self, x):
        return torch.full_like(x, self.size)


@pytest.mark.parametrize("levels", [2, 17, 100, 256, 65536])
@pytest.mark.parametrize("size", [-20.0, 9.0])
def test_noise_never_leaves_its_bin(levels, size):
    codec = UniformCodec(levels=levels)
    k = torch.arange(levels).unsqueeze(0)
    assert torch.equal(codec.decode(codec.encode(k, Extreme(size))), k)


@pytest.mark.parametrize(
    "codec",
    [
        UniformCodec(levels=17),
        UniformCodec(levels=256, low=0.0),
        Affine(shift=0.3, scale=2.5),
        Standardized(mean=[1.0, 3.0, 5.0], std=[0.2, 30.0, 4.0]),
        Logit(low=[1.0, 3.3, None], high=[2.0, 70.0, None], mean=[0.1, -2.0, 9.0], std=[0.5, 3.0, 0.1]),
    ],
)
def test_log_det_is_that_of_the_map(codec):
    y = torch.tensor([[1.2, 3.4, 5.6]])
    jacobian = torch.autograd.functional.jacobian(lambda one: codec.encode(one)[0], y)[:, 0]
    assert codec.log_det(codec.encode(y)).item() == pytest.approx(
        float(jacobian.double().slogdet().logabsdet), rel=1e-5
    )


def test_dequantization_is_uniform():
    """The largest gap between the distribution functions, against Kolmogorov's bound at 1e-6."""
    n = 20_000
    y = (UniformCodec(levels=4).encode(torch.ones(1, n), IID.seeded(0)) + 1) * 2 - 1
    gap = (y.flatten().sort().values - torch.arange(n) / n).abs().max()
    assert float(gap) < math.sqrt(math.log(2e6) / 2 / n) + 1 / n


def test_pictures_use_the_full_range():
    codec = UniformCodec(levels=17)
    assert codec.decode_image(codec.encode(torch.arange(17))).tolist()[::8] == [0, 128, 255]
    assert codec.decode(torch.tensor([-5.0, 5.0])).tolist() == [0, 16]


def test_continuous_data_return():
    x = torch.randn(3, 2)
    codec = Affine(shift=1.0, scale=3.0)
    torch.testing.assert_close(codec.decode(codec.encode(x)), x)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bins_cover_the_line_and_hold_their_levels(levels):
    codec = UniformCodec(levels=levels, low=-0.7, high=1.3)
    k = torch.arange(levels)
    x = codec.encode(k, IID.seeded(0)).double()
    low, high = codec.bins(x)
    assert bool(((low < x) & (x < high)).all())
    assert (float(low[0]), float(high[-1])) == (-math.inf, math.inf)
    assert torch.equal(low[1:], high[:-1])  # the bins of neighbors meet
    middles = codec.middles()
    torch.testing.assert_close(middles, codec.encode(k).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(middles[1:-1], 0.5 * (low + high)[1:-1])
    assert torch.equal(codec.decode(middles), k)


@pytest.mark.parametrize(("levels", "first", "last"), [(256, 0.0, 1.0), (256, -1.0, 1.0), (17, 0.0, 16.0)])
def test_levels_already_scaled_are_levels(levels, first, last):
    """The same points, bins and bits as of the integers; the numbers themselves return."""
    k = torch.arange(levels).reshape(1, levels)
    values = (first + (last - first) * k / (levels - 1)).float()
    scaled, plain = (
        Scaled(levels=levels, first=first, last=last, low=0.0),
        UniformCodec(levels=levels, low=0.0),
    )
    x = scaled.encode(values, PerSample([7]))
    assert torch.equal(x, plain.encode(k, PerSample([7])))
    torch.testing.assert_close(scaled.decode(x), values)
    assert torch.equal(scaled.decode_image(x), plain.decode_image(x))
    assert torch.equal(scaled.log_det(x), plain.log_det(x))
    assert torch.equal(scaled.middles(), plain.middles())
    assert torch.equal(scaled.bins(x)[0], plain.bins(x)[0])


def test_numbers_that_are_no_levels_are_refused():
    for values in (torch.tensor([[0.5, 0.123]]), torch.tensor([[0.0, 1.5]]), torch.tensor([[float("nan")]])):
        with pytest.raises(ValueError, match="codec=affine"):
            Scaled(levels=3).encode(values)


def test_continuous_data_have_no_bins():
    for ask in (lambda: Affine().bins(torch.zeros(1, 2)), lambda: Affine().middles()):
        with pytest.raises(ValueError, match="Affine is for continuous data"):
            ask()


def test_standardized_vectors_have_their_own_mean_and_spread_and_return():
    values = (
        torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1.0, 1e4]) + 7
    )
    codec = Standardized().fit(Dataset(values=values, levels=None))
    x = codec.encode(values).double()
    torch.testing.assert_close(x.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(x.std(0, unbiased=False), torch.ones(3).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(codec.decode(x.float()), values, rtol=1e-6, atol=1e-6)
    again = Standardized().restore(codec.stored())
    assert torch.equal(again.encode(values), codec.encode(values))
    given = Standardized(mean=[0.0, 0.0, 0.0]).fit(Dataset(values=values, levels=None))
    assert (given.mean, given.std) == ([0.0, 0.0, 0.0], codec.std)


def test_vectors_that_cannot_be_standardized_are_refused():
    def data(values, levels=None):
        return Dataset(values=values, levels=levels)

    values = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 3.0
    for wrong, words in (
        (lambda: Standardized().fit(data(values)), "number 1 of the samples never changes"),
        (
            lambda: Standardized().fit(data(torch.zeros(4, 1, 2, 2).byte(), 4)),
            "codec=standardized is for continuous numbers",
        ),
        (lambda: Standardized().encode(values), "not known"),
        (lambda: Standardized(mean=[0.0], std=[1.0]).encode(values), r"shape \(2,\); expected \(1,\)"),
        (lambda: Standardized(mean=[0.0], std=[1.0]).log_det(values), r"shape \(2,\); expected \(1,\)"),
        (lambda: Standardized(mean=[0.0], std=[1.0, 2.0]), "mean has 1 numbers, std 2"),
        (lambda: Standardized(mean=[0.0], std=[0.0]), "std=0.0 must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


class Halved(Lossy):
    """Keeps half of every vector."""

    def encode(self, values, noise=None):
        return values[:, ::2].float()

    def decode(self, x):
        return x.repeat_interleave(2, 1)

    def decode_image(self, x):
        return self.decode(x)


def test_a_lossy_codec_has_no_likelihood_of_the_data():
    codec, values = Halved(), torch.randn(3, 4)
    assert codec.decode(codec.encode(values)).shape == values.shape
    with pytest.raises(ValueError, match="Halved loses information"):
        bits_per_dim(torch.zeros(3), codec.encode(values), codec)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: UniformCodec(levels=1), "codec=affine"),
        (lambda: UniformCodec(levels=None), "codec=affine"),
        (lambda: UniformCodec(levels=8, low=1.0, high=1.0), "low < high"),
        (lambda: Affine(scale=0.0), "positive"),
        (lambda: Scaled(levels=1), "at least 2"),
        (lambda: Scaled(levels=8, first=1.0), "first < last"),
    ],
)
def test_impossible_settings(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


@pytest.mark.parametrize(
    "codec", [UniformCodec(levels=17), UniformCodec(levels=4, low=0.0, high=0.5), Scaled(levels=17)]
)
def test_limits_are_those_of_the_data_and_reached_by_it(codec):
    values = codec.decode(torch.linspace(-9, 9, 400)[:, None])
    x = torch.cat([codec.encode(values, IID.seeded(i)) for i in range(200)])
    low, high = codec.limits
    assert low <= float(x.min()) < low + 0.01 * (high - low)
    assert high >= float(x.max()) > high - 0.01 * (high - low)


def test_continuous_data_have_no_limits():
    assert Affine().limits is None
    assert OutOfRange.of(torch.full((1, 2), 1e9), Affine()) is None


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 4.0)])
def test_values_are_out_of_range_beyond_a_tenth_of_it_and_four_deviations_of_noise(low, high):
    """Of 1000 values some lie a hair beyond 0.1 of the width and 4 sigma, on either side; as many a hair within."""
    codec, width, sigma = UniformCodec(levels=16, low=low, high=high), high - low, 0.02
    edge = 0.1 * width + 4 * sigma
    x = torch.full((10, 100), 0.5 * (low + high)).double()
    x[0, :4] = torch.tensor([low - edge - 1e-6, high + edge + 1e-6, low - edge + 1e-6, high + edge - 1e-6])
    found = OutOfRange.of(x, codec, sigma=sigma)
    assert found.share == pytest.approx(0.002)
    assert (found.low, found.high) == (pytest.approx(low - edge), pytest.approx(high + edge))
    assert not found.notable


@pytest.mark.parametrize(
    ("count", "value", "notable"),
    [
        (0, 0.0, False),
        (10, 1.3, False),
        (11, 1.3, True),
        (11, -1.3, True),
        (1, 2.9, False),
        (1, -3.1, True),
        (1, 1e5, True),
    ],
)
def test_one_in_a_hundred_or_one_that_is_far_away_is_notable(count, value, notable):
    x = torch.zeros(10, 100)
    x[0, :count] = value
    found = OutOfRange.of(x, UniformCodec(levels=256))
    assert found.notable == notable
    assert found.share == pytest.approx(count / 1000)
    assert found.farthest == pytest.approx(value)
    assert ("no value" in str(found)) == (count == 0)


def test_good_samples_are_in_range():
    """Samples of levels, each a step of the ODE's error away: what a trained model leaves is no warning."""
    codec = UniformCodec(levels=17)
    x = codec.encode(torch.arange(17).repeat(100, 1)) + 0.02 * torch.randn(
        100, 17, generator=torch.Generator().manual_seed(0)
    )
    found = OutOfRange.of(x, codec)
    assert found.share == 0
    assert not found.notable


@pytest.mark.parametrize("event", [(3,), (2, 5), (2, 3, 4), (2, 2, 3, 2)])
def test_standardized_channels_return_and_the_log_det_is_that_of_the_map(event):
    """Mean and deviation against NumPy's over every axis but that of the channels."""
    scale = torch.arange(1.0, event[0] + 1).view(-1, *[1] * (len(event) - 1))
    values = 5 * scale + scale * torch.randn(50, *event, generator=torch.Generator().manual_seed(0))
    codec = Standardized().fit(Dataset(values=values, levels=None))
    x = codec.encode(values).double().numpy()
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    np.testing.assert_allclose(x.mean(axes), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axes), 1, rtol=1e-6)
    torch.testing.assert_close(codec.decode(codec.encode(values)), values)
    y, encode = values[:1], lambda one: codec.encode(one).flatten()
    jacobian = torch.autograd.functional.jacobian(encode, y).reshape(y.numel(), y.numel())
    assert codec.log_det(codec.encode(y)).item() == pytest.approx(
        float(jacobian.double().slogdet().logabsdet), rel=1e-5
    )
    assert Standardized().restore(codec.stored()) == codec


def test_a_channel_that_never_changes_is_refused():
    values = torch.cat([torch.full((9, 1, 4), 3.0), torch.randn(9, 1, 4)], 1)
    with pytest.raises(ValueError, match="channel 0 of the samples never changes"):
        Standardized().fit(Dataset(values=values, levels=None))


def test_statistics_do_not_depend_on_the_blocks(monkeypatch):
    data = Dataset(values=torch.randn(70, 2, 3), levels=None)
    whole = Standardized().fit(data)
    monkeypatch.setattr("sde_gen.data.codec.standardized.BLOCK", 50)
    parts = Standardized().fit(data)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-12)


BOUNDS = {"low": [-1.0, 0.0, None], "high": [1.0, 1e-3, None]}


def bounded(n, event):
    """Numbers between the bounds, densest at the ends."""
    u = torch.rand(n, *event, generator=torch.Generator().manual_seed(0))
    shape = (-1, *[1] * (len(event) - 1))
    middle, width = torch.tensor([0.0, 5e-4, 7.0]).view(shape), torch.tensor([1.0, 5e-4, 40.0]).view(shape)
    return middle + width * torch.sin(math.pi * (u - 0.5)) * 0.9999


@pytest.mark.parametrize("event", [(3,), (3, 5), (3, 2, 4)])
def test_bounded_numbers_return_standardized(event):
    """SciPy's logit, with mean and deviation over every axis but that of the channels."""
    values = bounded(400, event)
    codec = Logit(**BOUNDS).fit(Dataset(values=values, levels=None))
    expected = np.moveaxis(values.double().numpy(), 1, -1)
    expected[..., :2] = logit((expected[..., :2] - [-1.0, 0.0]) / [2.0, 1e-3])
    expected = (expected - expected.mean(tuple(range(len(event))))) / expected.std(tuple(range(len(event))))
    np.testing.assert_allclose(
        np.moveaxis(codec.encode(values).numpy(), 1, -1), expected, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(codec.decode(codec.encode(values)), values, rtol=1e-5, atol=1e-9)
    assert Logit(**BOUNDS).restore(codec.stored()) == codec
    y = values[:1].double()
    x = codec.encode(y)
    slope = torch.autograd.functional.jacobian(lambda one: codec.decode(one).flatten(), x.double())
    assert codec.log_det(x).item() == pytest.approx(
        -float(slope.reshape(y.numel(), y.numel()).slogdet().logabsdet), rel=1e-9
    )


def test_a_density_of_bounded_numbers_has_mass_one():
    """exp of log N(x; 0, 1) + log dx/dy, integrated over y by the trapezoidal rule."""
    codec = Logit(low=[2.0], high=[5.0], mean=[0.3], std=[0.8])
    y = torch.linspace(2, 5, 40_003, dtype=torch.float64)[1:-1, None]
    x = codec.encode(y).double()
    density = torch.exp(-0.5 * x[:, 0] ** 2 + codec.log_det(x)) / math.sqrt(2 * math.pi)
    assert float(torch.trapezoid(density, y[:, 0])) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_never_reach_their_bounds(dtype):
    codec = Logit(low=[-1.0, 100.0], high=[1.0, 100.5], mean=[0.0, 0.0], std=[1.0, 1.0])
    y = codec.decode(torch.tensor([[-1e4, -1e4], [1e4, 1e4]], dtype=dtype))
    assert bool(((y > torch.tensor([-1.0, 100.0])) & (y < torch.tensor([1.0, 100.5]))).all())
    assert bool(torch.isfinite(codec.encode(y)).all())
    assert bool(torch.isfinite(codec.log_det(torch.tensor([[-1e4, 1e4]], dtype=dtype))).all())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Logit(low=[0.0], high=[0.0]), "low < high"),
        (lambda: Logit(low=[0.0], high=[None]), "or null for both"),
        (lambda: Logit(low=[0.0], high=[1.0, 2.0]), "low has 1 numbers, high 2"),
        (lambda: Logit(low=[], high=[]), "low has 0 numbers"),
        (lambda: Logit(low=[0.0], high=[1.0], std=[-1.0]), "std=-1.0 must be positive"),
        (
            lambda: Logit(low=[0.0], high=[1.0]).fit(
                Dataset(values=torch.tensor([[0.5], [1.0]]), levels=None)
            ),
            r"number 0 of sample 1 does not lie between its bounds 0.0 and 1.0: widen codec.low and codec.high",
        ),
        (
            lambda: Logit(low=[0.0], high=[1.0]).fit(Dataset(values=torch.rand(4, 2), levels=None)),
            r"shape \(2,\); expected \(1,\)",
        ),
        (
            lambda: Logit(low=[0.0], high=[1.0]).fit(Dataset(values=torch.zeros(4, 1).byte(), levels=4)),
            "codec=logit is for continuous numbers",
        ),
        (lambda: Logit(low=[0.0], high=[1.0]).encode(torch.full((1, 1), 0.5)), "not known"),
    ],
)
def test_impossible_bounds(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
