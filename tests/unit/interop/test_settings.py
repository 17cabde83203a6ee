"""TrainingConfig of other projects are believed where they are possible, and else named in a line."""

import math
from typing import Any

import pytest

from sde_gen.interop import settings

DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value", [0, -1, 2**14 + 1, 10**400, 1.5, math.nan, math.inf, True, "3", [3], {}, DEEP]
)
def test_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"width=.* expected a whole number from 1 to 16384") as refusal:
        settings.whole({"width": value}, "width")
    assert len(str(refusal.value)) < 200
    with pytest.raises(ValueError, match="width="):
        settings.wholes({"width": [4, value]}, "width")


@pytest.mark.parametrize("value", [math.nan, -math.inf, 10**400, True, "0.5", None, DEEP])
def test_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="rate"):
        settings.real({"rate": value}, "rate")
    with pytest.raises(ValueError, match="rate"):
        settings.reals({"rate": [0.5, value]}, "rate")


@pytest.mark.parametrize("value", ["false", 2, None, [], DEEP, math.nan])
def test_neither_true_nor_false(value: object) -> None:
    """A word would count as true."""
    with pytest.raises(ValueError, match="padded"):
        settings.flag({"padded": value}, "padded")


def test_what_is_possible_is_taken() -> None:
    said = {"width": 64.0, "rate": 1, "padded": 0, "widths": (1, 2), "word": "Linear"}
    assert settings.whole(said, "width") == 64
    assert isinstance(settings.whole(said, "width"), int)
    assert settings.real(said, "rate") == 1.0
    assert settings.flag(said, "padded") is False
    assert settings.multipliers(said, "widths") == [1, 2]
    assert settings.choice(said, "word", "linear") == "linear"


def test_long_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="a list, of 16 at most"):
        settings.multipliers({"widths": [1] * 17}, "widths")
    with pytest.raises(ValueError, match="a number up to 64 for every level"):
        settings.multipliers({"widths": []}, "widths")


def test_messages_are_one_short_line() -> None:
    many = {f"a\nb{number}": "x\n" * 1000 for number in range(1000)}
    for call in (
        lambda: settings.need(many, "width"),
        lambda: settings.section(many, "model"),
        lambda: settings.choice({"word": "x\n" * 1000}, "word", "linear"),
        lambda: settings.choice({"word": DEEP}, "word", "linear"),
    ):
        with pytest.raises(ValueError, match=r"width|model|word") as refusal:
            call()
        assert len(str(refusal.value)) < 1000
        assert "\n" not in str(refusal.value)


def test_a_network_that_a_file_cannot_hold_is_not_made() -> None:
    settings.plausible(dict.fromkeys(range(10)), blocks=5)
    with pytest.raises(ValueError, match="require 6 residual blocks"):
        settings.plausible(dict.fromkeys(range(10)), blocks=6)
