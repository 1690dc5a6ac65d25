"""ECF: equal to a slow reading of the published layout, whole or refused, never past the data."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit import ecf
from eventkit.columns import Columns
from eventkit.errors import FormatError, SettingsError
from eventkit.events import Events
from eventkit.testing.strategies import events


def slowly(data: bytes) -> list[tuple[int, int, int, int]]:
    """Decode by the layout in the words of `eventkit.ecf`, one number at a time."""
    head, t = struct.unpack_from("<Iq", data)
    n, packed, pairs = head >> 2, head & 2, head & 1
    at, times = 12, []
    long, shift = 0, 0
    while len(times) < n:
        step, count = divmod(data[at], 16)
        at += 1
        if step == 15:
            long, shift = long + (count << shift), shift + 4
            continue
        t, long, shift = t + long + step, 0, 0
        if count == 15:
            (count,) = struct.unpack_from("<H", data, at)
            at += 2
        times += [t] * count
    if packed:
        places = []
        for first in range(0, n, 4):
            a, b, c = struct.unpack_from("<III", data, at)
            at += 12
            bits = f"{a:032b}"[:24], f"{b:032b}"[:16] + f"{a:032b}"[24:]
            bits += f"{c:032b}"[:8] + f"{b:032b}"[16:], f"{c:032b}"[8:]
            for word in bits[: n - first]:
                places.append((int(word[12:23], 2), int(word[1:12], 2), int(word[23], 2)))
        return [(x, y, t, p) for (x, y, p), t in zip(places, times, strict=True)]
    ys: list[int] = []
    while len(ys) < n:
        (word,) = struct.unpack_from("<H", data, at)
        at += 2
        y, count = divmod(word, 32)
        if count == 31:
            (count,) = struct.unpack_from("<H", data, at)
            at += 2
        ys += [y] * count
    xs: list[int] = []
    ps: list[int] = []
    if pairs:
        for _ in range(0, n, 4):
            a, b, c = struct.unpack_from("<HHH", data, at)
            at += 6
            bits = f"{a:016b}"[:12], f"{b:016b}"[:8] + f"{a:016b}"[12:]
            bits += f"{c:016b}"[:4] + f"{b:016b}"[8:], f"{c:016b}"[4:]
            xs += [int(word[:11], 2) for word in bits]
            ps += [int(word[11], 2) for word in bits]
    else:
        while len(xs) < n:
            (word,) = struct.unpack_from("<H", data, at)
            at += 2
            xs.append(word >> 5)
            xs += [(word >> 5) + j + 1 for j in range(5) if f"{word:016b}"[11 + j] == "1"]
        while len(ps) < n:
            p, count = divmod(data[at], 128)
            at += 1
            if count == 127:
                (count,) = struct.unpack_from("<H", data, at)
                at += 2
            ps += [p] * count
    return list(zip(xs[:n], ys, times, ps[:n], strict=True))


def decoded(data: bytes, room: int = ecf.MOST_EVENTS) -> Events:
    columns = Columns.empty(room)
    return Events.from_checked(*columns.part(0, ecf.decode(np.frombuffer(data, np.uint8), columns)))


def rows(found: Events) -> list[tuple[int, int, int, int]]:
    return list(found.to_structured().tolist())


def lines(n: int = 200) -> Events:
    """Runs along a row, as a moving edge gives: the style with masks."""
    k = np.arange(n)
    return Events(x=k % 40, y=np.full(n, 7), t=1000 + k // 50, p=np.ones(n, int))


def scattered(n: int = 200, rows: int = 2048) -> Events:
    rng = np.random.default_rng(1)
    y = np.sort(rng.integers(0, rows, n)) if rows < 100 else rng.integers(0, rows, n)
    t = np.cumsum(rng.integers(0, 3, n))
    return Events(x=rng.integers(0, 2048, n), y=y, t=t, p=rng.integers(0, 2, n))


# Style by the two low bits of the header: masks, pairs, packed.
STYLES = {0: lines(), 1: scattered(rows=8), 2: scattered()}


def test_the_published_example_of_one_event() -> None:
    # From the tests that Prophesee publishes with the codec: x=1, y=2, p=0, t=4.
    word = (2 << 12) | (1 << 1)
    data = struct.pack("<IqBIII", (1 << 2) | 2, 4, 0x01, word << 8, 0, 0)

    assert rows(decoded(data)) == [(1, 2, 4, 0)]
    # The runs of one event are shorter: 4 + 8 + 1 bytes, and 2 of y, 2 of x, 1 of polarity.
    assert len(ecf.encode(Events(x=[1], y=[2], t=[4], p=[0]))) == 18


@pytest.mark.parametrize("style", STYLES)
def test_each_style_is_chosen_and_read_as_the_layout_says(style: int) -> None:
    data = ecf.encode(STYLES[style])

    assert data[0] & 3 == style
    assert slowly(data) == rows(STYLES[style])
    assert decoded(data) == STYLES[style]


@given(events(sensor_size=(2048, 2048), min_size=1), st.integers(1, 1 << 50))
def test_events_come_back_from_our_decoder_and_from_the_slow_one(found: Events, far: int) -> None:
    late = Events(x=found.x, y=found.y, t=found.t + far * np.arange(len(found)), p=found.p)
    for stream in (found, late):
        data = ecf.encode(stream)
        assert decoded(data, len(stream)) == stream
        assert slowly(data) == rows(stream)


def test_counts_of_16_bits_and_steps_of_60_bits_come_back() -> None:
    n = ecf.MOST_EVENTS
    same = Events(x=np.full(n, 3), y=np.full(n, 2047), t=np.full(n, -5), p=np.ones(n, int))
    far = Events(x=[0, 1], y=[0, 0], t=[-(1 << 61), 1 << 61], p=[0, 1])

    assert decoded(ecf.encode(same)) == same
    assert decoded(ecf.encode(far)) == far


@pytest.mark.parametrize("style", STYLES)
def test_a_chunk_cut_anywhere_is_refused(style: int) -> None:
    data = ecf.encode(STYLES[style])
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            decoded(data[:cut])
        assert caught.value.offset is not None
        assert 0 <= caught.value.offset <= cut


def test_flipped_bits_give_as_many_events_as_the_header_says_or_an_error() -> None:
    rng = np.random.default_rng(0)
    for trial in range(600):
        data = bytearray(ecf.encode(STYLES[trial % 3]))
        data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
        room = Columns.empty(300)
        for column in room:
            column[200:] = 77
        try:
            found = ecf.decode(np.frombuffer(bytes(data), np.uint8), room)
        except FormatError:
            continue
        assert found == int.from_bytes(data[:4], "little") >> 2 <= 300
        assert all((column[max(found, 200) :] == 77).all() for column in room)


def test_a_header_that_claims_more_than_a_chunk_has_is_refused() -> None:
    data = np.frombuffer(struct.pack("<Iq", 70_000 << 2, 0), np.uint8)

    with pytest.raises(FormatError, match="at most 65535 events in an ECF chunk, got 70000"):
        ecf.count(data)
    with pytest.raises(FormatError, match="at most 1 events in this ECF chunk, got 200"):
        decoded(ecf.encode(lines()), 1)


@pytest.mark.parametrize(
    "stream",
    [
        Events.empty(),
        Events(x=[2048], y=[0], t=[0], p=[0]),
        Events(x=[0], y=[2048], t=[0], p=[0]),
        Events(x=[0], y=[0], t=[(1 << 61) + 1], p=[0]),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_encoded(stream: Events) -> None:
    with pytest.raises(SettingsError, match="expected"):
        ecf.encode(stream)
