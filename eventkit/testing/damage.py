"""Damage to the bytes of a file: cuts, flips, moved blocks, forged sizes. Seeded, so it repeats.

Problem: bytes drawn at random are refused at the magic number and test nothing behind it. Choice: a
sound file, damaged in the ways that files are (cut downloads, bad sectors, appended twice) and in
the way that an attacker would (a size field that claims two gigabytes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Random = np.random.Generator

HUGE = (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_FFF0)
"""Sizes of two and four gigabytes, signed and unsigned."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file.

    Parameters
    ----------
    kind : str
        What was done to it.
    data : bytes
    at : int
        The first byte that was touched; what stands before it is as it was.
    """

    kind: str
    data: bytes
    at: int


def cuts(data: bytes, *, most: int = 1 << 16, seed: int = 0) -> Iterator[Damage]:
    """Yield the file cut at every byte; for long files at ``most`` bytes, both ends among them.

    Examples
    --------
    >>> [cut.data for cut in cuts(b"abc")]
    [b'', b'a', b'ab']
    """
    places = np.arange(len(data))
    if len(data) > most:
        inner = np.random.default_rng(seed).choice(places, most // 2, replace=False)
        places = np.unique(np.concatenate([places[: most // 4], inner, places[-(most // 4) :]]))
    for at in places.tolist():
        yield Damage("cut", data[:at], at)


def forged_sizes(data: bytes, *, head: int = 512, tail: int = 256) -> Iterator[Damage]:
    """Yield the file with a size field that claims gigabytes, wherever one could be.

    Any four or eight bytes near the beginning and the end, in both byte orders, and every number
    written in digits.

    Parameters
    ----------
    data : bytes
    head, tail : int, bytes
        How much of both ends is tried.
    """
    near = [*range(min(head, len(data))), *range(max(head, len(data) - tail), len(data))]
    for turn, at in enumerate(near):
        value = HUGE[turn % len(HUGE)]
        for field in (
            value.to_bytes(4, "little"),
            value.to_bytes(4, "big"),
            (value << 8 * (turn % 3)).to_bytes(8, "little"),
        ):
            yield Damage("forged size", data[:at] + field + data[at + len(field) :], at)
    for found in re.finditer(rb"\d+", data[:head]):
        a, b = found.span()
        for digits in (b"9" * (b - a), b"9" * (b - a + 9), b"-1"):
            yield Damage("forged number", data[:a] + digits + data[b:], a)


def damaged(data: bytes, rng: Random) -> Damage:
    """Return the file with damage of any kind; single flips are drawn most.

    Parameters
    ----------
    data : bytes
        At least one.
    rng : numpy.random.Generator

    Examples
    --------
    >>> made = damaged(b"some file", np.random.default_rng(1))
    >>> made.data[: made.at] == b"some file"[: made.at]
    True
    """
    make = _KINDS[int(rng.integers(len(_KINDS)))]
    return make(data, rng)


def flip_one(data: bytes, rng: Random) -> Damage:
    """Flip one bit."""
    return _flips(data, rng, 1)


def _flips(data: bytes, rng: Random, many: int) -> Damage:
    content = bytearray(data)
    places = rng.integers(0, len(data), many).tolist()
    for at in places:
        content[at] ^= 1 << int(rng.integers(8))
    return Damage("flip" if many == 1 else "flips", bytes(content), min(places))


def flip_some(data: bytes, rng: Random) -> Damage:
    """Flip 2 to 64 bits."""
    return _flips(data, rng, int(rng.choice([2, 4, 16, 64])))


def overwrite(data: bytes, rng: Random) -> Damage:
    """Overwrite up to 32 bytes with one value: zeros, ones, or any."""
    at, many = int(rng.integers(len(data))), int(rng.integers(1, 33))
    value = int(rng.choice([0, 255, int(rng.integers(256))]))
    end = min(at + many, len(data))
    return Damage("overwritten", data[:at] + bytes([value]) * (end - at) + data[end:], at)


def _block(data: bytes, rng: Random) -> tuple[int, int]:
    size = int(rng.choice([1, 2, 4, 5, 6, 8, 16, 64, 512]))
    at = int(rng.integers(len(data)))
    return at, min(at + size, len(data))


def swap_blocks(data: bytes, rng: Random) -> Damage:
    """Let two blocks that stand side by side change places."""
    a, b = _block(data, rng)
    c = min(2 * b - a, len(data))
    return Damage("swapped", data[:a] + data[b:c] + data[a:b] + data[c:], a)


def repeat_block(data: bytes, rng: Random) -> Damage:
    """Write a block twice."""
    a, b = _block(data, rng)
    return Damage("repeated", data[:b] + data[a:b] + data[b:], b)


def remove_block(data: bytes, rng: Random) -> Damage:
    """Leave a block out."""
    a, b = _block(data, rng)
    return Damage("removed", data[:a] + data[b:], a)


def cut_anywhere(data: bytes, rng: Random) -> Damage:
    """Flip a bit and cut the file behind it, or before."""
    flipped, at = flip_one(data, rng), int(rng.integers(len(data)))
    return Damage("flip and cut", flipped.data[:at], min(at, flipped.at))


def claim_much(data: bytes, rng: Random) -> Damage:
    """Write a size of gigabytes over four bytes."""
    at = int(rng.integers(len(data)))
    order = "little" if rng.random() < 0.5 else "big"
    value = int(rng.choice(HUGE))
    field = value.to_bytes(4, "little") if order == "little" else value.to_bytes(4, "big")
    return Damage("forged size", data[:at] + field + data[at + 4 :], at)


_KINDS: tuple[Callable[[bytes, Random], Damage], ...] = (
    flip_one,
    flip_one,
    flip_one,
    flip_some,
    overwrite,
    swap_blocks,
    repeat_block,
    remove_block,
    cut_anywhere,
    claim_much,
)
