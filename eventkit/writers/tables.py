"""What formats that are tables of events have in common."""

from __future__ import annotations

from eventkit.writers.base import Contents


def lost_beside_events(contents: Contents, format: str) -> list[str]:
    """Return a sentence for each side that a table of events has no place for."""
    sides = {
        "frames": contents.frames,
        "triggers": contents.triggers,
        "IMU samples": contents.imu,
    }
    return [f"{format} has no place for the {n} {side}" for side, n in sides.items() if n]
