"""Charts as inline SVG without a letter in it, so that it fits any width.

Words stand beside the picture as text, which keeps its size on a telephone and can be read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventkit.html import Markup, element, joined
from velora.report.words import interval, number, percent
from velora.scoring.accuracy import Accuracy
from velora.scoring.scores import ReliabilityBin

STYLE = """
.chart { display: grid; grid-template-columns: auto 1fr; gap: 0 .5rem; margin: .75rem 0; }
.chart .plot { grid-column: 2; height: 11rem; }
.scale { position: relative; min-width: 3.75rem; font-size: .8125rem; color: var(--faint); }
.scale span { position: absolute; right: 0; transform: translateY(-50%); white-space: nowrap; }
.ticks { grid-column: 2; position: relative; height: 1.5rem; font-size: .8125rem;
  color: var(--faint); }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.plot path { fill: none; vector-effect: non-scaling-stroke; stroke-width: 2; stroke-linejoin: round;
  stroke-linecap: round; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .best { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 4 4; }
.plot .dots { stroke-width: 6; }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); }
.legend { list-style: none; padding: 0; margin: .5rem 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; font-size: .875rem; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: .15rem;
  margin-right: .4rem; }
.share { display: grid; grid-template-columns: minmax(5rem, 1fr) 4rem; gap: .5rem;
  align-items: center; text-align: right; font-variant-numeric: tabular-nums; }
.share svg { height: .8rem; background: var(--panel); }
.share path { stroke: var(--ink); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
"""
_WIDTH, _HEIGHT = 1000, 100
_MOST_TICKS = 6
_MOST_DOTS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A curve over the epochs; None where there is no value."""

    name: str
    values: Sequence[float | None]
    colour: int = 0


def curves(
    title: str,
    epochs: Sequence[int],
    lines: Sequence[Line],
    *,
    say: Callable[[float], str],
    best: int | None,
) -> Markup:
    """Return curves over the epochs, with the best epoch marked, a scale and a legend.

    ``say`` tells a value in words.
    """
    values = [v for line in lines for v in line.values if v is not None and math.isfinite(v)]
    lines = [line for line in lines if any(v is not None for v in line.values)]
    if not values:
        return element("p", f"{title}: nothing was measured.", class_="faint")
    ticks = round_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    first, last = epochs[0], epochs[-1]

    def x(epoch: int) -> float:
        return _WIDTH * (epoch - first + 0.5) / (last - first + 1)

    def y(value: float) -> float:
        return _HEIGHT * (1 - (value - low) / (high - low))

    parts = [_path(f"M0 {y(t):.2f}H{_WIDTH}", "grid") for t in ticks]
    if best is not None:
        parts.append(_path(f"M{x(best):.1f} 0V{_HEIGHT}", "best"))
    for line in lines:
        known = [
            (x(epoch), y(value))
            for epoch, value in zip(epochs, line.values, strict=True)
            if value is not None and math.isfinite(value)
        ]
        way = "L".join(f"{a:.1f} {b:.2f}" for a, b in known)
        parts.append(_path(f"M{way}", f"s{line.colour}"))
        if len(known) <= _MOST_DOTS:
            dots = "".join(f"M{a:.1f} {b:.2f}h0" for a, b in known)
            parts.append(_path(dots, f"dots s{line.colour}"))
    told = "; ".join(f"{line.name} {_course(line.values, say)}" for line in lines)
    scale = [element("span", say(t), style=f"top:{y(t):.1f}%") for t in ticks]
    below = [
        element("span", str(e), style=f"left:{x(e) / _WIDTH:.1%}")
        for e in _epoch_ticks(first, last)
    ]
    legend = [element("li", element("i", class_=f"c{line.colour}"), line.name) for line in lines]
    return element(
        "div",
        element("p", title),
        element(
            "div",
            element("div", *scale, class_="scale", aria_hidden="true"),
            _svg(parts, height=_HEIGHT, class_="plot", label=f"{title}, by epoch: {told}"),
            element("div", *below, class_="ticks", aria_hidden="true"),
            class_="chart",
        ),
        element("ul", *legend, class_="legend"),
    )


def _course(values: Sequence[float | None], say: Callable[[float], str]) -> str:
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return "not finite"
    return f"from {say(known[0])} to {say(known[-1])}"


def round_ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers that hold [low, high] between the first and the last.

    Examples
    --------
    >>> round_ticks(0.31, 0.97)
    [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = max(high - low, abs(high) / 20) or 1.0  # a flat curve is no mountain range
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if span / (power * m) <= 4)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if stop - start < 2:
        start, stop = (start, start + 2) if start == 0 else (start - 1, start + 1)
    return [float(f"{i * step:.12g}") for i in range(start, stop + 1)]


def _epoch_ticks(first: int, last: int) -> list[int]:
    step = -(-(last - first + 1) // _MOST_TICKS)
    return list(range(first, last + 1, step))


def share_bar(one: Accuracy, *, colour: int) -> Markup:
    """Return an accuracy as a bar with its 95 % interval as a line, and in percent."""
    if not one.samples:
        return element("span", "no clips", class_="faint")
    low, high = (round(_WIDTH * side) for side in one.interval)
    width = round(_WIDTH * one.share)
    bar = element("rect", x="0", y="0", width=str(width), height="10", class_=f"c{colour}")
    return element(
        "div",
        _svg([bar, _path(f"M{low} 5H{high}M{low} 2V8M{high} 2V8", "")], height=10, label=None),
        element("span", percent(one.share), title=f"95 %: {interval(*one.interval)}"),
        class_="share",
    )


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """Return columns of accuracy over confidence, each with a line where it ought to end."""
    step = _WIDTH / len(bins)
    parts = [_path(f"M0 {y}H{_WIDTH}", "grid") for y in (0, 50, 100)]
    told = []
    for i, one in enumerate(bins):
        if not one.samples:
            continue
        told.append(f"confidence {percent(one.confidence)} accuracy {percent(one.accuracy)}")
        column = element(
            "rect",
            element("title", f"{told[-1]}, {number(one.samples)} clips"),
            x=f"{i * step + step * 0.08:.1f}",
            y=f"{_HEIGHT * (1 - one.accuracy):.2f}",
            width=f"{step * 0.84:.1f}",
            height=f"{_HEIGHT * one.accuracy:.2f}",
            class_="c0",
        )
        ideal = _HEIGHT * (1 - one.confidence)
        parts += [column, _path(f"M{i * step:.1f} {ideal:.2f}h{step:.1f}", "s1")]
    scale = [element("span", f"{100 - y} %", style=f"top:{y}%") for y in (0, 50, 100)]
    ticks = [element("span", f"{x} %", style=f"left:{x}%") for x in (10, 50, 90)]
    return element(
        "div",
        element("div", *scale, class_="scale", aria_hidden="true"),
        _svg(parts, height=_HEIGHT, class_="plot", label="; ".join(told)),
        element("div", *ticks, class_="ticks", aria_hidden="true"),
        class_="chart",
    )


def _path(way: str, class_: str) -> Markup:
    return element("path", d=way, class_=class_ or None)


def _svg(
    children: Sequence[Markup], *, height: int, label: str | None, class_: str | None = None
) -> Markup:
    return element(
        "svg",
        joined(children),
        viewBox=f"0 0 {_WIDTH} {height}",
        preserveAspectRatio="none",
        class_=class_,
        role="img" if label else None,
        aria_label=label,
        aria_hidden=None if label else "true",
    )
