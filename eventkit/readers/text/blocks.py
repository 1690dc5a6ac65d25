"""Pieces of a text file as whole lines; one that is too long stands alone and is not held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eventkit.readers.text.head import LONGEST_LINE
from eventkit.sources import PIECE_BYTES, Source

_SHOWN_BYTES = 100


class Block(NamedTuple):
    """Some lines.

    Parameters
    ----------
    offset : int, bytes
        Of the first of them.
    lines : (n,) uint8
        They end in a newline, also where the file does not; of a line that is too long its
        beginning. Good until the next block.
    kind : str
        ``whole`` lines; the last line, ``cut`` as it has no newline; a line that is too ``long``;
        or the same without a newline, ``endless``.
    """

    offset: int
    lines: NDArray[np.uint8]
    kind: Literal["whole", "cut", "long", "endless"]


def blocks(source: Source, start: int) -> Iterator[Block]:
    """Yield the lines from a byte on; which of them are too long depends on nothing else."""
    store = bytearray(LONGEST_LINE + PIECE_BYTES + 1)
    kept = np.frombuffer(store, np.uint8)
    begin, held = start, 0
    long: Block | None = None
    for offset, piece in source.pieces(start=start):
        begin, filled = offset - held, held + piece.size
        kept[held:filled] = piece
        at = held = 0
        while at < filled:
            if long is None:
                end = _end_of_lines(store, at, filled)
                if end > at:
                    yield Block(begin + at, kept[at:end], "whole")
                at, held = end, filled - end
                if held <= LONGEST_LINE:
                    break
                long, held = Block(begin + at, kept[at : at + _SHOWN_BYTES].copy(), "long"), 0
            newline = store.find(b"\n", at, filled)
            at = newline + 1 or filled
            if newline >= 0:
                yield long
                long = None
        kept[:held] = kept[filled - held : filled].copy()
        begin += filled - held
    if long is not None:
        yield long._replace(kind="endless")
    elif held:
        store[held] = 10
        yield Block(begin, kept[: held + 1], "cut")


def _end_of_lines(store: bytearray, at: int, stop: int) -> int:
    """Return where the lines from ``at`` on end that are whole and not too long.

    One look back from the longest line that could be, so the rows between are passed over.
    """
    while (newline := store.rfind(b"\n", at, min(at + LONGEST_LINE + 1, stop))) >= 0:
        at = newline + 1
    return at
