"""Which streams of an AEDAT4 file belong together: those of one camera.

A file may hold several cameras, each with streams of its own. The header names the camera of a
stream as its ``source``; where it does not, streams of a kind go with the event streams by order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eventkit.errors import SettingsError
from eventkit.readers.aedat.aedat4_packets import Header


@dataclass(slots=True)
class Choice:
    """The stream of each kind that is read, by number; None where there is none.

    ``notes`` say what was chosen where there was a choice, and what is not read.
    """

    events: int | None
    frames: int | None
    imu: int | None
    triggers: int | None
    notes: list[str] = field(default_factory=list)


def choose(header: Header, topic: str | None, path: object) -> Choice:
    """Choose by what the header has and the caller says.

    Parameters
    ----------
    header : Header
    topic : str, optional
        ``EVENTS``, ``EVENTS,FRAMES`` or ``,FRAMES``, numbers of streams.
    path : object
        For messages.

    Raises
    ------
    SettingsError
        If there is no stream of that number and kind; lists what there is.
    """
    asked, _, pictures = (topic or "").partition(",")
    notes: list[str] = []
    events = _named(header, "EVTS", asked, path)
    known = header.of("EVTS")
    if events is None and known:
        events = known[0]
        if len(known) > 1:
            notes.append(f"event streams {known}: stream {events} is read; --topic chooses")
    frames = _named(header, "FRME", pictures, path)
    if frames is None:
        frames = _beside(header, "FRME", events)
    anchor = frames if events is None else events
    chosen = Choice(
        events, frames, _beside(header, "IMUS", anchor), _beside(header, "TRIG", anchor), notes
    )
    read = {chosen.frames, chosen.imu, chosen.triggers}
    names = {"FRME": "frames", "IMUS": "IMU", "TRIG": "triggers"}
    left = [f"{n} ({name})" for k, name in names.items() for n in header.of(k) if n not in read]
    if left:
        notes.append(
            f"streams that are not read, as another one of their kind or camera is: "
            f"{', '.join(left)}; --topic EVENTS,FRAMES chooses"
        )
    return chosen


def _named(header: Header, kind: str, number: str, path: object) -> int | None:
    """Return the stream that the caller named, if any."""
    number = number.strip()
    if not number:
        return None
    streams = header.of(kind)
    if not (number.isascii() and number.isdecimal()) or int(number) not in streams:
        what = "event" if kind == "EVTS" else "frame"
        names = ", ".join(map(str, streams)) or "none"
        msg = f"{path}: expected --topic among the {what} streams {names}, got {number!r}"
        raise SettingsError(msg)
    return int(number)


def _beside(header: Header, kind: str, anchor: int | None) -> int | None:
    """Return the stream of a kind that goes with stream ``anchor``."""
    streams = {stream.number: stream for stream in header.streams}
    others = [streams[number] for number in header.of(kind)]
    if anchor is None:
        return others[0].number if others else None
    kin = [streams[number] for number in header.of(streams[anchor].kind)]
    source = streams[anchor].source
    same = [stream for stream in others if source and stream.source == source]
    if same:
        place = [s.number for s in kin if s.source == source].index(anchor)
        return same[min(place, len(same) - 1)].number
    taken = {stream.source for stream in kin} - {""}
    free = [stream for stream in others if stream.source not in taken]
    place = [stream.number for stream in kin].index(anchor)
    return free[place].number if place < len(free) else None
