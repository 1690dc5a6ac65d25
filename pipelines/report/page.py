"""The sections of a report, from what matters first to what explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from eventkit.html import Markup, element, joined, page, table
from eventkit.location import Location
from pipelines.put import put
from pipelines.report.charts import STYLE as CHARTS
from pipelines.report.charts import histogram, stacked, thin_bar
from pipelines.report.commands import convert_command, matrix_command, shard_command
from pipelines.report.facts import Facts, gather
from pipelines.report.pictures import cards
from pipelines.report.words import cut, duration, number, rate, share, size
from pipelines.tally import EDGES

MOST_CLASSES = 30
"""Rows of the table of classes; the others are summed up."""
_MOST_REASONS = 20
_SPLITS = ("train", "val", "test")
_STYLE = f"""{CHARTS}
.totals {{ display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.25rem 0 0; padding: 0; }}
.totals div {{ display: flex; flex-direction: column-reverse; }}
.totals dt {{ color: var(--faint); font-size: .875rem; }}
.totals dd {{ margin: 0; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }}
.two {{ display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }}
.cards {{ display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }}
figure {{ margin: 0; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }}
figcaption {{ display: flex; flex-direction: column; margin-top: .5rem; line-height: 1.35;
  overflow-wrap: anywhere; }}
.senses {{ display: grid; grid-template-columns: repeat(2, 1fr); gap: .5rem; align-items: start; }}
.senses img {{ display: block; width: 100%; border-radius: .2rem; margin-bottom: .4rem; }}
.small {{ image-rendering: pixelated; }}
@media print {{ .cards {{ grid-template-columns: repeat(3, 1fr); }} }}
"""


def write_report(folder: Location, out: Location) -> int:
    """Write the report on a store or a shards folder; return its size in bytes.

    Raises
    ------
    MissingDataError
        If ``folder`` is neither.
    DamageError
        If what it says of itself cannot be read.
    """
    facts = gather(folder)
    data = page(_title(facts), *_sections(facts, folder), style=_STYLE).encode()
    put(out, data)
    return len(data)


def _title(facts: Facts) -> str:
    return f"RGB-Event clips: {facts.kind} {facts.plan_id[:12]}"


def _sections(facts: Facts, folder: Location) -> Iterator[Markup]:
    yield element("h1", _title(facts))
    yield from (element("p", warning, class_="warn") for warning in facts.warnings)
    yield _totals(facts)
    yield from _section("Events: what became of them", _mass(facts))
    yield from _section("Clips by class and split", _classes(facts))
    yield from _section("Lengths and rates", _histograms(facts))
    yield from _section("Set aside", _set_aside(facts))
    shown = list(cards(folder, facts.names))
    if shown:
        how = (
            "RGB and events of the window with the most events; below each, what changed since the "
            "window before. Red is ON, blue is OFF. Chosen by class, the same every time."
        )
        grid = element("div", *shown, class_="cards")
        yield from _section("Clips", [element("p", how, class_="faint"), grid])
    yield from _section("To make it again", _commands(facts))
    yield from _section("Settings", _settings(facts))


def _section(title: str, parts: Iterator[Markup] | list[Markup]) -> Iterator[Markup]:
    yield element("h2", title)
    yield from parts


def _totals(facts: Facts) -> Markup:
    told = {
        "clips": number(facts.clips),
        "with events and RGB": number(facts.totals.get("both", 0)),
        "recordings": number(facts.recordings),
        "set aside": number(len(facts.set_aside)),
        "events decoded": number(facts.totals.get("decoded", 0)),
        "classes": number(len(facts.names)),
    }
    num_bytes = sum(split.get("bytes", 0) for split in facts.splits.values())
    if num_bytes:
        told["in tars"] = size(num_bytes)
    entries = (element("div", element("dt", k), element("dd", v)) for k, v in told.items())
    return element("dl", *entries, class_="totals")


def mass_balance(facts: Facts) -> list[tuple[str, int]]:
    """Return what became of the decoded events; the numbers sum up to them.

    Frames that keep no counts show where events were met; of these the clipped are not told apart.
    """
    met, full = facts.totals.get("binned", 0), facts.totals.get("clipped", 0)
    counted = facts.settings.get("mass", "counts") == "counts"
    kept = [("in frames", met - full), ("clipped", full)] if counted else [("in windows", met)]
    reasons = sorted(facts.dropped.items(), key=lambda item: (-item[1], item[0]))
    told = [(f"dropped: {cut(reason)}", n) for reason, n in reasons[:_MOST_REASONS]]
    others = sum(n for _, n in reasons[_MOST_REASONS:])
    return [*kept, *told, *([("dropped: other reasons", others)] if others else [])]


def _mass(facts: Facts) -> Iterator[Markup]:
    decoded = facts.totals.get("decoded", 0)
    parts = mass_balance(facts)
    yield stacked(parts, label=f"{number(decoded)} decoded events by what became of them")
    rows = [(name, number(n), share(n, decoded)) for name, n in parts]
    rows.append(("decoded", number(decoded), share(decoded, decoded)))
    yield table(["events", "number", "share"], rows, numbers=(1, 2))
    missing = decoded - sum(n for _, n in parts)
    if missing:
        text = f"The balance does not close: {number(missing)} events are unaccounted for."
        yield element("p", text, class_="warn")
    else:
        yield element("p", "The balance closes: nothing is lost unsaid.", class_="faint")


def _classes(facts: Facts) -> Iterator[Markup]:
    splits = [split for split in _SPLITS if split in facts.splits]
    totals: Counter[int] = Counter()
    for counts in facts.classes.values():
        totals.update(counts)
    yield table(
        ["split", "clips", "share", *(["shards", "size"] if facts.kind == "shards" else [])],
        [_split_row(facts, split) for split in splits],
        numbers=(1, 2, 3, 4),
    )
    if facts.split_rule:
        yield element("p", f"Splits: {cut(facts.split_rule)}", class_="faint")
    if not totals:
        return
    order = sorted(totals, key=lambda label: (-totals[label], label))
    most = totals[order[0]]
    yield element("p", _spread(facts, totals, order), class_="faint")
    legend = (element("li", element("i", class_=f"c{i}"), s) for i, s in enumerate(splits))
    yield element("ul", *legend, class_="legend")
    rows = []
    for label in order[:MOST_CLASSES]:
        values = [facts.classes.get(split, {}).get(label, 0) for split in splits]
        rows.append(
            [
                cut(facts.names.get(label, "no label" if label == -1 else str(label)), 60),
                thin_bar(values, most),
                *map(number, values),
                number(totals[label]),
            ]
        )
    rest = order[MOST_CLASSES:]
    if rest:
        values = [sum(facts.classes.get(s, {}).get(label, 0) for label in rest) for s in splits]
        rows.append([f"{number(len(rest))} others", "", *map(number, values), number(sum(values))])
    columns = range(2, 3 + len(splits))
    yield table(["class", "", *splits, "all"], rows, numbers=columns)


def _split_row(facts: Facts, split: str) -> list[str]:
    of_split = facts.splits[split]
    row = [split, number(of_split["clips"]), share(of_split["clips"], facts.clips)]
    if facts.kind == "shards":
        row += [number(of_split["shards"]), size(of_split["bytes"])]
    return row


def _spread(facts: Facts, totals: Mapping[int, int], order: list[int]) -> str:
    """Say how even the classes are, and which have no clip."""
    middle = totals[order[len(order) // 2]]
    text = (
        f"{number(len(order))} classes with {number(totals[order[-1]])} to "
        f"{number(totals[order[0]])} clips, median {number(middle)}"
    )
    empty = sorted(set(facts.names) - set(totals))
    if empty:
        names = ", ".join(cut(facts.names[label], 40) for label in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        text += f"; {number(len(empty))} without any: {names}{more}"
    return f"{text}."


def _histograms(facts: Facts) -> Iterator[Markup]:
    plots = []
    for title, counts, say in (
        ("Length of a clip", facts.durations_us, duration),
        ("Events a second, clip by clip", facts.rates_hz, rate),
    ):
        if counts:
            middle = say(_median(counts))
            text = f"{title}: median about {middle}, {number(sum(counts.values()))} clips"
            plots.append(element("div", element("p", text), histogram(counts, say=say, label=text)))
    if plots:
        yield element("div", *plots, class_="two")
    else:
        yield element("p", "No clips.", class_="faint")


def _median(counts: Mapping[int, int]) -> int:
    """Return the left edge of the bin that half of the clips reach."""
    left = sum(counts.values()) / 2
    for edge in EDGES:
        left -= counts.get(edge, 0)
        if left <= 0:
            return edge
    return EDGES[-1]


def _set_aside(facts: Facts) -> Iterator[Markup]:
    aside = facts.set_aside
    if not len(aside):
        yield element("p", "Nothing: every recording could be read.")
        return
    total = facts.recordings
    reasons = sorted(aside.reasons.items(), key=lambda item: (-item[1], item[0]))
    told = [(cut(reason), n) for reason, n in reasons[:_MOST_REASONS]]
    others = sum(n for _, n in reasons[_MOST_REASONS:])
    told += [("other reasons", others)] if others else []
    yield table(
        ["reason", "recordings", "share of all"],
        [(reason, number(n), share(n, total)) for reason, n in told],
        numbers=(1, 2),
    )
    yield table(
        ["recording", "reason", "file", "byte", "time", "attempts", "what is wrong"],
        [_entry_row(entry) for entry in aside.first],
        numbers=(3, 4, 5),
        class_="stack",
    )
    rest = len(aside) - len(aside.first)
    if rest:
        text = f"and {number(rest)} more; quarantine.jsonl of the store and the manifest have all."
        yield element("p", text, class_="faint")


def _entry_row(entry: Mapping[str, Any]) -> list[str]:
    offset, time_us = entry.get("offset"), entry.get("time_us")
    return [
        cut(str(entry["recording"])),
        cut(str(entry["reason"])),
        cut(str(entry.get("file") or "")),
        "" if offset is None else number(offset),
        "" if time_us is None else f"{number(time_us)} \N{MICRO SIGN}s",
        str(entry.get("attempts", "")),
        cut(str(entry["message"]), 300),
    ]


def _commands(facts: Facts) -> Iterator[Markup]:
    matrix = matrix_command(facts.settings)
    convert = convert_command(facts.settings, layout=facts.layout, split_rule=facts.split_rule)
    lines = [*([matrix] if matrix else []), convert]
    if facts.kind == "shards":
        lines.append(shard_command(facts.settings))
        lines.append("eventkit verify")
    else:
        lines.append("eventkit verify store")
    yield element("p", "RAW stands for the folder of the recordings.", class_="faint")
    yield _lines(lines)
    if len(facts.set_aside):
        yield element("p", "After files that were set aside have been mended:", class_="faint")
        yield _lines([f"{convert} --retry-quarantined"])


def _lines(lines: list[str]) -> Markup:
    with_ends = (part for line in lines for part in (element("code", line), Markup("\n")))
    return element("pre", joined(with_ends))


def _settings(facts: Facts) -> Iterator[Markup]:
    settings = [(k, _value(v)) for k, v in sorted(facts.settings.items())]
    versions = [(name, cut(str(v))) for name, v in sorted(facts.versions.items())]
    yield element(
        "div",
        element("div", table(["setting", "value"], settings)),
        element("div", table(["made with", "version"], versions)),
        class_="two",
    )
    yield element("p", f"Plan {facts.plan_id}", class_="faint")


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return cut(", ".join(map(str, value))) or "none"
    return "none" if value is None else cut(str(value))
