"""Prophesee RAW: EVT2, EVT2.1 (little-endian words) and EVT3, events and triggers.

Formats: https://docs.prophesee.ai/stable/data/encoding_formats/index.html. The header has no date,
so that equal recordings give equal bytes. The clocks have 34 bits, and 24 in EVT3, and wrap;
readers that follow the clock get the times back over hours. Where the first time does not fit, all
are moved to begin at zero, and a header line keeps the offset, which our reader and faery's add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.readers.prophesee.header import OFFSET_KEY
from eventkit.recording import Recording
from eventkit.triggers import CHANNEL_DTYPE, as_channels, channel_losses
from eventkit.writers.base import Contents, event_parts, left_out, origin_us
from eventkit.writers.evt_words import Entries, Evt2Words, Evt3Words

FURTHEST = 2047
LONGEST_US = 1 << 44
"""203 days: TIME_HIGH is written through every silence, so a longer span is a damaged time."""

_PART = 1 << 17


@dataclass(frozen=True, slots=True)
class _EvtWriter:
    """What the three writers share."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".raw",)
    clock_bits: ClassVar[int] = 34
    channels: ClassVar[int] = 32
    version: ClassVar[str]

    def losses(self, contents: Contents) -> list[str]:
        """Return what the format has no place for.

        Raises
        ------
        SettingsError
            For places past 2,047, or a span of more than 203 days, triggers included.
        """
        furthest = max(contents.right, contents.bottom)
        if furthest > FURTHEST:
            msg = f"expected places up to {FURTHEST} (11 bits), got {furthest}; write npz or hdf5"
            raise SettingsError(msg)
        first, last = contents.times("triggers")
        if last - first > LONGEST_US:
            msg = (
                f"expected a span of at most {LONGEST_US} us of events and triggers together, got "
                f"{last - first} us; write npz or hdf5"
            )
            raise SettingsError(msg)
        lost = left_out(contents, "RAW", keeps="events and triggers")
        own = range(self.channels)
        beyond = sum(n for channel, n in contents.channels.items() if channel not in own)
        if contents.triggers > beyond:
            kept = contents.triggers - beyond
            lost.append(f"{kept} triggers keep their time, channel and level only")
        if beyond:
            lost.append(
                f"{beyond} triggers are not written: channels are 0 to {self.channels - 1} here"
            )
        lost += channel_losses(contents.kinds)
        offset = origin_us(first, 1 << self.clock_bits)
        if offset:
            lost.append(
                f"times are moved by {-offset} us to begin at 0; the header line '{OFFSET_KEY}' "
                "keeps the offset, which eventkit and faery add again and others do not"
            )
        if last - offset >> self.clock_bits:
            lost.append(
                f"times wrap every 2^{self.clock_bits} us; readers that do not follow the clock "
                "get them wrong"
            )
        return lost

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write a RAW file, 2^17 events at a time."""
        triggers = _triggers(recording.triggers, self.channels)
        words: Evt2Words | Evt3Words = self._words()
        with path.open("wb") as file:
            offset: int | None = None
            for entries in _merged(_parts(recording, ledger), triggers):
                if offset is None:
                    offset = origin_us(int(entries.t[0]), 1 << self.clock_bits)
                    file.write(self._header(recording.sensor_size, offset))
                file.write(words.pack(entries._replace(t=entries.t - offset)).data)
            if offset is None:
                file.write(self._header(recording.sensor_size, 0))

    def _words(self) -> Evt2Words | Evt3Words:
        return Evt2Words()

    def _header(self, size: tuple[int, int] | None, offset: int) -> bytes:
        name = f"EVT{self.version.removesuffix('.0').replace('.', '')}"
        sides = "" if size is None else f";height={size[1]};width={size[0]}"
        lines = [f"evt {self.version}", f"format {name}{sides}"]
        if self.version == "2.1":
            lines.append("endianness little")
        if size is not None:
            lines.append(f"geometry {size[0]}x{size[1]}")
        if offset:
            lines.append(f"{OFFSET_KEY} {offset}")
        return "".join(f"% {line}\n" for line in [*lines, "end"]).encode("ascii")


@dataclass(frozen=True, slots=True)
class Evt2Writer(_EvtWriter):
    """Writer of EVT2."""

    name = "evt2"
    version = "2.0"


@dataclass(frozen=True, slots=True)
class Evt21Writer(_EvtWriter):
    """Writer of EVT2.1, one pixel to a word."""

    name = "evt21"
    version = "2.1"

    def _words(self) -> Evt2Words | Evt3Words:
        return Evt2Words(masks=True)


@dataclass(frozen=True, slots=True)
class Evt3Writer(_EvtWriter):
    """Writer of EVT3, without vector words: their order is that of columns, not of events."""

    name = "evt3"
    version = "3.0"
    clock_bits = 24
    channels = 16

    def _words(self) -> Evt2Words | Evt3Words:
        return Evt3Words()


def _parts(recording: Recording, ledger: Ledger) -> Iterator[Events]:
    for events in event_parts(recording, ledger):
        for start in range(0, len(events), _PART):
            yield events[start : start + _PART]


def _merged(parts: Iterator[Events], triggers: Entries) -> Iterator[Entries]:
    """Put triggers among the events, before those of the same time."""
    done = 0
    for events in parts:
        stop = int(np.searchsorted(triggers.t, events.t[-1], side="right"))
        found = Entries(
            events.x.astype(np.int64),
            events.y.astype(np.int64),
            events.t,
            events.p.astype(np.int64),
            np.zeros(len(events), np.bool_),
        )
        yield triggers.part(slice(done, stop)).merged(found) if stop > done else found
        done = stop
    if triggers.t.size > done:
        yield triggers.part(slice(done, None))


def _triggers(found: NDArray[Any] | None, channels: int) -> Entries:
    """Return triggers in time order, with a channel and a level."""
    rows = np.empty(0, CHANNEL_DTYPE) if found is None else as_channels(found)
    rows = rows[(rows["source"] >= 0) & (rows["source"] < channels)]
    rows = rows[np.argsort(rows["t"], kind="stable")]
    x, p = rows["source"].astype(np.int64), rows["p"].astype(np.int64) & 1
    none = np.zeros(rows.size, np.int64)
    return Entries(x, none, rows["t"].copy(), p, np.ones(rows.size, np.bool_))
