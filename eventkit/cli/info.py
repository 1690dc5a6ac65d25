"""``eventkit info``: what a recording holds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from eventkit.cli.options import ON_ERROR, read_options
from eventkit.cli.text import echo

if TYPE_CHECKING:
    from eventkit.events import Events
    from eventkit.recording import Recording

GAP_US = 100_000
"""A silence that is told: a camera that looks at anything at all has shorter ones."""


@click.command("info")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@ON_ERROR
@read_options
def command(path: str, as_json: bool, **how: Any) -> None:
    """Say what PATH holds: a recording, an image, a video, a folder of images, a URL.

    Names the format and why it was taken for it, the geometry and where that comes from, counts,
    duration, rate, frames, gaps and faults. Reads the whole recording once, in bounded memory.
    """
    import eventkit

    facts = describe(eventkit.open(path, **how))
    echo(*([json.dumps(facts)] if as_json else _lines(facts)))


class _Pass:
    """What one pass over the events tells, chunk by chunk."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = 0
        self.on = 0
        self.gaps = 0
        self.longest = (0, 0)

    def add(self, events: Events) -> None:
        import numpy as np

        t = events.t
        steps = np.diff(t, prepend=t[0] if self.first is None else self.last)
        at = int(np.argmax(steps))
        self.longest = max(self.longest, (int(steps[at]), int(t[at]) - int(steps[at])))
        self.gaps += int(np.count_nonzero(steps >= GAP_US))
        self.first = int(t[0]) if self.first is None else self.first
        self.last = int(t[-1])
        self.on += int(np.count_nonzero(events.p))


def describe(recording: Recording) -> dict[str, Any]:
    """Return the facts about an open recording; reads its events once, in pieces."""
    from eventkit.ledger import Ledger

    ledger, found = Ledger(), _Pass()
    for chunk in recording.stream(ledger):
        if len(chunk.events):
            found.add(chunk.events)
    first, last, on = found.first, found.last if found.first is not None else None, found.on
    frames = recording.frames
    facts: dict[str, Any] = {
        "path": str(recording.path),
        "format": recording.format,
        "evidence": recording.evidence,
        "sensor_size": list(recording.sensor_size) if recording.sensor_size else None,
        "geometry_source": recording.geometry_source,
        "events": ledger.kept,
        "events_on": on,
        "t_first_us": first,
        "t_last_us": last,
        "t_offset_us": recording.t_offset_us,
        "ledger": ledger.as_dict(),
        "frames": None,
        "triggers": None if recording.triggers is None else int(recording.triggers.size),
        "imu": None if recording.imu is None else int(recording.imu.size),
        "side_faults": recording.side_faults,
        "notes": recording.notes,
    }
    if first is not None and last is not None and last > first:
        facts["duration_s"] = (last - first) / 1e6
        facts["rate_hz"] = ledger.kept / ((last - first) / 1e6)
        facts["gaps"] = {
            "count": found.gaps,
            "longest_us": found.longest[0],
            "longest_at_us": found.longest[1],
        }
    if frames is not None:
        timed = frames.timing != "none"
        facts["frames"] = {
            "count": len(frames),
            "size": list(frames.size),
            "channels": frames.channels,
            "timing": frames.timing,
            "t_first_us": int(frames.t_us[0]) if timed else None,
            "t_last_us": int(frames.t_us[-1]) if timed else None,
            "exposure_us": int(frames.stop_us[0] - frames.start_us[0]) if timed else None,
        }
    return facts


def told(*faults: dict[str, Any]) -> list[str]:
    """Return each booked fault once, as a line without the cure: it has been taken."""
    lines = []
    for fault in faults:
        at = "" if fault["offset"] is None else f" (byte {fault['offset']})"
        lines.append(f"{re.split('[;,] (?:or )?--on-error ', fault['message'])[0]}{at}")
    return list(dict.fromkeys(lines))


def _lines(facts: dict[str, Any]) -> list[str]:
    size = (
        "x".join(str(side) for side in facts["sensor_size"]) if facts["sensor_size"] else "unknown"
    )
    why = f" ({facts['evidence']})" if facts["evidence"] else ""
    lines = [f"{facts['path']}: {facts['format']}{why}"]
    if facts["ledger"]["words"] or facts["sensor_size"]:
        why = f" ({facts['geometry_source']})" if facts["geometry_source"] else ""
        lines.append(f"  sensor     {size}{why}")
        lines.append(f"  events     {facts['events']:,} ({facts['events_on']:,} ON)")
    if facts["t_first_us"] is not None:
        lines.append(f"  time       {facts['t_first_us']:,} .. {facts['t_last_us']:,} us")
    if "rate_hz" in facts:
        lines.append(f"  duration   {facts['duration_s']:.6f} s, {facts['rate_hz']:,.0f} events/s")
    if facts.get("gaps", {}).get("count"):
        gaps = facts["gaps"]
        lines.append(
            f"  gaps       {gaps['count']:,} of {GAP_US // 1000} ms or more, the longest "
            f"{gaps['longest_us']:,} us after {gaps['longest_at_us']:,} us"
        )
    if facts["frames"]:
        frames = facts["frames"]
        kind = {1: "gray", 3: "RGB"}[frames["channels"]]
        lines.append(
            f"  frames     {frames['count']:,} {kind} {frames['size'][0]}x{frames['size'][1]}, "
            f"times: {frames['timing']}"
        )
        if frames["t_first_us"] is not None and frames["exposure_us"]:
            lines.append(f"  exposure   {frames['exposure_us']:,} us (first frame)")
    for name in ("triggers", "imu"):
        if facts[name]:
            lines.append(f"  {name:<10} {facts[name]:,}")
    ledger = facts["ledger"]
    for name in ("skipped", "dropped", "repaired"):
        if ledger[name]:
            lines.append(
                f"  {name:<10} " + ", ".join(f"{n:,} {r}" for r, n in ledger[name].items())
            )
    lines += [f"  fault      {line}" for line in told(*ledger["faults"], *facts["side_faults"])]
    lines += [f"  note       {note}" for note in facts["notes"]]
    return lines
