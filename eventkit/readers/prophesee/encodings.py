"""The encodings of Prophesee's cameras, EVT2, EVT2.1 and EVT3, wherever their words stand.

Each is a table entry: how long its words are, what is known before the first, and its kernels.
Format: https://docs.prophesee.ai/stable/data/encoding_formats/index.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.columns import Columns
from eventkit.kernels import check, evt2, evt3
from eventkit.triggers import CHANNEL_DTYPE

_NO_INDEX = np.empty(0, np.int64)
_NO_WRAP = -(1 << 62)
_OTHERS = ("trigger", "others", "continued", "unknown")
_LOST = ("before_time_high", "before_row")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the words of one encoding become columns.

    Parameters
    ----------
    size : int, bytes
        Of a word.
    unit : dtype
        Of what the kernels are given: words, or their halves.
    state : tuple of int
        What the kernels carry from word to word, before the first.
    offset_at : int
        Where in it the microseconds stand that are added to all times.
    count : callable
        ``count(words, found)``: the room that events need; ``found`` (4,) receives the numbers of
        triggers, OTHERS, CONTINUED and unpublished words.
    fill : callable
        ``fill(words, state, x, y, t, p, index, lost, seen)``: the number of events, or -1 for too
        little room. ``index``, if not empty, receives the word of each event; ``lost`` (3,) is
        raised by the words before the first TIME_HIGH, those before the first row, and for EVT2
        all TIME_HIGH; ``seen`` is that of `eventkit.kernels.check.note`.
    triggers : callable
        ``triggers(words, state, t, source, p)``: the number of triggers.
    one_each : bool
        No word holds more than one event.
    """

    size: int
    unit: np.dtype[Any]
    state: tuple[int, ...]
    offset_at: int
    count: Callable[..., int]
    fill: Callable[..., int]
    triggers: Callable[..., int]
    one_each: bool = False

    def start(self, offset_us: int = 0) -> NDArray[np.int64]:
        """Return the state before the first word."""
        state = np.array(self.state, np.int64)
        state[self.offset_at] = offset_us
        return state

    def words(self, piece: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the whole words of some bytes."""
        return piece[: piece.size // self.size * self.size].view(self.unit)

    def counted(self, words: NDArray[Any]) -> tuple[int, dict[str, int]]:
        """Return the room that events need, and the words that are neither events nor times."""
        found = np.zeros(len(_OTHERS), np.int64)
        room = self.count(words, found)
        return room, dict(zip(_OTHERS, found.tolist(), strict=True))

    def decode(
        self,
        words: NDArray[Any],
        state: NDArray[np.int64],
        room: Columns,
        *,
        index: NDArray[np.int64] = _NO_INDEX,
        seen: NDArray[np.int64] | None = None,
    ) -> tuple[int, dict[str, int], bool]:
        """Write events to ``room``; return their number, the lost words, and whether that is all.

        It is all where every word is known to be an event or a time; nothing else is to be counted
        then. The number is -1 where the room is too small.
        """
        lost = np.zeros(3, np.int64)
        seen = check.unseen() if seen is None else seen
        n = self.fill(words, state, *room, index, lost, seen)
        all_told = self.one_each and n + int(lost.sum()) == words.nbytes // self.size
        return n, dict(zip(_LOST, lost[:2].tolist(), strict=True)), all_told

    def read_triggers(self, words: NDArray[Any], state: NDArray[np.int64]) -> NDArray[Any]:
        """Return the triggers among some words, `eventkit.triggers.CHANNEL_DTYPE`."""
        n = self.counted(words)[1]["trigger"]
        t, source, p = np.empty(n, np.int64), np.empty(n, np.int16), np.empty(n, np.int8)
        n = self.triggers(words, state, t, source, p)
        found = np.empty(n, CHANNEL_DTYPE)
        found["t"], found["source"], found["p"] = t[:n], source[:n], p[:n]
        return found


def evt2_encoding() -> Encoding:
    """Return EVT2: words of 32 bits, an event or a TIME_HIGH each."""
    return Encoding(
        size=4,
        unit=np.dtype("<u4"),
        state=(-1, 0, _NO_WRAP, 0, _NO_WRAP),
        offset_at=3,
        count=evt2.count,
        fill=evt2.fill,
        triggers=partial(evt2.triggers, 0, 1),
        one_each=True,
    )


def evt21_encoding(*, head: int) -> Encoding:
    """Return EVT2.1: words of 64 bits, a vector of 32 pixels each.

    Parameters
    ----------
    head : 0 or 1
        Which half has the kind: the second in the published order, the first in the older one.
    """
    bits = np.arange(1 << 16, dtype=np.uint16)[:, None].view(np.uint8)
    masks = np.unpackbits(bits, axis=1).sum(axis=1, dtype=np.uint8)
    return Encoding(
        size=8,
        unit=np.dtype("<u4"),
        state=(-1, 0, _NO_WRAP, 0, _NO_WRAP),
        offset_at=3,
        count=partial(evt2.count_vectors, head, masks),
        fill=partial(evt2.fill_vectors, head),
        triggers=partial(evt2.triggers, head, 2),
    )


def evt3_encoding() -> Encoding:
    """Return EVT3: words of 16 bits that each change one of row, place and time."""
    return Encoding(
        size=2,
        unit=np.dtype("<u2"),
        state=(-1, 0, _NO_WRAP, 0, -1, -1, 0, _NO_WRAP),
        offset_at=6,
        count=evt3.count,
        fill=partial(evt3.fill, evt3.tables()),
        triggers=evt3.triggers,
    )
