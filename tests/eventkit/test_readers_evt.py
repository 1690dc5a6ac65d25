"""Prophesee RAW: real files, a slow twin of each encoding, clocks, word orders, damage."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError, UnsupportedFormatError
from eventkit.events import Events

EVT3 = "% evt 3.0\n% geometry 64x48\n% end\n"
EVT2 = "% evt 2.0\n% geometry 64x48\n% end\n"
EVT21 = "% evt 2.1\n% endianness {}\n% geometry 64x48\n% end\n"


def write(path: Path, header: str, words: Any, kind: str) -> Path:
    path.write_bytes(header.encode() + np.array(words, kind).tobytes())
    return path


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    return list(
        zip(
            events.x.tolist(),
            events.y.tolist(),
            events.t.tolist(),
            events.p.tolist(),
            strict=True,
        )
    )


def high3(value: int) -> int:
    return 8 << 12 | value


def low3(value: int) -> int:
    return 6 << 12 | value


def at3(x: int, p: int = 1) -> int:
    return 2 << 12 | p << 11 | x


def high2(value: int) -> int:
    return 8 << 28 | value


def at2(x: int, y: int, low: int, p: int = 1) -> int:
    return p << 28 | low << 22 | x << 11 | y


def slow_evt3(words: list[int]) -> list[tuple[int, int, int, int]]:
    """One word after the other, from the published description; no wraps."""
    found: list[tuple[int, int, int, int]] = []
    high = row = base = polarity = None
    low = 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 8 and value != high:
            high, low = value, 0
        elif kind == 6:
            low = value
        elif kind == 0:
            row = value & 0x7FF
        elif kind == 1:  # of another kind of event, by OpenEB
            row = None
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif high is None or row is None:
            continue
        elif kind == 2:
            found.append((value & 0x7FF, row, high << 12 | low, value >> 11))
        elif kind in (4, 5) and base is not None and polarity is not None:
            size = 12 if kind == 4 else 8
            for bit in range(size):
                if value >> bit & 1:
                    found.append((base + bit, row, high << 12 | low, polarity))
            base += size
    return found


def test_the_real_evt3_recording_has_its_published_counts(shared: Path) -> None:
    recording = eventkit.open(shared / "evt" / "evt3_1280x720.raw")

    assert recording.format == "evt3"
    assert recording.sensor_size == (1280, 720)
    assert "header line" in recording.evidence
    assert len(recording.events) == 1_218_618
    assert (recording.events.t[0], recording.events.t[-1]) == (11_200_224, 21_968_221)
    assert recording.ledger.decoded == recording.ledger.kept
    assert recording.ledger.words == 4_681_676


def test_evt3_and_dat_of_one_recording_agree(shared: Path) -> None:
    raw = eventkit.open(shared / "evt" / "evt3_1280x720.raw").events
    dat = eventkit.open(shared / "dat" / "same_recording_as_evt3_1280x720.dat").events

    for name in "xyp":
        np.testing.assert_array_equal(getattr(raw, name), getattr(dat, name))
    assert np.unique(raw.t - dat.t).tolist() == [11_194_368]


def test_the_real_evt2_recording_has_its_geometry_from_the_camera(shared: Path) -> None:
    recording = eventkit.open(shared / "evt" / "evt2_640x480.raw")

    assert recording.format == "evt2"
    assert recording.sensor_size == (640, 480)
    assert "plugin_name hal_plugin_gen3_fx3" in recording.geometry_source
    assert len(recording.events) == 521_252


def test_between_is_a_slice_of_the_whole(shared: Path) -> None:
    path = shared / "evt" / "evt3_1280x720.raw"
    whole, recording = eventkit.open(path).events, eventkit.open(path)

    for start, stop in ((11_500_000, 11_600_000), (21_000_000, 30_000_000), (0, 11_200_225)):
        first, last = np.searchsorted(whole.t, [start, stop])
        assert recording.between(start, stop) == whole[int(first) : int(last)]


evt3_words = st.lists(
    st.one_of(
        st.builds(high3, st.sampled_from([5, 6, 7])),
        st.builds(low3, st.integers(0, 4095)),
        st.integers(0, 47),
        st.builds(at3, st.integers(0, 63), st.integers(0, 1)),
        st.builds(lambda x, p: 3 << 12 | p << 11 | x, st.integers(0, 50), st.integers(0, 1)),
        st.builds(lambda bits: 4 << 12 | bits, st.integers(0, 4095)),
        st.builds(lambda bits: 5 << 12 | bits, st.integers(0, 4095)),
        st.sampled_from([0x7ABC, 0xE123, 0xF000, 0x9999, 0xA101, 0x1007]),
    ),
    max_size=600,
)


@given(words=evt3_words)
def test_evt3_equals_a_slow_twin(tmp_path_factory: pytest.TempPathFactory, words: Any) -> None:
    # A time that steps back or a place outside is the policy's business: words are sorted by time.
    path = tmp_path_factory.mktemp("a") / "a.raw"
    words = [high3(5), *[w for w in words if w >> 12 != 8]]
    lows = iter(sorted(w for w in words if w >> 12 == 6))
    words = [next(lows) if w >> 12 == 6 else w for w in words]
    write(path, EVT3, words, "<u2")

    recording = eventkit.open(path, sensor_size=(2047, 2047))

    expected = slow_evt3(words)
    assert rows(recording.events) == expected
    assert recording.ledger.decoded == recording.ledger.kept == len(expected)
    assert recording.ledger.words == len(words)


def test_places_behind_a_row_of_another_kind_are_no_events(tmp_path: Path) -> None:
    words = [high3(1), low3(1), 5, at3(3), 1 << 12 | 7, at3(40), at3(41), 6, at3(4)]
    words += [6, at3(4)] * 200  # goes on for more than a block

    recording = eventkit.open(write(tmp_path / "a.raw", EVT3, words, "<u2"))

    assert rows(recording.events)[:3] == [(3, 5, 4097, 1), (4, 6, 4097, 1), (4, 6, 4097, 1)]
    assert len(recording.events) == 202
    assert recording.ledger.skipped == {"unknown": 1, "before_row": 2}


@pytest.mark.parametrize("line", [b"% note a\x1bb", b"% plugin_name " + b"x" * 9000])
def test_odd_header_lines_before_the_end_line_are_no_words(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "a.raw", EVT3, [high3(1), low3(2), 5, at3(3)], "<u2")
    path.write_bytes(path.read_bytes().replace(b"% end", line + b"\n% end"))

    recording = eventkit.open(path)

    assert rows(recording.events) == [(3, 5, 4098, 1)]
    assert recording.ledger.words == 4


def test_words_that_begin_as_header_lines_do_end_the_header(tmp_path: Path) -> None:
    """The low byte of a word may be that of "%"; no line says where the header ends."""
    header = "% evt 3.0\n% geometry 64x48\n% endianness little\n"
    words = [0x25, high3(1), low3(2), 5, at3(3)]

    assert rows(eventkit.open(write(tmp_path / "a.raw", header, words, "<u2")).events) == [
        (3, 5, 4098, 1)
    ]


def test_a_hole_at_the_end_of_evt2_is_a_fault_and_no_event(shared: Path, tmp_path: Path) -> None:
    data = (shared / "evt" / "evt2_640x480.raw").read_bytes()
    path, whole = tmp_path / "a.raw", eventkit.open(shared / "evt" / "evt2_640x480.raw").events
    path.write_bytes(data + bytes(1 << 20))

    with pytest.raises(FormatError, match="1048576 zeros up to the end") as caught:
        _ = eventkit.open(path).events
    repaired = eventkit.open(path, on_error="repair")

    assert caught.value.offset == len(data)
    assert repaired.events == whole
    assert repaired.ledger.decoded == repaired.ledger.kept == len(whole)
    assert [fault["offset"] for fault in repaired.ledger.faults] == [len(data)]


def test_zeros_in_evt3_are_rows_and_no_fault(tmp_path: Path) -> None:
    words = [high3(1), low3(2), 5, at3(3), *[0] * 1000]

    assert rows(eventkit.open(write(tmp_path / "a.raw", EVT3, words, "<u2")).events) == [
        (3, 5, 4098, 1)
    ]


def test_damage_does_not_keep_skip_from_assuming_a_sensor(shared: Path, tmp_path: Path) -> None:
    data = bytearray((shared / "evt" / "evt2_640x480.raw").read_bytes())
    data[-6] ^= 0x3F  # an x far outside
    path = tmp_path / "a.raw"
    path.write_bytes(data + b"abc")

    recording = eventkit.open(path, on_error="skip", sensor_size=None)

    assert recording.sensor_size == (640, 480)
    assert [fault["reason"] for fault in recording.ledger.faults] == ["truncated"]


def test_evt3_vectors_place_a_pixel_a_bit_and_move_the_base(tmp_path: Path) -> None:
    words = [high3(1), low3(7), 9, 3 << 12 | 1 << 11 | 20, 4 << 12 | 0b1000_0000_0101, 5 << 12 | 2]

    events = eventkit.open(write(tmp_path / "a.raw", EVT3, words, "<u2")).events

    assert rows(events) == [(x, 9, 4096 + 7, 1) for x in (20, 22, 31, 33)]


def test_a_vector_that_leaves_the_sensor_goes_by_the_policy(tmp_path: Path) -> None:
    words = [high3(1), low3(0), 9, 3 << 12 | 60, 4 << 12 | 0xFFF]
    path = write(tmp_path / "a.raw", EVT3, words, "<u2")

    with pytest.raises(FormatError, match="x=64 y=9") as caught:
        _ = eventkit.open(path).events
    kept = eventkit.open(path, on_error="skip")

    assert caught.value.offset == len(EVT3) + 2 * 4
    assert kept.events.x.tolist() == [60, 61, 62, 63]
    assert kept.ledger.dropped == {"outside": 8}


def test_a_vector_base_beyond_every_sensor_does_not_come_round_again(tmp_path: Path) -> None:
    words = [high3(1), low3(0), 9, 3 << 12 | 2047, *[4 << 12 | 1] * 400]
    path = write(tmp_path / "a.raw", EVT3, words, "<u2")

    recording = eventkit.open(path, on_error="skip", sensor_size=(2047, 48))

    assert len(recording.events) == 0
    assert recording.ledger.dropped == {"outside": 400}


@pytest.mark.parametrize("only_changes", [True, False])
def test_the_24_bit_clock_of_evt3_wraps_over_two_hours(tmp_path: Path, only_changes: bool) -> None:
    t = np.arange(0, 7_200_000_000, 500_000)
    words: list[int] = []
    before = -1
    for time in t.tolist():
        if not only_changes or time >> 12 != before:
            words.append(high3(time >> 12 & 0xFFF))
        before = time >> 12
        words += [low3(time & 0xFFF), 3, at3(5)]
    path = write(tmp_path / "a.raw", EVT3, words, "<u2")

    np.testing.assert_array_equal(eventkit.open(path).events.t, t)


def test_the_clock_goes_on_in_silence(tmp_path: Path) -> None:
    silence = [high3(value % 4096) for value in range(1, 20_000)]
    words = [high3(0), low3(1), 3, at3(5), *silence, low3(2), at3(6)]

    events = eventkit.open(write(tmp_path / "a.raw", EVT3, words, "<u2")).events

    assert events.t.tolist() == [1, (19_999 << 12) + 2]


def test_a_swapped_pair_beside_a_wrap_moves_nothing_that_follows(tmp_path: Path) -> None:
    words = []
    for value in (4094, 4095, 0, 4095, 0, 1):
        words += [high3(value), low3(0), 3, at3(5)]
    path = write(tmp_path / "a.raw", EVT3, words, "<u2")

    recording = eventkit.open(path, on_error="repair")

    highs = [4094, 4095, 4096, 4096, 4096, 4097]
    assert (recording.events.t >> 12).tolist() == highs
    assert recording.ledger.repaired == {"jitter": 1}


def test_one_damaged_time_high_does_not_cost_the_rest(tmp_path: Path) -> None:
    words = []
    for value in [*range(10), 3000, *range(10, 60)]:
        words += [high3(value), low3(0), 3, at3(5)]
    path = write(tmp_path / "a.raw", EVT3, words, "<u2")

    recording = eventkit.open(path, on_error="skip")

    assert (recording.events.t >> 12).tolist() == list(range(60))
    assert sum(recording.ledger.dropped.values()) == 1


def test_evt2_wraps_its_34_bits(tmp_path: Path) -> None:
    last = (1 << 28) - 1
    words = [high2(last), at2(1, 2, 63), high2(0), at2(3, 4, 0, 0), high2(1), at2(5, 6, 1)]

    events = eventkit.open(write(tmp_path / "a.raw", EVT2, words, "<u4")).events

    base = 1 << 34
    assert rows(events) == [(1, 2, base - 1, 1), (3, 4, base, 0), (5, 6, base + 65, 1)]


def test_words_that_are_no_events_are_counted_by_name(tmp_path: Path) -> None:
    words = [at2(1, 1, 0), high2(4), 10 << 28 | 5 << 22 | 3 << 8 | 1, 14 << 28, 15 << 28, 5 << 28]
    path = write(tmp_path / "a.raw", EVT2, [*words, at2(2, 2, 1)], "<u4")

    recording = eventkit.open(path)

    assert rows(recording.events) == [(2, 2, 257, 1)]
    assert recording.ledger.words == 7
    assert recording.ledger.skipped == {
        "before_time_high": 1,
        "trigger": 1,
        "others": 1,
        "continued": 1,
        "unknown": 1,
    }
    assert recording.triggers is not None
    assert recording.triggers.tolist() == [(261, 3, 1)]


def test_evt3_triggers_have_channel_and_level(tmp_path: Path) -> None:
    words = [high3(2), low3(9), 10 << 12 | 6 << 8 | 1, low3(11), 10 << 12 | 6 << 8]

    recording = eventkit.open(write(tmp_path / "a.raw", EVT3, words, "<u2"))

    assert recording.triggers is not None
    assert recording.triggers.tolist() == [(8201, 6, 1), (8203, 6, 0)]


def pairs(order: str) -> Any:
    """EVT2.1: times 0..64 us, two events in each mask."""
    heads, masks = [high2(3)], [0]
    for low in range(64):
        heads += [at2(32, 7, low, low % 2)]
        masks += [1 << 31 | 1 << low % 31]
    heads += [high2(4), at2(0, 1, 0)]
    masks += [0, 1]
    columns = [heads, masks] if order == "legacy" else [masks, heads]
    return np.array(columns, "<u4").T


@pytest.mark.parametrize("order", ["legacy", "little"])
@pytest.mark.parametrize("told", [True, False])
def test_both_word_orders_of_evt21_are_read_told_or_not(
    tmp_path: Path, order: str, told: bool
) -> None:
    header = EVT21.format(order) if told else "% evt 2.1\n% geometry 64x48\n% end\n"

    recording = eventkit.open(write(tmp_path / "a.raw", header, pairs(order), "<u4"))

    expected = []
    for low in range(64):
        expected += [(32 + x, 7, 192 + low, low % 2) for x in (low % 31, 31)]
    assert rows(recording.events) == [*expected, (0, 1, 256, 1)]
    assert recording.notes == [
        ("legacy word order, " if order == "legacy" else "little-endian words, ")
        + ("by the header" if told else "by the kinds and times of the first words")
    ]


def test_evt21_of_no_telling_order_is_refused(tmp_path: Path) -> None:
    words = np.zeros((5, 2), "<u4")

    with pytest.raises(FormatError, match="endianness little"):
        eventkit.open(write(tmp_path / "a.raw", "% evt 2.1\n% end\n", words, "<u4"))


@pytest.mark.parametrize(
    ("line", "size", "why"),
    [
        ("geometry 320x320", (320, 320), "geometry"),
        ("format EVT3;height=720;width=1280", (1280, 720), "format"),
        ("plugin_name hal_plugin_gen31_fx3", (640, 480), "plugin_name"),
        ("plugin_name hal_plugin_imx636_evk4", (1280, 720), "plugin_name"),
        ("plugin_name hal_plugin_genx320", (320, 320), "plugin_name"),
        ("sensor_generation 4.2", (1280, 720), "sensor_generation"),
        ("system_ID 49", (1280, 720), "assumed Gen 4"),
    ],
)
def test_geometry_says_where_it_comes_from(
    tmp_path: Path, line: str, size: tuple[int, int], why: str
) -> None:
    words = [high3(1), low3(0), 3, at3(5)]

    recording = eventkit.open(write(tmp_path / "a.raw", f"% evt 3.0\n% {line}\n", words, "<u2"))

    assert recording.sensor_size == size
    assert why in recording.geometry_source
    assert any("--sensor-size" in note for note in recording.notes) == ("assumed" in why)


def test_without_a_header_the_words_tell_the_encoding_or_nothing_does(tmp_path: Path) -> None:
    three, two = [], []
    for value in range(50):
        three += [high3(value), low3(value), 3, at3(5)]
        two += [high2(value), at2(5, 3, value)]
    noise = np.random.default_rng(0).integers(0, 65536, 4000)

    as3 = eventkit.open(write(tmp_path / "3.raw", "", three, "<u2"))
    as2 = eventkit.open(write(tmp_path / "2.raw", "", two, "<u4"))

    assert (as3.format, len(as3.events), as3.sensor_size) == ("evt3", 50, (1280, 720))
    assert (as2.format, len(as2.events), as2.sensor_size) == ("evt2", 50, (640, 480))
    assert "without a header" in as3.evidence
    with pytest.raises((FormatError, UnsupportedFormatError), match="--format"):
        eventkit.open(write(tmp_path / "n.raw", "", noise, "<u2"))


@pytest.mark.parametrize("format", ["evt2", "evt21"])
def test_a_format_against_the_header_is_refused(tmp_path: Path, format: str) -> None:
    path = write(tmp_path / "a.raw", "% format EVT3;height=720;width=1280\n% end\n", [0] * 8, "<u2")

    told = (
        rf"expected {format}, as --format says, got evt3 by the header line '% format EVT3'; leave"
    )
    with pytest.raises(FormatError, match=told):
        eventkit.open(path, format=format)

    assert eventkit.open(path, format="evt3").format == "evt3"


def test_a_compressed_file_reads_as_the_plain_one(tmp_path: Path) -> None:
    words = [high3(1), low3(0), 3, *[at3(x % 60) for x in range(5000)]]
    plain = write(tmp_path / "a.raw", EVT3, words, "<u2")
    (tmp_path / "a.raw.gz").write_bytes(gzip.compress(plain.read_bytes()))

    assert eventkit.open(tmp_path / "a.raw.gz").events == eventkit.open(plain).events


@pytest.mark.parametrize(("header", "kind"), [(EVT3, "<u2"), (EVT2, "<u4")])
def test_a_file_cut_at_any_byte_gives_the_whole_words_before(
    tmp_path: Path, header: str, kind: str
) -> None:
    words = []
    for value in range(6):
        words += (
            [high3(value), low3(1), 3, at3(5), at3(6)]
            if kind == "<u2"
            else [high2(value), at2(5, 3, 1), at2(6, 3, 1)]
        )
    path = write(tmp_path / "a.raw", header, words, kind)
    whole, data = rows(eventkit.open(path).events), path.read_bytes()
    size = np.dtype(kind).itemsize

    for cut in range(len(header), len(data)):
        path.write_bytes(data[:cut])
        kept = eventkit.open(path, on_error="skip")
        assert rows(kept.events) == whole[: len(kept.events)]
        assert bool(kept.ledger.faults) == bool((cut - len(header)) % size)
        if (cut - len(header)) % size:
            with pytest.raises(FormatError, match="the file is cut") as caught:
                _ = eventkit.open(path).events
            assert caught.value.offset == cut - (cut - len(header)) % size


@pytest.mark.parametrize(("header", "kind"), [(EVT3, "<u2"), (EVT2, "<u4")])
def test_flipped_bytes_never_make_more_events_than_words_can_hold(
    tmp_path: Path, header: str, kind: str
) -> None:
    words = []
    for value in range(40):
        words += (
            [high3(value), low3(1), 3, at3(5), 3 << 12 | 9, 4 << 12 | 0x11]
            if kind == "<u2"
            else [high2(value), at2(5, 3, 1), at2(6, 3, 1)]
        )
    path = write(tmp_path / "a.raw", header, words, kind)
    data, rng = path.read_bytes(), np.random.default_rng(7)

    for _ in range(150):
        broken = bytearray(data)
        for at in rng.integers(len(header), len(data), 3):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        for policy in ("skip", "repair"):
            read = eventkit.open(path, on_error=policy)
            ledger = read.ledger
            assert ledger.decoded == ledger.kept + sum(ledger.dropped.values())
            assert ledger.decoded <= len(words) * (12 if kind == "<u2" else 1)
            assert (np.diff(read.events.t) >= 0).all()


def test_a_byte_offset_is_that_of_the_faulty_word(tmp_path: Path) -> None:
    words = [high2(5), at2(1, 1, 9), at2(2, 2, 10), at2(3, 3, 4), at2(4, 4, 11)]
    path = write(tmp_path / "a.raw", EVT2, words, "<u4")

    with pytest.raises(FormatError, match="got 324 us after 330 us at event 2") as caught:
        _ = eventkit.open(path).events

    assert caught.value.offset == len(EVT2) + 3 * 4
