"""Stationary processes: covariance, entropy and spectrum against independent computations."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch

from sde_gen.data import Autoregressive, GaussianProcess

PROCESSES = [Autoregressive(length=12), Autoregressive(length=9, coefficients=[-0.4, 0.3], innovation=0.5),
             GaussianProcess(length=12), GaussianProcess(length=8, scale=2.0, noise=0.6)]  # fmt: skip


@pytest.mark.parametrize("process", PROCESSES[:2])
def test_covariance_of_an_autoregression_is_that_of_filtered_noise(process):
    """The impulse response of the filter 1 / (1 - phi_1 z - phi_2 z^2) by SciPy."""
    impulse = np.zeros(2000)
    impulse[0] = math.sqrt(process.innovation_variance)
    first, second = process.coefficients
    response = scipy.signal.lfilter([1], [1, -first, -second], impulse)
    expected = [response[: 2000 - lag] @ response[lag:] for lag in range(process.length)]
    np.testing.assert_allclose(process.autocovariance(), expected, rtol=1e-10)


@pytest.mark.parametrize("process", PROCESSES)
def test_entropy_is_the_sum_of_those_of_the_innovations(process):
    """The prediction errors of the Levinson recursion, solved by SciPy for every number of past times."""
    c = process.autocovariance().numpy()
    errors = [c[0]]
    errors += [
        c[0] - c[1 : n + 1] @ scipy.linalg.solve_toeplitz(c[:n], c[1 : n + 1]) for n in range(1, len(c))
    ]
    expected = 0.5 * sum(math.log(2 * math.pi * math.e * error) for error in errors)
    assert process.entropy() == pytest.approx(expected, rel=1e-10)


def test_entropy_rate_is_that_of_a_window_more():
    process = Autoregressive()
    longer = Autoregressive(length=process.length + 1)
    assert process.entropy_rate() == pytest.approx(longer.entropy() - process.entropy(), rel=1e-10)
    assert float(process.autocovariance()[0]) == pytest.approx(1)


@pytest.mark.parametrize("process", PROCESSES)
def test_periodogram_is_that_of_the_covariance(process):
    """The diagonal of F C F^H by NumPy's discrete Fourier transform of every column."""
    transform = np.fft.rfft(np.eye(process.length), axis=0)
    power = np.einsum("kt,ts,ks->k", transform, process.covariance().numpy(), transform.conj()).real
    np.testing.assert_allclose(process.periodogram(), power / process.length, rtol=1e-10)


@pytest.mark.parametrize("process", [PROCESSES[0], PROCESSES[2]])
def test_windows_have_the_covariance(process):
    """Six standard errors of each of 144 products: a false alarm in three million runs; the seed is fixed."""
    x = process.load().train.values[:, 0].double()
    products = x[:, :, None] * x[:, None, :]
    error = products.std(0) / len(x) ** 0.5
    assert bool(((products.mean(0) - process.covariance()).abs() < 6 * error).all())
    assert process.load().train.shape == (1, 12)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Autoregressive, {"coefficients": [1.0, 0.1]}),
        (Autoregressive, {"coefficients": [0.0, -1.0]}),
        (Autoregressive, {"coefficients": [0.5]}),
        (Autoregressive, {"innovation": 0.0}),
        (Autoregressive, {"length": 1}),
        (GaussianProcess, {"noise": 0.0}),
        (GaussianProcess, {"scale": -1.0}),
        (GaussianProcess, {"count": 0}),
    ],
)
def test_processes_that_are_none(kind, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)


def test_values_are_float32_and_splits_differ():
    splits = GaussianProcess(count=5, test_count=5).load()
    assert splits.train.values.dtype == torch.float32
    assert not torch.equal(splits.train.values, splits.test.values)
