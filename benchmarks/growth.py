"""Cost by number of events, 10^5 to 10^8: nanoseconds an event, and memory beside the output."""

from __future__ import annotations

import time
from pathlib import Path

import common  # noqa: F401  first: one thread a library
import numpy as np
from streams import DAVIS, clustered

import eventkit
from eventkit.representations import make

NAMES = (
    "counts:eventkit",
    "voxel:zhu",
    "voxel:cube",
    "surface:sae",
    "surface:tore",
    "image:event-ahu",
    "stack:rvt",
)


def peak_mib() -> float:
    """Return the peak of resident memory since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def resident_mib() -> float:
    """Return what is resident now."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def reset_peak() -> None:
    """Let the kernel measure the peak anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def repeated(events: eventkit.Events, times: int) -> eventkit.Events:
    """Return the stream ``times`` times, one after the other in time."""
    span = int(events.t[-1]) + 1
    t = (events.t + span * np.arange(times)[:, None]).reshape(-1)
    return eventkit.Events.from_checked(
        np.tile(events.x, times), np.tile(events.y, times), t, np.tile(events.p, times)
    )


def main(*, largest: int = 10**8) -> None:
    print("\n### growth, 346x260, 8 bins: ns an event (MiB beside the output)\n")
    sizes = [n for n in (10**5, 10**6, 10**7, 10**8) if n <= largest]
    print("| name | " + " | ".join(f"{n:.0e}" for n in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    cells: dict[str, list[str]] = {name: [] for name in NAMES}
    for n in sizes:
        base = clustered(min(n, 10**7), DAVIS)
        events = repeated(base, n // len(base)) if n > len(base) else base
        del base
        for name in NAMES:
            cells[name].append(_measure(name, events))
        del events
    for name, row in cells.items():
        print(f"| {name} | " + " | ".join(row) + " |")


def _measure(name: str, events: eventkit.Events) -> str:
    settings = {"bins": 8} if name.startswith(("voxel", "stack")) else {}
    rule = {} if settings else {"bins": 8}
    representation = make(name, **settings)
    out = representation(events[:1000], sensor_size=DAVIS, **rule)
    spent = []
    reset_peak()
    before = resident_mib()
    for _ in range(3 if len(events) > 10**7 else 9):
        began = time.perf_counter()
        representation(events, sensor_size=DAVIS, out=out, **rule)
        spent.append(time.perf_counter() - began)
    extra = peak_mib() - before
    return f"{min(spent) / len(events) * 1e9:.2f} ({extra:.0f})"


if __name__ == "__main__":
    main()
