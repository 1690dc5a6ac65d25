"""What a raw folder was understood to be: its recordings with labels and splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventkit.location import Location
from pipelines.datasets.files import Pair

if TYPE_CHECKING:
    from pipelines.datasets.named import NamedSet


@dataclass(frozen=True, slots=True)
class RecordingSpec:
    """One recording: where it is, label and split.

    Parameters
    ----------
    id : str
    events, rgb : str or None
        Relative to the root; ``events`` may name a sample of tonic instead, see
        `pipelines.datasets.tonic_sets`.
    split : str
    label : int
        -1 without any.
    label_name : str
    start_us, stop_us : int, microseconds, optional
        The part ``[start, stop)`` of the file that is this recording, on the clock of the file;
        default all of it. So one file may hold recordings of several labels.
    """

    id: str
    events: str | None
    rgb: str | None
    split: str
    label: int
    label_name: str
    start_us: int | None = None
    stop_us: int | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was understood.

    Parameters
    ----------
    root : Location
    layout : str
        In words, for the user.
    recordings : tuple of RecordingSpec
        Sorted by id.
    classes : dict label -> name
    missing : tuple of (name, where)
        Lines of list files without a recording.
    unlisted : tuple of Pair
        Recordings in no list file.
    split_rule : str
    unknown : dict suffix -> count
        Files that no reader knows.
    named : NamedSet, optional
        The published set that this is; it knows what its files do not say.
    notes : tuple of str
        What else a user has to know of how the set was understood.
    """

    root: Location
    layout: str
    recordings: tuple[RecordingSpec, ...]
    classes: dict[int, str]
    missing: tuple[tuple[str, str], ...] = ()
    unlisted: tuple[Pair, ...] = ()
    split_rule: str = ""
    unknown: dict[str, int] = field(default_factory=dict)
    named: NamedSet | None = None
    notes: tuple[str, ...] = ()


def splits_of(found: Discovery) -> dict[str, int]:
    """Return how many recordings each split has, set aside or not."""
    return dict(sorted(Counter(spec.split for spec in found.recordings).items()))
