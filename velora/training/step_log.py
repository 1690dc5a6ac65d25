"""``steps.jsonl``: one line an update, each update once whatever stops and restarts there were."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from eventkit.atomic import write_atomic
from velora.training.lines import read_lines

NAME = "steps.jsonl"


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a run; one that a kill cut off is none.

    Raises
    ------
    DamageError
        For any other line that is damaged.
    """
    return read_lines(folder / NAME, number="step")


class StepLog:
    """Appends lines; what goes beyond the state that a run goes on from is dropped first.

    Parameters
    ----------
    folder : Path
    done : int
        Updates that the state has.
    """

    def __init__(self, folder: Path, *, done: int) -> None:
        kept = [line for line in read_steps(folder) if line["step"] <= done]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomic(folder / NAME, text.encode())
        self._file: BinaryIO = (folder / NAME).open("ab", buffering=0)

    def add(self, record: dict[str, Any]) -> None:
        """Write the line of an update; it survives this process, and after `sync` the machine."""
        self._file.write(json.dumps(record).encode() + b"\n")

    def sync(self) -> None:
        """Bring the lines to the disk, before a state says that these updates are done."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()
