"""Broadcasting of times and coefficients against samples."""

import pytest
import torch

from sde_gen.utils.broadcasting import broadcast, broadcast_like, event_numel, mean_event, sum_event

EVENTS = [(), (3,), (5,), (2, 3, 4)]


@pytest.mark.parametrize("event", EVENTS)
def test_coefficients_scale_samples(event: tuple[int, ...]) -> None:
    """One coefficient per sample, whatever the event; B = 5 equals an event's size on purpose."""
    a, x = torch.arange(1.0, 6.0), torch.randn(5, *event, generator=torch.Generator().manual_seed(0))
    product = broadcast(a, x) * x
    assert product.shape == x.shape
    for i in range(5):
        assert torch.equal(product[i], (i + 1) * x[i])
    assert torch.equal(broadcast(a[2], x) * x, 3 * x)
    assert torch.equal(broadcast(x, x) * x, x * x)


def test_no_copy() -> None:
    a = torch.ones(5)
    assert broadcast(a, torch.empty(5, 2, 3)).data_ptr() == a.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_like_keeps_the_dtype_of_the_batch(dtype: torch.dtype) -> None:
    x = torch.ones(5, 2, dtype=dtype)
    for a in (torch.tensor(2.0, dtype=torch.float64), torch.full((5,), 2.0, dtype=torch.float64)):
        assert (broadcast_like(a, x) * x).dtype == dtype
        assert torch.equal(broadcast_like(a, x) * x, 2 * x)


@pytest.mark.parametrize("event", EVENTS)
def test_reductions(event: tuple[int, ...]) -> None:
    x = torch.randn(5, *event, generator=torch.Generator().manual_seed(1))
    rows = [row.numpy() for row in x]
    torch.testing.assert_close(sum_event(x), torch.tensor([float(row.sum()) for row in rows]))
    torch.testing.assert_close(mean_event(x), torch.tensor([float(row.mean()) for row in rows]))
    assert event_numel(x) == rows[0].size
    assert type(event_numel(x)) is int
