"""Plots as inline SVG: lines, intervals and histograms, colored by the style sheet of the page."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 300
"""Size of a plot in units of its view box; the page scales it."""

LEFT, RIGHT, TOP, BOTTOM = 74, 14, 12, 44
"""Margins around the axes."""

MOST_POINTS = 400
"""Maximum number of points in a line; longer ones are averaged over consecutive points."""

PM = "\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}"
"""Plus-minus sign before a standard error."""

COLORS = 8
"""Number of colors in the style sheet."""


@dataclass(frozen=True, kw_only=True)
class PlotLine:
    """Line in a plot.

    Arguments:
        name: label in the legend; empty for none.
        x: abscissas, ascending.
        y: ordinates; non-finite ones, and non-positive ones on a logarithmic axis, are left out.
        error: half-lengths of the error bars, such as standard errors; None for no bars.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Linear or logarithmic axis.

    Arguments:
        label: quantity and unit.
        low: smallest value shown.
        high: largest value shown.
        log: whether it is logarithmic.
        begin: coordinate of the smallest value in the view box.
        end: coordinate of the largest value.
    """

    label: str
    low: float
    high: float
    log: bool
    begin: float
    end: float

    @classmethod
    def of(
        cls, values: Iterable[float], *, label: str, log: bool, begin: float, end: float, pad: float = 0.04
    ) -> "Axis":
        """Return an axis that spans the values, with a margin relative to their range."""
        finite = [value for value in values if usable(value, log)] or [1.0]
        low, high = min(finite), max(finite)
        if log:
            low, high = math.log10(low), math.log10(high)
        span = high - low or abs(high) or 1.0
        low, high = low - pad * span, high + pad * span
        if log:
            low, high = 10**low, 10**high
        return cls(label=label, low=low, high=high, log=log, begin=begin, end=end)

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(value) - low) / (high - low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return round values along the axis."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def usable(value: float, log: bool) -> bool:
    """Return whether an axis can show a value."""
    return math.isfinite(value) and (value > 0 or not log)


def _linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [factor * decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            return ticks[:: -(-len(ticks) // 7)]
    return [tick for tick in _linear_ticks(low, high, 7) if tick > 0]


def number(value: float) -> str:
    """Format a value for an axis: 150k, 0.25, 1e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"


def line_plot(
    series: Sequence[PlotLine],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    ordered: bool = False,
    markers: bool = False,
    from_zero: bool = False,
) -> Markup:
    """Return a plot of lines with a legend; empty if no line has a point.

    Arguments:
        series: the lines.
        x_label: label of the abscissa.
        y_label: label of the ordinate.
        log_x: whether the abscissa is logarithmic.
        log_y: whether the ordinate is logarithmic.
        ordered: True for an ordered family of lines with sequential colors.
        markers: True to mark every point.
        from_zero: whether the abscissa begins at zero.
    """
    lines = [_points(curve, log_x, log_y) for curve in series]
    points = [point for line in lines for point in line]
    if not points:
        return Markup("")
    ends = [y + sign * error for _, y, error in points for sign in (-1, 1)]
    abscissas = [x for x, *_ in points] + [0.0] * from_zero
    x = Axis.of(abscissas, label=x_label, log=log_x, begin=LEFT, end=WIDTH - RIGHT, pad=0.02)
    y = Axis.of(ends, label=y_label, log=log_y, begin=HEIGHT - BOTTOM, end=TOP)
    colors = [_color(index, len(series), ordered) for index in range(len(series))]
    body = [_axes(x, y)]
    for curve, line, color in zip(series, lines, colors, strict=True):
        body.append(_line(line, x, y, color, curve.name, markers or len(line) < 5))
    return _figure(body, f"{y_label} by {x_label}", _legend(series, lines, colors))


