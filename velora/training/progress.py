"""What a run tells the person who waits for it: plain lines, or a live table on a terminal.

The trainer speaks to a :class:`Reporter`; only the command line decides which one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TextIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a training run stands.

    ``top1`` is the accuracy on the epoch's clips so far, ``wait_share`` the part of the time that
    was spent waiting for data, ``memory_bytes`` the peak of the device, or of the process on a CPU.
    ``best_val`` is the accuracy of the best epoch so far, None before there is one.
    """

    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    clips_per_s: float
    seconds_left: float
    top1: float = 0.0
    wait_share: float = 0.0
    memory_bytes: int = 0
    best_val: float | None = None


class ParameterRow(NamedTuple):
    """One part of a model in the parameter table."""

    part: str
    total: int
    trainable: int


class Reporter(Protocol):
    """Receives what happens, in order."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def parameters(self, rows: Sequence[ParameterRow]) -> None:
        """The parameter table, total last."""

    def step(self, step: Step) -> None:
        """A training step is done."""

    def epoch(self, record: dict[str, Any], *, epochs: int) -> None:
        """An epoch is done and saved."""

    def checking(self, what: str, done: int, total: int) -> None:
        """Clips of a split are being evaluated."""

    def close(self) -> None:
        """Nothing follows."""


def parameter_lines(rows: Sequence[ParameterRow]) -> list[str]:
    """Format the parameter table."""
    width = max(len(row.part) for row in rows)
    lines = [f"{'part':<{width}}  {'parameters':>13}  {'trainable':>13}"]
    lines += [f"{r.part:<{width}}  {r.total:>13,}  {r.trainable:>13,}" for r in rows]
    whole = rows[-1]
    share = whole.trainable / whole.total
    mib = whole.trainable * 4 / 2**20
    lines.append(f"trains {share:.2%} of all parameters, head included: {mib:.2f} MiB in float32")
    return lines


def epoch_line(record: dict[str, Any], *, epochs: int) -> str:
    """Format the record of an epoch."""
    width = len(str(epochs))
    parts = [
        f"epoch {record['epoch']:>{width}}/{epochs}",
        f"loss {record['loss']:.4f}",
        f"train {record['train_top1']:.3f}",
    ]
    if record.get("val_top1") is not None:
        parts.append(f"val {record['val_top1']:.3f}")
    parts.append(f"{record['clips_per_s']:.1f} clips/s")
    parts.append(f"left {clock(record['seconds_left'])}")
    return "  ".join(parts) + ("  best" if record["best"] else "")


def clock(seconds: float) -> str:
    """Format a duration as m:ss or h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def memory(num_bytes: int) -> str:
    """Format a size in memory."""
    mib = num_bytes / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1000 else f"{mib:.0f} MiB"


class PlainReporter:
    """Whole lines only; within an epoch one at most every ``every_s`` seconds."""

    def __init__(self, *, every_s: float = 10.0, stream: TextIO | None = None) -> None:
        self._every_s = every_s
        self._stream = stream
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def parameters(self, rows: Sequence[ParameterRow]) -> None:
        """Print the parameter table."""
        for line in parameter_lines(rows):
            self.note(line)

    def step(self, step: Step) -> None:
        """Tell how far an epoch is."""
        if self._due():
            told = ", ".join(f"{name} {value}" for name, value in step_cells(step))
            self.note(f"  epoch {step.epoch}/{step.epochs}: {step.done}/{step.total} clips, {told}")

    def epoch(self, record: dict[str, Any], *, epochs: int) -> None:
        """Print the line of an epoch."""
        self._last = time.monotonic()
        self.note(epoch_line(record, epochs=epochs))

    def checking(self, what: str, done: int, total: int) -> None:
        """Tell how far an evaluation is."""
        if self._due():
            self.note(f"  {what}: {done}/{total} clips")

    def close(self) -> None:
        """Nothing to do: every line is out."""

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True


def step_cells(step: Step) -> list[tuple[str, str]]:
    """Return what is told of a step, name and value."""
    return [
        ("loss", f"{step.loss:.4f}"),
        ("train", f"{step.top1:.3f}"),
        ("best val", "-" if step.best_val is None else f"{step.best_val:.3f}"),
        ("clips/s", f"{step.clips_per_s:.1f}"),
        ("data wait", f"{step.wait_share:.0%}"),
        ("memory", memory(step.memory_bytes)),
        ("left", clock(step.seconds_left)),
    ]


class LiveReporter:
    """A table at the foot of a terminal, with the whole lines above it; needs rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._bar, self._table = ProgressBar, Table
        self._live = Live(console=self._console, transient=True)
        self._live.start()

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def parameters(self, rows: Sequence[ParameterRow]) -> None:
        """Print the parameter table."""
        for line in parameter_lines(rows):
            self.note(line)

    def step(self, step: Step) -> None:
        """Show the table of a step."""
        what = f"epoch {step.epoch}/{step.epochs}"
        self._show(what, step.done, step.total, step_cells(step))

    def epoch(self, record: dict[str, Any], *, epochs: int) -> None:
        """Print the line of an epoch."""
        self.note(epoch_line(record, epochs=epochs))

    def checking(self, what: str, done: int, total: int) -> None:
        """Show how far an evaluation is."""
        self._show(what, done, total, [])

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def _show(self, what: str, done: int, total: int, cells: list[tuple[str, str]]) -> None:
        grid = self._table.grid(padding=(0, 2, 0, 0))
        bar = self._bar(total=max(total, 1), completed=done, width=24)
        grid.add_row(what, bar, f"{done}/{total}")
        whole = self._table.grid()
        whole.add_row(grid)
        if cells:
            numbers = self._table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
            for name, _ in cells:
                numbers.add_column(name, justify="right", no_wrap=True)
            numbers.add_row(*(value for _, value in cells))
            whole.add_row(numbers)
        self._live.update(whole)


def make_reporter(stream: TextIO) -> Reporter:
    """A live reporter on a terminal if rich is installed, else a plain one."""
    if stream.isatty():
        try:
            return LiveReporter(stream)
        except ImportError:
            pass
    return PlainReporter(stream=stream)
