"""Reading a file that may be damaged, and what must hold whatever is in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eventkit.errors import EventKitError, FormatError, MissingDependencyError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import OnError, Recording

Open = Callable[[Path, OnError], Recording]


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a file.

    Parameters
    ----------
    events : Events
        What was handed on before the end, or before the error.
    ledger : Ledger
    error : EventKitError, optional
        What ended it.
    recording : Recording, optional
        None where the file was not even opened.
    seconds : float
        Processor time of this process: on a busy machine the clock on the wall tells nothing.
    """

    events: Events
    ledger: Ledger
    error: EventKitError | None
    recording: Recording | None
    seconds: float


def read_all(open_: Open, path: Path, on_error: OnError) -> Reading:
    """Read a file to its end or to the first error of ours; any other error goes through.

    Parameters
    ----------
    open_ : callable
        ``open_(path, on_error)`` returns a recording.
    path : Path
    on_error : {"raise", "skip", "repair"}
    """
    parts: list[Events] = []
    ledger, error, recording = Ledger(), None, None
    begun = time.process_time()
    try:
        recording = open_(path, on_error)
        for chunk in recording.stream(ledger):
            parts.append(chunk.events)
    except MissingDependencyError:
        raise
    except EventKitError as err:
        # Tracebacks would hold this frame, so themselves, and 13 MB of columns until a collection.
        error = err.with_traceback(None)
        error.__cause__ = error.__context__ = None
    seconds = time.process_time() - begun
    return Reading(Events.concatenate(parts), ledger, error, recording, seconds)


def check_reading(
    reading: Reading,
    path: Path,
    *,
    on_error: OnError,
    max_events_per_byte: float | None = None,
    time_limit_s: float = 2.0,
) -> None:
    """Raise AssertionError unless what was read is what any file, damaged or not, may give.

    Parameters
    ----------
    reading : Reading
    path : Path
        The file.
    on_error : {"raise", "skip", "repair"}
        How it was read.
    max_events_per_byte : float, optional
        Most events that a byte of the format can hold; None for compressed formats.
    time_limit_s : float, seconds
    """
    events, size = reading.events, path.stat().st_size
    assert reading.seconds < time_limit_s, f"took {reading.seconds:.1f} s"
    assert events.x.dtype == events.y.dtype == np.uint16, "places are uint16"
    assert events.t.dtype == np.int64, "times are int64"
    assert events.p.dtype == np.int8, "polarities are int8"
    assert bool((events.t[1:] >= events.t[:-1]).all()), "times decrease"
    assert bool(((events.p == 0) | (events.p == 1)).all()), "polarities other than 0 and 1"
    if max_events_per_byte is not None:
        most = max_events_per_byte * size
        assert reading.ledger.decoded <= most, (
            f"{reading.ledger.decoded} events of {size} bytes, which hold {most:.0f} at most"
        )
    sensor = reading.recording.sensor_size if reading.recording is not None else None
    if sensor is not None and len(events):
        assert int(events.x.max()) < sensor[0], f"x beyond the sensor {sensor}"
        assert int(events.y.max()) < sensor[1], f"y beyond the sensor {sensor}"
    if reading.error is None:
        _check_balance(reading, on_error)
    else:
        check_error(reading.error, path)


def _check_balance(reading: Reading, on_error: OnError) -> None:
    ledger = reading.ledger
    dropped = sum(ledger.dropped.values())
    assert ledger.decoded == ledger.kept + dropped, f"{ledger} is not balanced"
    assert ledger.kept == len(reading.events), (
        f"kept {ledger.kept} events by the ledger, handed on {len(reading.events)}"
    )
    if on_error == "raise":
        assert not ledger.faults, "a fault was noted and not raised"
        assert not ledger.repaired, "an event was repaired though nobody asked for it"


def check_error(error: EventKitError, path: Path) -> None:
    """Raise AssertionError unless an error says which file, what was expected and what was got."""
    text = str(error)
    assert path.name in text, f"no file in {text!r}"
    assert "expected" in text, f"nothing expected in {text!r}"
    assert "got" in text, f"nothing got in {text!r}"
    if isinstance(error, FormatError):
        assert error.reason, f"no reason in {text!r}"
        assert error.message, "no message"
        # A fault in compressed content, and one at the end, may lie behind the stored bytes.
        assert error.offset is None or error.offset >= 0, f"byte {error.offset}"
