"""What a writer is: a name, what its format can hold, and how a recording gets into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Recording


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be written, known before the first byte is.

    Parameters
    ----------
    events : int
        Number of events.
    first_us, last_us : int, microseconds
        Times of the first and last event; 0 without events.
    right, bottom : int, pixels
        Largest x and y; -1 without events.
    sensor_size : (W, H) or None
    frames, triggers, imu : int
        Numbers of each.
    channels : mapping channel -> number of triggers
        Empty where they have kinds (`eventkit.triggers`).
    kinds : mapping kind -> number of triggers
        Empty where they have channels.
    longest_gap_us : int, microseconds
        Longest time between two events.
    spans : mapping side -> (first, last), microseconds
        Of ``frames``, their ``exposures``, ``triggers`` and ``IMU samples``, where there are any.
    frame_size : (W, H) or None
    imu_columns : tuple of str
        What the IMU samples have beside their time.
    """

    events: int
    first_us: int
    last_us: int
    right: int
    bottom: int
    sensor_size: tuple[int, int] | None
    frames: int = 0
    triggers: int = 0
    imu: int = 0
    channels: Mapping[int, int] = field(default_factory=dict)
    kinds: Mapping[int, int] = field(default_factory=dict)
    longest_gap_us: int = 0
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    frame_size: tuple[int, int] | None = None
    imu_columns: tuple[str, ...] = ()

    def times(self, *sides: str) -> tuple[int, int]:
        """Return the first and last time of the events and of these sides; zeros of nothing."""
        spans = [self.spans[side] for side in sides if side in self.spans]
        if self.events:
            spans.append((self.first_us, self.last_us))
        return min((a for a, _ in spans), default=0), max((b for _, b in spans), default=0)


def left_out(contents: Contents, format: str, *, keeps: str = "events") -> list[str]:
    """Return a sentence for each side of a recording that a format does not hold.

    Parameters
    ----------
    contents : Contents
    format : str
        Its name in the sentence.
    keeps : str
        What it holds, as in ``events and triggers``.
    """
    sides = {
        "events": contents.events,
        "frames": contents.frames,
        "triggers": contents.triggers,
        "IMU samples": contents.imu,
    }
    return [
        f"{count} {side} are not written: {format} holds {keeps} only"
        for side, count in sides.items()
        if count and side not in keeps
    ]


def origin_us(first_us: int, end_us: int) -> int:
    """Return what is taken from all times: the first one, where it is not in ``[0, end_us)``."""
    return 0 if 0 <= first_us < end_us else first_us


class Writer(Protocol):
    """One format that recordings are written in.

    One that moves times for good also has ``moved_us(contents)``: what is added to each, so that
    the times of pictures beside the events go along.
    """

    @property
    def name(self) -> str:
        """Short name, as in ``--format``; that of the reader that reads it, where there is one."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File suffixes that mean this format; empty for one that is only chosen by name."""
        ...

    def losses(self, contents: Contents) -> list[str]:
        """Return what would be lost, one sentence each; empty for a round trip without loss.

        Raises
        ------
        SettingsError
            If the events do not fit at all (places beyond the format's bits ...): expected, got,
            and a format that would hold them.
        """
        ...

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write to ``path``, which does not exist, in bounded memory; equal input, equal bytes.

        Parameters
        ----------
        recording : Recording
            Read through ``recording.stream(ledger)``, once.
        path : Path
            A temporary name in the final folder; the caller renames.
        ledger : Ledger
            Receives the counts of the reading.
        """
        ...


def event_parts(recording: Recording, ledger: Ledger) -> Iterator[Events]:
    """Yield the events of a recording, in parts that are not empty."""
    return (chunk.events for chunk in recording.stream(ledger) if len(chunk.events))
