"""What a run was made of: data, parameters, settings, trunk, versions, and how to make it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from eventkit.html import Markup, element, table
from eventkit.shards import ShardSet
from velora.data import DataSpec
from velora.data.class_match import places
from velora.report.words import cut, number, percent
from velora.settings import Settings
from velora.training.checkpoint import RunFacts
from velora.training.progress import ParameterRow

_SPLITS = ("train", "val", "test")
_NEW_LINE = Markup("\n")


def data_facts(shards: ShardSet, spec: DataSpec) -> Iterator[Markup]:
    """Yield what the shards hold: clips by split, classes, representation."""
    counts = {split: clips_by_class(shards, split, spec) for split in _SPLITS}
    told = {split: of for split, of in counts.items() if of is not None}
    total = sum(map(sum, told.values()))
    rows = [
        (split, number(sum(of)), percent(sum(of) / total), _spread(of))
        for split, of in told.items()
    ]
    yield table(["split", "clips", "share", "clips of a class"], rows, numbers=(1, 2))
    yield element(
        "p",
        f"{number(len(spec.classes))} classes, {spec.bins} frames a clip of {spec.representation}.",
    )


def clips_by_class(shards: ShardSet, split: str, spec: DataSpec) -> list[int] | None:
    """Count the clips of a split in the order of the logits; None without such a split."""
    if split not in shards.splits:
        return None
    labels = shards.labels(split)
    counts = [0] * len(spec.classes)
    # Only the split that was evaluated need have labels, or labels of classes that there are.
    for class_id, place in places(shards.class_names, spec.classes).items():
        counts[place] += int(np.count_nonzero(labels == class_id))
    return counts


def _spread(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{number(low)} each" if low == high else f"{number(low)} to {number(high)}"


def parameters(rows: Sequence[ParameterRow]) -> Iterator[Markup]:
    """Yield the parameter table, and what share of it trains."""
    cells = [(r.part, number(r.total), number(r.trainable)) for r in rows]
    yield table(["part", "parameters", "of these train"], cells, numbers=(1, 2))
    whole = rows[-1]
    text = (
        f"{100 * whole.trainable / whole.total:.2f} % of all parameters train, the head included: "
        f"{whole.trainable * 4 / 2**20:.2f} MiB in float32."
    )
    yield element("p", text)


def settings_tables(settings: Settings) -> Iterator[Markup]:
    """Yield the settings that are not the default, and all of them, folded away."""
    given = msgspec.to_builtins(settings)
    defaults = msgspec.to_builtins(Settings())
    pairs = {
        f"{name}.{key}": (value, defaults[name][key])
        for name, fields in given.items()
        for key, value in fields.items()
    }
    changed = [(k, _value(v), _value(d)) for k, (v, d) in pairs.items() if v != d]
    if changed:
        yield table(["setting", "value", "default"], changed)
    else:
        yield element("p", "Every setting has its default.", class_="faint")
    whole = table(["setting", "value"], [(k, _value(v)) for k, (v, _) in pairs.items()])
    yield element("details", element("summary", "All settings"), whole)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return cut(", ".join(f"{k} = {v}" for k, v in value.items()), 160) or "none"
    if isinstance(value, (list, tuple)):
        return cut(", ".join(map(str, value))) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else cut(str(value))


def origins(facts: RunFacts) -> Iterator[Markup]:
    """Yield the trunk, the hashes and the versions."""
    trunk = facts.trunk
    rows = [
        ("trunk", f"{trunk.backbone} ({trunk.kind})"),
        ("trunk's sha256", trunk.sha256),
        ("plan of the shards", facts.data.plan_id),
        ("settings' sha256", facts.settings_sha256),
        *((name, version) for name, version in sorted(facts.versions.items())),
    ]
    yield table(["origin", "value"], [(name, cut(value)) for name, value in rows])


def commands() -> Iterator[Markup]:
    """Yield the commands that make a run of these settings and its numbers again.

    No page says where things lie: it may be read on another machine.
    """
    lines = (
        "velora-train --recipe RUN/config.toml --shards SHARDS --out again",
        "velora-eval RUN --shards SHARDS",
    )
    yield element("pre", *(part for line in lines for part in (element("code", line), _NEW_LINE)))
    text = "RUN is the folder of this run, SHARDS that of its shards, whose plan is below."
    yield element("p", text, class_="faint")
