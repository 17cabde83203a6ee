"""Plots as SVG: coordinates of points, values that cannot be drawn, escaped text."""

import math
from xml.etree import ElementTree

import pytest

from sde_gen.report.plot import MOST_POINTS, Axis, PlotLine, histogram, interval_plot, line_plot, number


def elements(plot, name, kind=""):
    """Elements of the SVG with this name, of one class."""
    root = ElementTree.fromstring(str(plot))
    return [each for each in root.iter(name) if kind in each.get("class", "").split() or not kind]


def places(plot, kind="dot"):
    """Centers of the points."""
    return [(float(each.get("cx")), float(each.get("cy"))) for each in elements(plot, "circle", kind)]


def test_coordinates_on_linear_and_logarithmic_axes():
    x, y = [0.0, 1.0, 4.0], [1.0, 10.0, 100.0]
    (a, b, c) = places(
        line_plot([PlotLine(name="", x=x, y=y)], x_label="x", y_label="y", log_y=True, markers=True)
    )
    assert (c[0] - a[0]) == pytest.approx(4 * (b[0] - a[0]), abs=0.5)
    assert (a[1] - c[1]) == pytest.approx(2 * (a[1] - b[1]), abs=0.5), "equal ratios are equal distances"
    assert a[1] > b[1] > c[1], "large values lie above"


def test_bars_are_one_standard_error_to_each_side():
    series = PlotLine(name="", x=[1.0, 2.0], y=[5.0, 5.0], error=[1.0, 2.0])
    plot = line_plot([series], x_label="x", y_label="y", markers=True)
    lengths = [float(bar.get("y1")) - float(bar.get("y2")) for bar in elements(plot, "line", "bar")]
    assert lengths[1] == pytest.approx(2 * lengths[0], abs=0.5)
    middle = [(float(bar.get("y1")) + float(bar.get("y2"))) / 2 for bar in elements(plot, "line", "bar")]
    assert middle == pytest.approx([y for _, y in places(plot)], abs=0.2)


def test_values_outside_the_axis_domain_are_left_out():
    series = [PlotLine(name="a", x=[1.0, 2.0, 3.0, 4.0], y=[math.nan, -1.0, math.inf, 2.0])]
    assert len(places(line_plot(series, x_label="x", y_label="y", log_y=True))) == 1
    assert line_plot([PlotLine(name="a", x=[1.0], y=[math.nan])], x_label="x", y_label="y") == ""
    assert line_plot([], x_label="x", y_label="y") == histogram([1.0], x_label="x", y_label="y") == ""
    assert interval_plot([("a", math.nan, 1.0)], label="x") == ""


@pytest.mark.parametrize(
    ("low", "high"), [(1e-9, 1e9), (0.08, 0.2), (0.99, 1.01), (3.0, 3.0), (1e-300, 1e-299)]
)
@pytest.mark.parametrize("log", [True, False])
def test_axes_have_a_few_round_ticks_inside(low, high, log):
    axis = Axis.of([low, high], label="", log=log, begin=0, end=100)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(-1e-9 <= axis(tick) <= 100 + 1e-9 for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_a_long_log_is_averaged():
    y = [float(i % 2) for i in range(100_000)]
    plot = line_plot([PlotLine(name="", x=list(range(100_000)), y=y)], x_label="x", y_label="y")
    points = places(plot, "hover")
    assert len(points) <= MOST_POINTS
    heights = {each for _, each in points}
    assert len(heights) == 1, "the mean of every group is 1/2"


def test_histogram_counts_every_value_once():
    values = [i**0.5 for i in range(100)]
    bars = elements(histogram(values, x_label="x", y_label="n", bins=10), "title")
    counts = [int(bar.text.split()[0]) for bar in bars]
    assert sum(counts) == 100
    assert counts == sorted(counts), "squares are denser above"


def test_text_is_escaped():
    evil = "<script>alert('x')</script>\"&{}{0}"
    for plot in (
        line_plot([PlotLine(name=evil, x=[1.0], y=[1.0])], x_label=evil, y_label=evil),
        interval_plot([(evil[:20], 1.0, 0.5)], label=evil),
        histogram([1.0, 2.0, 3.0], x_label=evil, y_label=evil),
    ):
        assert not elements(plot, "script")
        assert evil in "".join(ElementTree.fromstring(str(plot)).itertext())


def test_numbers_are_short():
    assert [number(value) for value in (150016, 2e6, 9999, 0.25, 1e-5, 0)] == [
        "150k",
        "2M",
        "9999",
        "0.25",
        "1e-05",
        "0",
    ]
