"""Units of times: what can be told is told with the reason, the rest is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from eventkit.errors import FormatError
from eventkit.readers.time_unit import guess_unit, microseconds

US = np.cumsum(np.random.default_rng(0).integers(0, 40, 5000))  # 50,000 events/s
NS_SINCE_1970 = np.int64(1_700_000_000_000_000_000)


@pytest.mark.parametrize(
    ("times", "unit", "why"),
    [
        (US, "us", "integers"),
        (US.astype(np.uint32), "us", "integers"),
        (US * 1e-6, "s", "whole millionths"),
        (US * 1e-6 + 1.5e9, "s", "fractions"),  # floats no longer hold whole microseconds
        (US * 1e-1, "ms", "seconds would be"),
        (US * 1e-6 + np.linspace(0, 1e-6, 5000), "s", "fractions"),  # a simulator
        (US.astype(np.float64), "us", "too many different"),
        (US / 400 // 1.0, "us", "too many different"),  # 20 M events/s
        (US[:20].astype(np.float64), "us", "too many different"),
        (US + 1.5e15, "us", "too late for seconds"),
        (US + NS_SINCE_1970, "ns", "year 3000"),
        (np.zeros(0), "s", "without an event"),
        (np.zeros(0, np.int64), "us", "no event"),
        (np.array([7]), "us", "integers"),
        (np.zeros(1000, np.int64), "us", "integers"),
        (US * 1_000, "us", "as nanoseconds they were 5.1e+04"),  # a quiet camera, or a simulator
        ((US * 1e-6 + 100).astype(np.float32), "s", "steps of 8 us"),
    ],
)
def test_the_unit_is_told_with_its_reason(times: np.ndarray, unit: str, why: str) -> None:
    found, reason = guess_unit(times, given=None, name="a.h5")

    assert found == unit
    assert why in reason


@pytest.mark.parametrize(
    "times",
    [
        np.array([1.0, 2.0]),  # seconds or microseconds
        np.sqrt(np.arange(1000)),  # 32 events/s, or 32,000
        US * 1e-3,  # milliseconds of a camera, or seconds to the millisecond
        np.cumsum(np.random.default_rng(0).random(5000)) / 100,  # milliseconds of a simulator
        np.repeat(np.arange(4), 100_000),  # 10^11 events/s
    ],
)
def test_times_that_fit_more_than_one_unit_are_refused(times: np.ndarray) -> None:
    with pytest.raises(FormatError, match="--time-unit s, ms, us or ns says it"):
        guess_unit(times, given=None, name="a.h5")
    assert guess_unit(times, given="ms", name="a.h5") == ("ms", "given")


def test_single_damaged_times_do_not_decide() -> None:
    for spoilt in (US * 1e-6, US.astype(np.float64)):
        wanted = guess_unit(spoilt, given=None, name="")[0]
        for value in (np.nan, np.inf, 1e300, -1e300, 0.0):
            spoilt[100] = value
            assert guess_unit(spoilt, given=None, name="")[0] == wanted


def test_what_stands_before_shifted_rows_tells_the_unit() -> None:
    shifted = US.copy()
    shifted[500:] = NS_SINCE_1970

    assert guess_unit(shifted, given=None, name="")[0] == "us"
    assert guess_unit(US + NS_SINCE_1970, given=None, name="")[0] == "ns"


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize(("unit", "wanted"), [("s", 3_000_000), ("ms", 3000), ("us", 3), ("ns", 0)])
def test_times_are_brought_to_microseconds(dtype: str, unit: str, wanted: int) -> None:
    t, bad = microseconds(np.array([3, 0], dtype), unit)  # type: ignore[arg-type]

    assert (t.tolist(), t.dtype, bad) == ([wanted, 0], np.int64, None)


def test_seconds_since_1970_come_back_to_the_microsecond() -> None:
    whole = US + 1_732_406_400_000_000

    assert np.array_equal(microseconds(whole / 1e6, "s")[0], whole)


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (np.array([1.0, np.nan, np.inf, 1e30]), "s"),
        (np.array([1, 1 << 62, -(1 << 62), -(1 << 63)], np.int64), "s"),
        (np.array([1, 1 << 63, (1 << 64) - 1, 1 << 62], np.uint64), "ms"),
    ],
)
def test_times_that_are_none_are_told_apart(times: np.ndarray, unit: str) -> None:
    t, bad = microseconds(times, unit)  # type: ignore[arg-type]

    assert bad is not None
    assert bad.tolist() == [False, True, True, True]
    assert t[bad].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("time", "given", "cure"),
    [
        (1_589_163_147_368_868, "s", "us"),
        (1.5e15, "s", "us"),
        (1_732_406_400_123_456_789, "ms", "ns"),
    ],
)
def test_a_given_unit_that_leaves_no_time_is_refused(time: float, given: str, cure: str) -> None:
    times = np.array([time, time, 5])

    with pytest.raises(FormatError, match=f"in {given}, got .* --time-unit {cure} fits") as told:
        guess_unit(times, given=given, name="a.csv")  # type: ignore[arg-type]

    assert told.value.reason == "no_time_unit"
    assert guess_unit(times[[0, 2, 2]], given=given, name="a.csv")[0] == given  # type: ignore[arg-type]
