"""The text header of Prophesee RAW files, and what the words say where it is silent.

Lines that begin with ``%`` up to the first that does not, or up to ``% end``
(https://docs.prophesee.ai/stable/data/file_formats/raw.html). ``% evt`` or ``% format`` names the
encoding, ``% geometry`` or ``format``'s ``width`` and ``height`` the sensor; older files have
neither and name the camera by ``plugin_name``. ``% t0 N``, as faery writes it, is added to all
times: for those that the clock's bits do not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.sources import Source

Encoding = Literal["evt2", "evt21", "evt3"]
Found = tuple[tuple[int, int] | None, str]

OFFSET_KEY = "t0"
LEGACY, LITTLE = 0, 1
"""Which half of an EVT2.1 word comes first: its kind, time and place, or its mask."""

_ENCODINGS: dict[str, Encoding] = {
    "2": "evt2",
    "2.0": "evt2",
    "EVT2": "evt2",
    "2.1": "evt21",
    "EVT21": "evt21",
    "EVT2.1": "evt21",
    "3": "evt3",
    "3.0": "evt3",
    "EVT3": "evt3",
}
# Longest first: gen31 is no gen3.
_SENSORS = (
    ("genx320", (320, 320)),
    ("imx636", (1280, 720)),
    ("imx646", (1280, 720)),
    ("gen41", (1280, 720)),
    ("gen4", (1280, 720)),
    ("gen31", (640, 480)),
    ("gen3", (640, 480)),
)
_GENERATIONS = {"3.0": (640, 480), "3.1": (640, 480)} | dict.fromkeys(
    ("4.0", "4.1", "4.2"), (1280, 720)
)
_MAX_LINE = 4096
_LOOKED_AT = 1 << 14
_LONGEST_STEP: dict[Encoding, int] = {"evt2": 1 << 20, "evt21": 1 << 20, "evt3": 1 << 11}


@dataclass(frozen=True, slots=True)
class Header:
    """The lines of a header; ``size`` is where the words begin, in bytes."""

    size: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def encoding(self) -> tuple[Encoding, str] | None:
        """What the header calls the encoding, and the line that does."""
        for key in ("format", "evt"):
            name = self.keys.get(key, "").split(";")[0].strip()
            if name.upper() in _ENCODINGS:
                return _ENCODINGS[name.upper()], f"header line '% {key} {name}'"
        return None

    @property
    def geometry(self) -> list[Found]:
        """What the header says about the sensor, in order of trust."""
        sides = re.fullmatch(r"(\d{1,5})\s*x\s*(\d{1,5})", self.keys.get("geometry", ""))
        told = _size(sides[1], sides[2]) if sides else None
        by_format = _size(self.options.get("width", ""), self.options.get("height", ""))
        return [
            (told, "header line '% geometry'"),
            (by_format, "header line '% format'"),
            self._camera(),
        ]

    def _camera(self) -> Found:
        plugin = self.keys.get("plugin_name", "").lower()
        for name, size in _SENSORS:
            if name in plugin:
                return size, f"camera of the header line '% plugin_name {plugin}'"
        generation = self.keys.get("sensor_generation", "")
        known = _GENERATIONS.get(generation)
        return known, f"camera of the header line '% sensor_generation {generation}'"

    def t_offset_us(self, source: Source) -> int:
        """Microseconds to add to all times."""
        text = self.keys.get(OFFSET_KEY, "0")
        if re.fullmatch(r"[+-]?\d{1,19}", text) and abs(int(text)) < 1 << 62:
            return int(text)
        msg = f"expected microseconds in the header line '% {OFFSET_KEY}', got {text[:40]!r}"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")


def parse(source: Source) -> Header:
    """Read the header; without one, words begin at byte 0."""
    head, at = source.head, 0
    keys: dict[str, str] = {}
    ends = any(line in head for line in (b"\n% end\n", b"\n% end\r\n"))
    while head[at : at + 1] == b"%":
        end = head.find(b"\n", at)
        line = head[at:end]
        # A word may begin with the byte of "%": where no line says the end of the header, a line of
        # text is one that ends, and has no control characters.
        if end < 0 or not (ends or (end < at + _MAX_LINE and _is_text(line))):
            break
        at = end + 1
        text = line.decode("latin-1").lstrip("%").strip()
        if text.lower() == "end":
            break
        key, _, value = text.partition(" ")
        keys.setdefault(key.lower(), value.strip())
    parts = keys.get("format", "").split(";")[1:]
    options = dict(part.strip().lower().partition("=")[::2] for part in parts)
    return Header(at, keys, options)


def _is_text(line: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r" for byte in line)


def identify(source: Source) -> tuple[Encoding, str] | None:
    """Return the encoding and why; by the words only where no header names it, and only if sure."""
    header = parse(source)
    named = header.encoding
    if named is not None:
        return named
    if source.suffix != ".raw":  # a DAT file has such lines too
        return None
    words = np.frombuffer(source.head, np.uint8)[header.size :]
    fits = [encoding for encoding in _LONGEST_STEP if _plausible(words, encoding)]
    where = "a header without an encoding" if header.keys else "suffix .raw without a header"
    if len(fits) == 1:
        return fits[0], f"{where}; kinds and times of the first words are those of {fits[0]}"
    return None


def word_order(source: Source, header: Header) -> tuple[int, str]:
    """Return which half of EVT2.1 words has the kind (0 first, 1 second), and why.

    Raises
    ------
    FormatError
        If neither the header nor the words tell.
    """
    told = header.options.get("endianness", header.keys.get("endianness", "")).lower()
    if told == "legacy":
        return LEGACY, "legacy word order, by the header"
    if told == "little":
        return LITTLE, "little-endian words, by the header"
    raw = np.frombuffer(source.head, np.uint8)[header.size :]
    fits = [order for order in (LEGACY, LITTLE) if _plausible(raw, "evt21", order=order)]
    if len(fits) == 1:
        name = ("legacy word order", "little-endian words")[fits[0]]
        return fits[0], f"{name}, by the kinds and times of the first words"
    if len(raw) < 8:
        return LITTLE, "little-endian words; there are none"
    msg = (
        "expected EVT2.1 words in one of the two orders, got words that "
        f"fit {'both' if fits else 'neither'}; add a line '% endianness little' or "
        "'% endianness legacy' to the header"
    )
    raise FormatError(msg, path=source.name, offset=header.size, reason="bad_header")


def _plausible(raw: NDArray[np.uint8], encoding: Encoding, *, order: int | None = None) -> bool:
    """Whether words have published kinds only, and a clock that goes on."""
    if encoding == "evt3":
        words = raw[: raw.size // 2 * 2].view("<u2")[:_LOOKED_AT]
        kinds, values = words >> 12, words & 0xFFF
        known = np.isin(kinds, (0, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15))
        # The two bits above a row, and the sensor it is on.
        sane = bool(np.all((kinds != 0) | (values & 0x7FF < 1088)))
    elif encoding == "evt2":
        wide = raw[: raw.size // 4 * 4].view("<u4")[:_LOOKED_AT]
        kinds, values = wide >> 28, (wide & 0x0FFFFFFF).astype(np.int64)
        known, sane = np.isin(kinds, (0, 1, 8, 10, 14, 15)), _rows_fit(wide)
    elif order is None:
        return any(_plausible(raw, encoding, order=half) for half in (LEGACY, LITTLE))
    else:
        pairs = raw[: raw.size // 8 * 8].view("<u4").reshape(-1, 2)[:_LOOKED_AT]
        head = pairs[:, order]
        kinds, values = head >> 28, (head & 0x0FFFFFFF).astype(np.int64)
        known = np.isin(kinds, (0, 1, 8, 10, 14, 15))
        # A TIME_HIGH has nothing in its other half, and an event at least one pixel.
        empty = pairs[:, 1 - order] == 0
        sane = _rows_fit(head) and bool(np.all(empty[kinds == 8])) and not empty[kinds < 2].any()
    highs = values[kinds == 8].astype(np.int64)
    if not known.all() or not sane or highs.size < 2:
        return False
    steps = np.diff(highs)
    return bool(np.mean((steps >= 0) & (steps <= _LONGEST_STEP[encoding])) > 0.99)


def _rows_fit(words: NDArray[np.uint32]) -> bool:
    events = words[words >> 28 < 2]
    return bool(np.all(events & 0x7FF < 1088)) and bool(np.all((events >> 11) & 0x7FF < 1920))


def _size(width: str, height: str) -> tuple[int, int] | None:
    sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in (width, height)]
    return (sides[0], sides[1]) if all(0 < side <= 65536 for side in sides) else None
