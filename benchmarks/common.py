"""Paired timing: every round calls every row, in rotating order, and only ratios are reported.

A shared machine drifts by 30 % and more between runs; the ratio of two rows in the same round does
not. Milliseconds are printed for orientation and never compared across runs.
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

# Before NumPy and Numba: one thread a library, so that kernels are compared and not pools.
for _name in ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMBA_NUM", "RAYON_NUM", "POLARS_MAX"):
    os.environ.setdefault(f"{_name}_THREADS", "1")

FILL_S = 0.02
BUDGET_S = 30.0
"""A row slower than this in all is not called again, but at least in three rounds."""

PROBE = """
import sys
from pathlib import Path
from eventkit.cli import main
sys.argv = ["eventkit", *sys.argv[1:]]
try:
    main()
finally:
    # Of this program alone: `ru_maxrss` begins with what the parent held at the fork.
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""

Rows = dict[str, Callable[[], Any]]


@dataclass
class Report:
    """The summary that the docs quote: one line a target."""

    lines: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, beside: str, where: str, ratio: float | None, target: float) -> None:
        """Book one ratio (time of the peer / time of eventkit); None where the peer is absent."""
        got = "left out" if ratio is None else f"{ratio:.2g}x"
        verdict = "" if ratio is None else "met" if ratio >= target else "missed"
        self.lines.append((what, beside, where, f"{got} (target {target:g}x)", verdict))

    def add_limit(self, what: str, beside: str, where: str, ratio: float, limit: float) -> None:
        """Book a ratio (time of eventkit / time beside) that may not be above ``limit``."""
        verdict = "met" if ratio <= limit else "missed"
        self.lines.append((what, beside, where, f"{ratio:.2g}x (at most {limit:g}x)", verdict))

    def print(self) -> None:
        """Print the table."""
        print("\n## Summary\n\n| what | beside | where | ratio | |\n|---|---|---|---|---|")
        for line in self.lines:
            print("| " + " | ".join(line) + " |")


def peer(name: str) -> ModuleType | None:
    """Import an optional library, or say that it is left out."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        print(f"left out: {name} ({err})")
        return None


def tool_peak(*arguments: str | Path) -> tuple[int, float]:
    """Run an `eventkit` command in a process of its own; return its peak in MiB and its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1]) // 1024, time.perf_counter() - began


def compare(title: str, rows: Rows, *, against: str, rounds: int) -> dict[str, float]:
    """Print one table; return time(row) / time(against), the median over rounds.

    Parameters
    ----------
    title : str
    rows : mapping name -> function
        Each returns fresh output. One that fails at its first call is left out, with the reason.
    against : str
        The row that the others are divided by.
    rounds : int
    """
    repeats = {}
    for name, row in list(rows.items()):
        try:
            row()  # compiles and warms
        except Exception as err:  # a peer that breaks must not stop the others
            print(f"left out: {name} ({type(err).__name__}: {str(err)[:100]})")
            del rows[name]
            continue
        began = time.perf_counter()
        row()
        repeats[name] = max(1, min(20, int(FILL_S / max(time.perf_counter() - began, 1e-6))))
    seconds = _rounds(rows, repeats, rounds)
    print(
        f"\n### {title} ({rounds} rounds)\n\n| row | ms | x {against} (min .. max) |\n|---|---|---|"
    )
    ratios = {}
    for name, spent in sorted(seconds.items(), key=lambda item: _median(item[1])):
        pairs = [a / b for a, b in zip(spent, seconds[against], strict=True) if a and b]
        ratios[name] = statistics.median(pairs)
        spread = f"{ratios[name]:.3g} ({min(pairs):.3g} .. {max(pairs):.3g})"
        print(f"| {name} | {_median(spent) * 1e3:.3g} | {spread} |", flush=True)
    return ratios


def _rounds(rows: Rows, repeats: dict[str, int], rounds: int) -> dict[str, list[float | None]]:
    seconds: dict[str, list[float | None]] = {name: [] for name in rows}
    names = list(rows)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn >= 3 and sum(s for s in seconds[name] if s) > BUDGET_S:
                seconds[name].append(None)
                continue
            gc.collect()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                rows[name]()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    return seconds


def _median(spent: list[float | None]) -> float:
    return statistics.median(s for s in spent if s)
