"""Messages of chunks in the order of their times.

Chunks of recorders follow each other in time, so that one is held, or two. Those of a forged file
overlap as it likes: beyond `HELD_BYTES` the one that was not needed for longest is let go, and read
again.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterator, Mapping

from eventkit.readers.ros.chunks import UNPACKED_BYTES, Lost, tell

HELD_BYTES = UNPACKED_BYTES
"""Of the messages in chunks that overlap: as much as one chunk may take."""
_MESSAGE_BYTES = 128
"""What Python takes for a message beside its bytes."""

DAMAGE = (ValueError, KeyError, struct.error, OverflowError)  # ChunkError is a ValueError

Found = tuple[int, int, bytes]
"""A message: nanoseconds, channel or connection, bytes."""


def merged(
    read: Callable[[int], list[Found]], begins: Mapping[int, int], lost: Lost | None
) -> Iterator[Found]:
    """Yield the messages of all chunks.

    Parameters
    ----------
    read : callable
        Returns the messages of the chunk at a byte, in the order of their times. It looks at all
        of them, so that what is damaged does not depend on where reading starts.
    begins : mapping of byte -> nanoseconds
        Of each chunk, no later than its first message.
    lost : callable, optional
        Told of chunks that are damaged; without it they are an error.
    """
    held = _Held(read)
    found = [_chunk(held, at, time, lost) for at, time in begins.items()]
    for message in heapq.merge(*found, key=lambda message: message[0]):
        if message[1] >= 0:
            yield message


def _chunk(held: _Held, at: int, time: int, lost: Lost | None) -> Iterator[Found]:
    """Yield the messages of a chunk, a blank one first: a chunk waits for its time."""
    yield time, -1, b""
    try:
        count = len(held.messages(at))
    except DAMAGE as err:
        tell(lost, err)
        return
    for i in range(count):
        yield held.messages(at)[i]
    held.drop(at)


class _Held:
    """The messages of chunks that are not read to their end, by where those stand."""

    def __init__(self, read: Callable[[int], list[Found]]) -> None:
        self._read = read
        self._held: dict[int, list[Found]] = {}
        self._sizes: dict[int, int] = {}

    def messages(self, at: int) -> list[Found]:
        """Return the messages of the chunk at a byte."""
        found = self._held.pop(at, None)
        if found is None:
            found = self._read(at)
            self._sizes[at] = sum(len(data) + _MESSAGE_BYTES for _, _, data in found)
            while len(self._sizes) > 1 and sum(self._sizes.values()) > HELD_BYTES:
                self.drop(next(iter(self._held)))
        self._held[at] = found
        return found

    def drop(self, at: int) -> None:
        """Let a chunk go."""
        self._held.pop(at, None)
        self._sizes.pop(at, None)
