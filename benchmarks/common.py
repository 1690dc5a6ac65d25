"""Paired timing: every round calls every row, in rotating order, and only ratios are reported.

A shared machine drifts by 30 % and more between runs; the ratio of two rows in the same round does
not. Milliseconds are printed for orientation and never compared across runs.
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

# Before NumPy and Numba: one thread a library, so that kernels are compared and not pools.
for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

FILL_S = 0.02


def peer(name: str) -> ModuleType | None:
    """Import an optional library, or say that it is left out."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        print(f"left out: {name} ({err})")
        return None


def compare(title: str, rows: dict[str, Callable[[], Any]], *, against: str, rounds: int) -> None:
    """Print one table: milliseconds, and time(row) / time(against) as the median over rounds."""
    repeats = {}
    for name, row in rows.items():
        row()  # compiles and warms
        began = time.perf_counter()
        row()
        repeats[name] = max(1, min(20, int(FILL_S / max(time.perf_counter() - began, 1e-6))))
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                rows[name]()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    print(
        f"\n### {title} ({rounds} rounds)\n\n| row | ms | x {against} (min .. max) |\n|---|---|---|"
    )
    for name, spent in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        ratios = [a / b for a, b in zip(spent, seconds[against], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        spread = f"{middle:.3g} ({low:.3g} .. {high:.3g})"
        print(f"| {name} | {statistics.median(spent) * 1e3:.3g} | {spread} |")
