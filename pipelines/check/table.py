"""The audit in words, for a terminal: a table of what was found, then where, worst first."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from eventkit.cli.text import counted, printable
from pipelines.check.audit import Audit
from pipelines.check.findings import KINDS, Finding

SHOWN = 5
"""Findings of a kind that are listed."""


def table(audit: Audit, *, width: int = 80) -> list[str]:
    """Return the lines to print."""
    lines = [line for text in _head(audit) for line in _wrapped(text, width, "  ")]
    lines[0] = lines[0].lstrip()
    kinds = [(kind, list(found)) for kind, found in groupby(audit.findings, lambda f: f.kind)]
    if not kinds:
        return [*lines, "nothing is wrong"]
    longest = max(len(kind) for kind, _ in kinds)
    lines.append("")
    for kind, found in kinds:
        severity, meaning = KINDS[kind]
        lines.append(f"  {severity:<8} {kind:<{longest}} {len(found):>9,}  {meaning}")
    for kind, found in kinds:
        lines += ["", f"{KINDS[kind][0]}: {kind}"]
        lines += _listed(found[:SHOWN], width)
        if len(found) > SHOWN:
            lines.append(f"  and {len(found) - SHOWN:,} more; --json for all")
    return lines


def _head(audit: Audit) -> Iterator[str]:
    found = audit.found
    yield printable(
        f"{found.root}: {counted(len(found.recordings), 'recordings')} ({found.layout})"
    )
    splits = Counter(spec.split for spec in found.recordings)
    parts = [f"{splits[split]:,} {split}" for split in ("train", "val", "test") if splits[split]]
    parts.append(counted(len(found.classes), "classes") if found.classes else "no labels")
    yield ", ".join(parts)
    yield f"read: {audit.events:,} events, {audit.pictures:,} pictures, {audit.bytes:,} bytes"


def _listed(findings: Sequence[Finding], width: int) -> Iterator[str]:
    """Yield where each is and what it is; what is the same of several in a row once."""
    for message, same in groupby(findings, lambda finding: finding.message):
        places = [place for finding in same if (place := _place(finding))]
        yield from (f"  {place}" for place in places)
        yield from _wrapped(printable(message), width, "    " if places else "  ")


def _place(finding: Finding) -> str:
    where = [printable(finding.path)] if finding.path != "." else []
    where += [f"byte {finding.byte:,}"] if finding.byte is not None else []
    where += [f"{finding.t_us:,} us"] if finding.t_us is not None else []
    return ", ".join(where)


def _wrapped(text: str, width: int, indent: str) -> Sequence[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
