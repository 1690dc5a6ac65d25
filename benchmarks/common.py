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
import tempfile
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
sys.argv = ["eventkit", *sys.argv[2:]] if sys.argv[1] == "" else sys.argv[1:]
try:
    if sys.argv[0] == "eventkit":
        from eventkit.cli import main
        main()
    else:
        exec(sys.argv[0])
finally:
    # Of this program alone: `ru_maxrss` begins with what the parent held at the fork.
    status = Path("/proc/self/status").read_text()
    print(*(status.split(name)[1].split()[0] for name in ("VmHWM:", "RssFile:")), file=sys.stderr)
"""
POLL_S = 0.02

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


@dataclass(frozen=True)
class Cost:
    """What a process took: wall and CPU time, peak of memory, and what of it was no file.

    Pages of libraries are 60 to 117 MB by how the cache of the file system holds them.
    """

    seconds: float
    cpu_s: float
    peak_mib: float
    own_mib: float


def of_tool(*arguments: str | Path) -> list[str]:
    """Return the command for an `eventkit` command in a process that tells its memory."""
    return [sys.executable, "-c", PROBE, "", *map(str, arguments)]


def of_code(code: str, *arguments: str | Path) -> list[str]:
    """Return the command for some code, whose ``sys.argv[1:]`` are the arguments."""
    return [sys.executable, "-c", PROBE, code, *map(str, arguments)]


def measured(command: list[str], *, mark: Path | None = None) -> list[Cost]:
    """Run a command of `of_tool` or `of_code`; return what it took.

    With ``mark`` there are two parts: until that file is there, and from then on.
    """
    costs: list[Cost] = []
    with tempfile.TemporaryFile("w+") as told:
        began = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        while True:
            pid, code, usage = os.wait4(running.pid, os.WNOHANG)
            if pid:
                break
            if mark is not None and not costs and mark.is_file():
                costs.append(_so_far(running.pid, time.perf_counter() - began))
            time.sleep(POLL_S)
        seconds = time.perf_counter() - began
        running.returncode = os.waitstatus_to_exitcode(code)
        told.seek(0)
        words = told.read()
    if running.returncode:
        print(words, file=sys.stderr)
        raise subprocess.CalledProcessError(running.returncode, command[3:])
    peak, files = (int(word) / 1024 for word in words.split()[-2:])
    before = costs[0] if costs else Cost(0.0, 0.0, 0.0, 0.0)
    cpu_s = usage.ru_utime + usage.ru_stime
    costs.append(Cost(seconds - before.seconds, cpu_s - before.cpu_s, peak, peak - files))
    return costs


def _so_far(pid: int, seconds: float) -> Cost:
    """Return what a running process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    status = Path(f"/proc/{pid}/status").read_text()
    peak, files = (int(status.split(n)[1].split()[0]) / 1024 for n in ("VmHWM:", "RssFile:"))
    return Cost(seconds, cpu_s, peak, peak - files)


def tool_peak(*arguments: str | Path) -> tuple[int, float]:
    """Run an `eventkit` command in a process of its own; return its peak in MiB and its seconds."""
    (cost,) = measured(of_tool(*arguments))
    return int(cost.peak_mib), cost.seconds


def compare(
    title: str,
    rows: Rows,
    *,
    against: str,
    rounds: int,
    before: Callable[[], object] | None = None,
) -> dict[str, float]:
    """Print one table; return time(row) / time(against), the median over rounds.

    Parameters
    ----------
    title : str
    rows : mapping name -> function
        Each returns fresh output. One that fails at its first call is left out, with the reason.
    against : str
        The row that the others are divided by.
    rounds : int
    before : function, optional
        Called before each row, outside the clock, as to remove what the last one wrote; rows are
        then run once a round.
    """
    repeats = {}
    begin = before or (lambda: None)
    for name, row in list(rows.items()):
        begin()
        try:
            row()  # compiles and warms
        except Exception as err:  # a peer that breaks must not stop the others
            print(f"left out: {name} ({type(err).__name__}: {str(err)[:100]})")
            del rows[name]
            continue
        if before is not None:
            repeats[name] = 1
            continue
        began = time.perf_counter()
        row()
        repeats[name] = max(1, min(20, int(FILL_S / max(time.perf_counter() - began, 1e-6))))
    seconds = _rounds(rows, repeats, rounds, begin)
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


def _rounds(
    rows: Rows, repeats: dict[str, int], rounds: int, begin: Callable[[], object]
) -> dict[str, list[float | None]]:
    seconds: dict[str, list[float | None]] = {name: [] for name in rows}
    names = list(rows)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn >= 3 and sum(s for s in seconds[name] if s) > BUDGET_S:
                seconds[name].append(None)
                continue
            gc.collect()
            begin()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                rows[name]()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    return seconds


def _median(spent: list[float | None]) -> float:
    return statistics.median(s for s in spent if s)
