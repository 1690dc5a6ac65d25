"""Charts out of a few rectangles: inline SVG without a letter in it, so that it fits any width.

Words stand beside the picture as text, which keeps its size on a telephone and can be read aloud.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from eventkit.html import Markup, element, joined
from pipelines.report.words import number, share
from pipelines.tally import EDGES

STYLE = """
.bar { height: 1.6rem; border-radius: .3rem; overflow: hidden; }
.thin { height: .6rem; min-width: 6rem; margin-top: .45rem; }
.legend { list-style: none; padding: 0; margin: .5rem 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; font-size: .875rem; }
.legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: .15rem;
  margin-right: .4rem; }
.plot { height: 9rem; border-bottom: 1px solid var(--faint); }
.ticks { position: relative; height: 1.5rem; font-size: .8125rem; color: var(--faint); }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.ticks span:first-child { transform: none; }
.ticks span:last-child:not(:first-child) { transform: translateX(-100%); }
"""
_WIDTH = 1000
_LEAST = 3
"""Thousandths of the width that a part gets which is not nothing."""
_COLOURS = 8
_LEAST_BINS = 20
_MOST_TICKS = 5


def stacked(parts: Sequence[tuple[str, int]], *, label: str) -> Markup:
    """Return one bar out of parts, and a legend with the number and share of each."""
    whole = sum(value for _, value in parts)
    legend = element(
        "ul",
        *(
            element(
                "li",
                element("i", class_=_colour(i)),
                f"{name}: {number(value)} ({share(value, whole)})",
            )
            for i, (name, value) in enumerate(parts)
        ),
        class_="legend",
    )
    return joined([thin_bar([v for _, v in parts], whole, label=label, class_="bar"), legend])


def thin_bar(
    values: Sequence[int], most: int, *, label: str | None = None, class_: str = "bar thin"
) -> Markup:
    """Return parts end to end in a width that stands for ``most``; without label it is ornament."""
    widths = [max(_LEAST, _WIDTH * value // max(1, most)) if value else 0 for value in values]
    excess = sum(widths) - _WIDTH
    if excess > 0:
        widths[widths.index(max(widths))] -= excess
    bars = []
    at = 0
    for i, width in enumerate(widths):
        if width:
            bars.append(
                element("rect", x=str(at), y="0", width=str(width), height="10", class_=_colour(i))
            )
        at += width
    return _svg(bars, height=10, class_=class_, label=label)


def histogram(counts: Mapping[int, int], *, say: Callable[[int], str], label: str) -> Markup:
    """Return columns over bins of nearly equal ratio, with some edges named below.

    Parameters
    ----------
    counts : mapping left edge -> clips
        Edges are of `pipelines.tally.EDGES`; at least one.
    say : callable
        An edge in words.
    label : str
        What is shown, for those who do not see it.
    """
    edges = _edges(min(counts), max(counts))
    most = max(counts.values())
    step = _WIDTH / len(edges)
    columns = []
    for i, edge in enumerate(edges):
        n = counts.get(edge, 0)
        if n:
            high = max(1, 100 * n // most)
            columns.append(
                element(
                    "rect",
                    element("title", f"from {say(edge)}: {number(n)}"),
                    x=f"{i * step + step * 0.05:.1f}",
                    y=str(100 - high),
                    width=f"{step * 0.9:.1f}",
                    height=str(high),
                    class_="c0",
                )
            )
    ticks = [
        element("span", say(edges[i]), style=f"left:{100 * i / len(edges):.1f}%")
        for i in _tick_positions(edges)
    ]
    return joined(
        [
            _svg(columns, height=100, class_="plot", label=label),
            element("div", *ticks, class_="ticks", aria_hidden="true"),
        ]
    )


def _edges(first: int, last: int) -> Sequence[int]:
    """Return the bins from ``first`` to ``last`` with room beside them: one alone is no wall."""
    start, stop = bisect_left(EDGES, first) - 1, bisect_left(EDGES, last) + 2
    while stop - start < _LEAST_BINS:
        start, stop = start - 1, stop + 1
    return EDGES[max(0, start) : stop]


def _tick_positions(edges: Sequence[int]) -> list[int]:
    """Choose powers of ten where there are some, else ends and middle; never more than fit."""
    tens = [i for i, edge in enumerate(edges) if edge and str(edge).strip("0") == "1"]
    if len(tens) < 2:
        return sorted({0, len(edges) // 2, len(edges) - 1})
    step = -(-len(tens) // _MOST_TICKS)
    return tens[::step]


def _svg(children: Sequence[Markup], *, height: int, class_: str, label: str | None) -> Markup:
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_WIDTH} {height}",
        preserveAspectRatio="none",
        class_=class_,
        role="img" if label else None,
        aria_label=label,
        aria_hidden=None if label else "true",
    )


def _colour(i: int) -> str:
    return f"c{min(i, _COLOURS - 1)}"
