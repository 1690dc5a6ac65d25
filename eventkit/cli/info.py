"""``eventkit info``: what a recording holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from eventkit.cli.options import SIZE


@click.command("info")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "repair"]),
    default="raise",
    show_default=True,
    help="raise: stop at the first fault; skip, repair: keep what is whole.",
)
@click.option("--sensor-size", type=SIZE, help="Where the file does not say.")
@click.option(
    "--time-unit",
    type=click.Choice(["us", "s", "ms", "ns"]),
    help="Of times that do not say; told by evidence otherwise.",
)
@click.option("--format", "format_name", help="Name of the reader, where detection is wrong.")
def command(
    path: Path,
    as_json: bool,
    on_error: Any,
    sensor_size: tuple[int, int] | None,
    time_unit: Any,
    format_name: str | None,
) -> None:
    """Say what PATH (a recording, an image, a video, a folder of images) holds."""
    import eventkit

    recording = eventkit.open(
        path,
        on_error=on_error,
        sensor_size=sensor_size,
        time_unit=time_unit,
        format=format_name,
    )
    facts = describe(recording)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo("\n".join(_lines(facts)))


def describe(recording: Any) -> dict[str, Any]:
    """Return the facts about an open recording; reads its events once, in pieces."""
    from eventkit.ledger import Ledger

    ledger = Ledger()
    first, last, on = None, None, 0
    for chunk in recording.stream(ledger):
        if len(chunk.events):
            first = int(chunk.events.t[0]) if first is None else first
            last = int(chunk.events.t[-1])
            on += int(chunk.events.p.sum())
    frames = recording.frames
    facts: dict[str, Any] = {
        "path": str(recording.path),
        "format": recording.format,
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
        "notes": recording.notes,
    }
    if first is not None and last is not None and last > first:
        facts["duration_s"] = (last - first) / 1e6
        facts["rate_hz"] = ledger.kept / ((last - first) / 1e6)
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


def _lines(facts: dict[str, Any]) -> list[str]:
    size = (
        "x".join(str(side) for side in facts["sensor_size"]) if facts["sensor_size"] else "unknown"
    )
    lines = [f"{facts['path']}: {facts['format']}"]
    if facts["ledger"]["words"] or facts["sensor_size"]:
        why = f" ({facts['geometry_source']})" if facts["geometry_source"] else ""
        lines.append(f"  sensor     {size}{why}")
        lines.append(f"  events     {facts['events']:,} ({facts['events_on']:,} ON)")
    if facts["t_first_us"] is not None:
        lines.append(f"  time       {facts['t_first_us']:,} .. {facts['t_last_us']:,} us")
    if "rate_hz" in facts:
        lines.append(f"  duration   {facts['duration_s']:.6f} s, {facts['rate_hz']:,.0f} events/s")
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
    lines += [f"  fault      {f['message']} (byte {f['offset']})" for f in ledger["faults"]]
    lines += [f"  note       {note}" for note in facts["notes"]]
    return lines
