"""Files of one JSON object a line, as a run folder has them of its steps and its epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eventkit.errors import DamageError


def read_lines(path: Path, *, number: str) -> list[dict[str, Any]]:
    """Read the objects of a file; none without it, and a last line that a kill cut off is none.

    Parameters
    ----------
    path : Path
    number : str
        Key of the integer that every line has: "step" or "epoch".

    Raises
    ------
    DamageError
        For a line that is no such object; names it, and the cure.
    """
    if not path.is_file():
        return []
    *whole, last = path.read_bytes().split(b"\n")
    lines = [_parsed(line, number) for line in whole]
    if None in lines:
        msg = (
            f"{path}, line {lines.index(None) + 1}: expected a JSON object with the number of its "
            f"{number}, got something else: the file is damaged; put back a copy, or delete the "
            f"line: all but the curves, which then lack this {number}, is kept elsewhere"
        )
        raise DamageError(msg)
    return [line for line in (*lines, _parsed(last, number)) if line is not None]


def _parsed(line: bytes, number: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and isinstance(value.get(number), int):
        return value
    return None
