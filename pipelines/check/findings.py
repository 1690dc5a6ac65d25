"""A finding: what is wrong, how bad it is, where, and what helps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

KINDS: dict[str, tuple[Severity, str]] = {
    # What `convert` refuses or sets aside, and what makes a test score worthless.
    "unreadable": ("error", "cannot be read"),
    "truncated": ("error", "ends early"),
    "empty": ("error", "holds nothing"),
    "backwards": ("error", "times step back"),
    "outside": ("error", "events outside the sensor"),
    "rgb_apart": ("error", "pictures at another time than the events"),
    "missing": ("error", "listed, no such recording"),
    "bad_line": ("error", "list lines that cannot be used"),
    "listed_twice": ("error", "listed more than once"),
    "same_name": (
        "error",
        "one name, or one key of a sample, for two recordings; `convert` refuses them",
    ),
    "two_pictures": ("error", "more than one RGB side"),
    "layout": ("error", "classes cannot be told from sessions"),
    "shared": ("error", "in more than one split"),
    "label_conflict": ("error", "another label than the rest of its folder"),
    # What is converted, and may not be what was meant.
    "duplicate": ("warning", "same content under two names"),
    "sensor": ("warning", "another size than the rest"),
    "duration": ("warning", "much longer or shorter than the rest"),
    "rgb_gap": ("warning", "pictures are missing in between"),
    "unlisted": ("warning", "recordings that no list names"),
    "orphan": ("warning", "pictures without events"),
    "side_file": ("warning", "belongs to no recording"),
    "one_recording": ("warning", "class with a single recording"),
    "case": ("warning", "class names that look alike"),
    "label_ids": ("warning", "class ids are not 0, 1, 2 ..."),
    # What is worth knowing.
    "stride": ("note", "pictures are numbered in steps"),
    "sizes": ("note", "several sizes"),
    "no_size": ("note", "the files do not say how large the sensor is"),
    "unlabelled": ("note", "no labels"),
    "unknown": ("note", "files that no reader knows"),
}
"""Every kind, worst first: severity, and what it means."""

_RANK = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    path : str
        A file, a recording or a line of a list, relative to the root; ``.`` for the set.
    message : str
        Expected, got, and the cure.
    byte : int, optional
        Where in the file.
    t_us : int, microseconds, optional
        Where in the recording.
    others : tuple of str
        What else it is about: the copies of a duplicate, say.
    """

    kind: str
    path: str
    message: str
    byte: int | None = None
    t_us: int | None = None
    others: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.kind][0]

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, for JSON."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "path": self.path,
            "byte": self.byte,
            "t_us": self.t_us,
            "message": self.message,
            "others": list(self.others),
        }


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by kind, then by path: the same whatever order recordings were looked at in."""
    return sorted(findings, key=lambda f: (_RANK[f.kind], f.path, f.byte or 0, f.message))
