"""Thrift's compact protocol: what is wanted is read, and damage is one exception."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parquet_files import I32, I64, LIST, STRUCT, TEXT, thrift, varint

from eventkit.readers.thrift import BrokenThriftError, Compact, CutThriftError, Fields

WANTED: Fields = {1: I32, 2: I64, 3: TEXT, 40: {1: I32}, 41: [{2: I64}], 42: [I32]}
WRITTEN = thrift({
    1: (I32, -7),
    2: (I64, 1 << 62),
    3: (TEXT, b"name"),
    5: (TEXT, b"not wanted" * 20),
    6: (STRUCT, {1: (LIST, (STRUCT, [{3: (I64, -1)}, {}]))}),
    40: (STRUCT, {1: (I32, 5), 2: (I32, 6)}),
    41: (LIST, (STRUCT, [{2: (I64, i)} for i in range(20)])),
    42: (LIST, (I32, [1, 200, 40_000])),
})  # fmt: skip
FOUND = {
    1: -7, 2: 1 << 62, 3: b"name", 40: {1: 5}, 41: [{2: i} for i in range(20)], 42: 3,
}  # fmt: skip


def test_wanted_fields_are_read_and_the_others_passed_over() -> None:
    compact = Compact(b"?" + WRITTEN + b"?", 1)

    assert compact.struct(WANTED) == FOUND
    assert compact.at == len(WRITTEN) + 1
    assert Compact(WRITTEN).struct({}) == {}


@pytest.mark.parametrize(
    "field",
    [
        "11",
        "12",
        "13ff",
        "1407",
        "1503",
        "16ffff03",
        "170000000000000000",
        "180161",
        "1935010203",
        "19210102",
        "1900",
        "1a23ffff",
        "1c150200",
    ],
)
def test_fields_of_every_type_are_passed_over(field: str) -> None:
    data = bytes.fromhex(field) + b"\x15\x08\x00"

    assert Compact(data).struct({2: I32}) == {2: 4}


def test_every_cut_is_noticed() -> None:
    for length in range(len(WRITTEN)):
        with pytest.raises(CutThriftError):
            Compact(WRITTEN[:length]).struct(WANTED)


@pytest.mark.parametrize(
    ("data", "wanted", "words"),
    [
        (b"\x15\x02\x05\x02\x04\x00", {1: I32}, "there twice"),
        (b"\x16\x02\x00", {1: I32}, "type 6"),
        (b"\x15\x02\x00", {1: {}}, "type 5"),
        (b"\x19\x16\x02\x00", {1: [I32]}, "list of type 6"),
        (b"\x19\x15\x02\x00", {1: [{}]}, "list of type 5"),
        (b"\x15" + varint(1 << 32) + b"\x00", {1: I32}, "32 bits"),
        (b"\x16" + b"\xff" * 9 + b"\x03\x00", {1: I64}, "64 bits"),
        (b"\x16" + b"\xff" * 11 + b"\x01\x00", {1: I64}, "ten bytes"),
        (b"\x1d\x00", {}, "type 13"),
        (b"\x1c" * 100 + b"\x00" * 101, {}, "32 deep"),
        (b"\x19" + b"\x19" * 100 + b"\x00" * 101, {}, "32 deep"),
    ],
)
def test_what_libraries_take_differently_is_refused(data: bytes, wanted: Any, words: str) -> None:
    with pytest.raises(BrokenThriftError, match=words):
        Compact(data).struct(wanted)


def test_a_length_that_is_claimed_takes_no_memory() -> None:
    for start in (b"\x19\xfc", b"\x19\xf5", b"\x19\xf1", b"\x18", b"\x1a\xf8"):
        data = start + varint((1 << 31) - 1) + b"\x00\x00"
        for wanted in ({}, {1: [{}]}, {1: [I32]}, {1: TEXT}):
            with pytest.raises(BrokenThriftError):
                Compact(data).struct(wanted)


def test_any_bytes_end_in_fields_or_in_one_exception() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        data = bytearray(WRITTEN) if rng.random() < 0.5 else bytearray(rng.bytes(60))
        for at in rng.integers(0, len(data), int(rng.integers(1, 5))):
            data[at] = rng.integers(256)
        compact = Compact(bytes(data))
        try:
            assert compact.struct(WANTED).keys() <= WANTED.keys()
        except BrokenThriftError:
            continue
        assert compact.at <= len(data)