def _points(series: PlotLine, log_x: bool, log_y: bool) -> list[tuple[float, float, float]]:
    errors = series.error or [0.0] * len(series.x)
    found = [
        (x, y, error if math.isfinite(error) else 0.0)
        for x, y, error in zip(series.x, series.y, errors, strict=True)
        if usable(x, log_x) and usable(y, log_y)
    ]
    group = -(-len(found) // MOST_POINTS)
    if group <= 1:
        return found
    parts = [found[start : start + group] for start in range(0, len(found), group)]
    return [(part[-1][0], sum(y for _, y, _ in part) / len(part), 0.0) for part in parts]


def _line(
    points: list[tuple[float, float, float]], x: Axis, y: Axis, color: str, name: str, markers: bool
) -> Markup:
    places = [(x(a), y(b)) for a, b, _ in points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    marks = [Markup('<polyline class="line {}" points="{}"/>').format(color, path)]
    for (left, top), (a, b, error) in zip(places, points, strict=True):
        if error and usable(b - error, y.log):
            marks.append(
                Markup('<line class="bar {}" x1="{x}" x2="{x}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    color, y(b - error), y(b + error), x=f"{left:.1f}"
                )
            )
        about = f"{name}: " if name else ""
        marks.append(
            Markup('<circle class="{} {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
                "dot" if markers else "hover",
                color,
                left,
                top,
                3 if markers else 6,
                f"{about}{b:.4g}" + (f" {PM}{error:.2g}" if error else "") + f" at {number(a)}",
            )
        )
    return Markup("").join(marks)


def _axes(x: Axis, y: Axis) -> Markup:
    parts = []
    for tick in y.ticks():
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{p:.1f}" y2="{p:.1f}"/>'
                '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(LEFT, WIDTH - RIGHT, LEFT - 7, y(tick) + 4, number(tick), p=y(tick))
        )
    for tick in x.ticks():
        parts.append(
            Markup(
                '<line class="grid" x1="{p:.1f}" x2="{p:.1f}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{p:.1f}" y="{}" text-anchor="middle">{}</text>'
            ).format(TOP, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 16, number(tick), p=x(tick))
        )
    middle, center = (TOP + HEIGHT - BOTTOM) / 2, (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        Markup(
            '<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>'
            '<text class="label" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>'
        ).format(center, HEIGHT - 6, x.label, middle, y.label)
    )
    return Markup("").join(parts)


def interval_plot(rows: Sequence[tuple[str, float, float]], *, label: str) -> Markup:
    """Return a plot of estimates with bars of one standard error, one below the other.

    Arguments:
        rows: name, estimate and standard error.
        label: quantity and unit.
    """
    rows = [row for row in rows if math.isfinite(row[1])]
    if not rows:
        return Markup("")
    left, height = 150, 24 * len(rows) + 54
    errors = [error if math.isfinite(error) else 0.0 for _, _, error in rows]
    ends = [mean + sign * error for (_, mean, _), error in zip(rows, errors, strict=True) for sign in (-1, 1)]
    x = Axis.of(ends, label=label, log=False, begin=left, end=WIDTH - RIGHT)
    parts = [
        Markup(
            '<line class="grid" x1="{p:.1f}" x2="{p:.1f}" y1="8" y2="{}"/>'
            '<text class="tick" x="{p:.1f}" y="{}" text-anchor="middle">{}</text>'
        ).format(height - 44, height - 28, number(tick), p=x(tick))
        for tick in x.ticks()
    ]
    for index, ((name, mean, _), error) in enumerate(zip(rows, errors, strict=True)):
        parts.append(
            Markup(
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
                '<line class="bar c0" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>'
                '<circle class="dot c0" cx="{:.1f}" cy="{y}" r="4"><title>{}</title></circle>'
            ).format(
                left - 9,
                24 * index + 24,
                name if len(name) <= 22 else f"{name[:20]}...",
                x(mean - error),
                x(mean + error),
                x(mean),
                f"{name}: {mean:.4g} {PM}{error:.2g}",
                y=24 * index + 20,
            )
        )
    parts.append(
        Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (left + WIDTH - RIGHT) / 2, height - 6, label
        )
    )
    return _figure(parts, label, Markup(""), height)


def histogram(values: Sequence[float], *, x_label: str, y_label: str, bins: int = 30) -> Markup:
    """Return a histogram; empty if fewer than two values are finite."""
    finite = sorted(value for value in values if math.isfinite(value))
    if len(finite) < 2 or finite[0] == finite[-1]:
        return Markup("")
    low, width = finite[0], (finite[-1] - finite[0]) / bins
    counts = [0] * bins
    for value in finite:
        counts[min(int((value - low) / width), bins - 1)] += 1
    edges = [low + width * index for index in range(bins + 1)]
    x = Axis.of(edges, label=x_label, log=False, begin=LEFT, end=WIDTH - RIGHT, pad=0.02)
    y = Axis(label=y_label, low=0, high=1.05 * max(counts), log=False, begin=HEIGHT - BOTTOM, end=TOP)
    parts = [_axes(x, y)]
    for (begin, end), count in zip(pairwise(edges), counts, strict=True):
        parts.append(
            Markup(
                '<rect class="fill c0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
            ).format(
                x(begin),
                y(count),
                max(x(end) - x(begin) - 0.5, 0.5),
                y(0) - y(count),
                f"{count} from {begin:.4g} to {end:.4g}",
            )
        )
    return _figure(parts, f"histogram of {x_label}", Markup(""))


def _color(index: int, count: int, ordered: bool) -> str:
    if ordered:
        return f"q{round(index * (COLORS - 1) / max(count - 1, 1))}"
    return f"c{index % COLORS}"


def _legend(
    series: Sequence[PlotLine], lines: Sequence[list[tuple[float, float, float]]], colors: Sequence[str]
) -> Markup:
    named = [
        (curve.name, color)
        for curve, line, color in zip(series, lines, colors, strict=True)
        if line and curve.name
    ]
    if not named:
        return Markup("")
    entries = (Markup('<li><i class="{}"></i>{}</li>').format(color, name) for name, color in named)
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


def _figure(parts: Sequence[Markup], title: str, legend: Markup, height: float = HEIGHT) -> Markup:
    return Markup(
        '<figure class="plot"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(WIDTH, height, escape(title), Markup("").join(parts), legend)
