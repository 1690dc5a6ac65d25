"""Seeded odd arrays through every representation: a right answer or one of our errors."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eventkit.errors import EventKitError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.representations import Representation, make, names
from eventkit.representations.base import inside
from eventkit.representations.registry import representation_class

FULL = os.environ.get("EVENTKIT_LONG", "full") == "full"
SEED = int(os.environ.get("EVENTKIT_SEED", "0"))
BATCH = 2_000
# Results beyond so many cells or windows only cost time.
MAX_CELLS, MAX_WINDOWS = 1 << 17, 500
NAMES = names()
ODD: tuple[Any, ...] = (
    0,
    -1,
    2.5,
    3.0,
    float("nan"),
    float("inf"),
    "odd",
    "",
    None,
    True,
    10**30,
    [1],
    {},
)
HUGE = (-(1 << 63), -(1 << 62), -1, (1 << 31) - 1, 1 << 32, (1 << 53) + 1, 1 << 62, (1 << 63) - 1)
Random = np.random.Generator


@dataclass
class Case:
    """One odd call.

    Parameters
    ----------
    odd : list of str
        What is wrong with it; a call with nothing wrong must not be refused.
    """

    rng: Random
    odd: list[str] = field(default_factory=list)

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def wrong(self, what: str) -> Any:
        self.odd.append(what)
        return self.pick(ODD)


@dataclass
class Call:
    """What a sound call was made of: its events are sorted and cut to the sensor."""

    kind: Representation
    events: Events
    size: tuple[int, int]
    rule: dict[str, Any]


def sensor(case: Case) -> Any:
    if case.chance(0.04):
        case.odd.append("sensor")
        return case.pick([(0, 5), (-1, 3), (3,), "ab", None, (2, 3, 4), (70_000, 1), 5, (1e400, 1)])
    return tuple(int(v) for v in case.rng.integers(1, 14, 2))


def times(case: Case, n: int) -> NDArray[Any]:
    rng = case.rng
    steps = rng.integers(0, case.pick([1, 2, 1000, 10**6]), n) * (rng.random(n) < 0.7)
    t = np.cumsum(steps, dtype=np.int64) + case.pick([0, -7, (1 << 53) + 1, 1_589_163_147_368_868])
    if n and case.chance(0.08):
        case.odd.append("huge")
        t[rng.integers(n)] = case.pick(HUGE)
        t = np.sort(t) if case.chance(0.7) else t
    if n > 1 and case.chance(0.1):
        t = rng.permutation(t)
    if case.chance(0.06):
        case.odd.append("time type")
        with np.errstate(invalid="ignore"):
            t = t.astype(case.pick(["f8", "u8", "f4", "i4", "O", "U3", "M8[us]", "c8"]))
        if n and t.dtype.kind in "fc" and case.chance(0.5):
            t[rng.integers(n)] = np.nan
    return t


def places(case: Case, n: int, side: int) -> NDArray[Any]:
    v = case.rng.integers(0, side, n)
    if n and case.chance(0.12):
        case.odd.append("outside")
        v[case.rng.integers(n)] = case.pick([side, side + 1, 65_535, 65_536, -1, 1 << 40])
    if case.chance(0.15):
        v = v.astype(case.pick(["u2", "i4", "u8", "f4", "f8", "i2", "u1"]))
    if n and case.chance(0.03):
        case.odd.append("place type")
        v = v.astype(case.pick(["f8", "O", "U3", "?"]))
        if v.dtype.kind == "f":
            v[0] = case.pick([np.nan, 0.5, np.inf, -np.inf])
    return v


def signs(case: Case, n: int) -> NDArray[Any]:
    p = case.rng.integers(0, 2, n)
    if case.chance(0.3):
        p = case.pick([p.astype(bool), 2 * p - 1, p.astype("u1"), p.astype("f4"), p.astype("i1")])
    if n and case.chance(0.04):
        case.odd.append("polarity")
        p = p.astype(case.pick(["f4", "i8", "U2", "O"]))
        p[0] = case.pick([2, -2, 7]) if p.dtype.kind != "f" else np.nan
    return p


def columns(case: Case, size: Any) -> Any:
    n = int(case.pick([0, 1, 2, 7, 40, 600]))
    good = isinstance(size, tuple) and len(size) >= 2
    width, height = (max(1, min(int(min(v, 9)), 14)) for v in size[:2]) if good else (5, 5)
    data = {
        "x": places(case, n, width),
        "y": places(case, n, height),
        "t": times(case, n),
        "p": signs(case, n),
    }
    if case.chance(0.03):
        case.odd.append("columns")
        name = case.pick("xytp")
        what = case.pick(["short", "gone", "twice", "flat", "scalar", "other"])
        if what == "gone":
            del data[name]
        elif what == "twice":
            data["ts"] = data["t"]
        elif what == "other":
            return case.pick([None, 5, "events", [], [[1, 2, 3, 1]], np.zeros((4, 4)), object()])
        else:
            shapes = {"short": data[name][1:], "flat": data[name][None], "scalar": np.array(3)}
            data[name] = shapes[what]
    return data


def setting(case: Case, default: Any) -> Any:
    if case.chance(0.15):
        return case.wrong("setting")
    if isinstance(default, bool) or not isinstance(default, int | float):
        return default
    case.odd.append("drawn")  # what goes together is for the class to say
    return case.pick([1, 2, 3, 5, 8, 100, type(default)(7)])


def representation(case: Case) -> Representation:
    name = case.pick(NAMES)
    known = {item.name: item.default for item in fields(representation_class(name))}
    drawn = [key for key in known if case.chance(0.3)]
    return make(name, **{key: setting(case, known[key]) for key in drawn})


def rule(case: Case, data: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "bins": int(case.rng.integers(1, 7)),
        "window_us": int(case.pick([1, 10, 1000, 10**6, 1 << 40])),
        "count": int(case.pick([1, 3, 50, 10_000])),
        "edges_us": np.sort(case.rng.integers(-50, 5_000, int(case.pick([2, 3, 9])))),
    }
    found: dict[str, Any] = {}
    if case.chance(0.8):
        name = case.pick(list(known))
        found[name] = known[name] if case.chance(0.93) else case.wrong("rule")
        stride = {"window_us": "stride_us", "count": "stride"}.get(name)
        if stride and case.chance(0.3):
            found[stride] = int(case.pick([1, 7, 1000, 10**6]))
    if any(found.get(name) in (1, 7, 10) for name in ("window_us", "stride_us")):
        case.odd.append("short windows")  # may be too many
    if case.chance(0.05):
        case.odd.append("rule")
        found[case.pick(["stride_us", "stride", "bins", "speed", "last", "edges_us"])] = case.pick(
            [*ODD, [0, 5, 4], [0.0, 1.0], np.array([0, 1 << 63], np.uint64)]
        )
    if case.chance(0.2):
        found["last"] = case.pick(["include", "exclude"])
    return found


def options(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if case.chance(0.4):
        found["sort"] = True
    if case.chance(0.4):
        found["outside"] = case.pick(["drop", "drop", "raise"])
    if case.chance(0.02):
        found["outside"] = case.wrong("outside option")
    if case.chance(0.03):
        case.odd.append("out")
        found["out"] = case.pick([np.zeros(3), np.zeros((1, 2, 3, 4), np.uint16), "out", [0.0], 5])
    return found


def cleaned(data: Any, size: tuple[int, int], chosen: dict[str, Any]) -> Events:
    """Return the events that a call takes, sorted and cut to the sensor by hand."""
    flat = {name: np.ravel(data[name]) for name in "xytp"}
    order = np.argsort(flat["t"], kind="stable") if chosen.get("sort") else slice(None)
    ev = Events(**{name: column[order] for name, column in flat.items()})
    return ev[inside(ev, size)] if chosen.get("outside") == "drop" else ev


def copied(data: Any) -> Any:
    return {k: np.copy(v) for k, v in data.items()} if isinstance(data, dict) else None


def checked(case: Case) -> str:
    """Make a call and check what comes of it; return how it ended."""
    size = sensor(case)
    data = columns(case, size)
    chosen, cut, ledger = options(case), rule(case, data), Ledger()
    before, kind = copied(data), None
    try:
        kind = representation(case)
        if kind.stack and "bins" in cut:
            case.odd.append("bins of a stack")
        if costly(kind, data, size, cut, chosen):
            return "too large"
        result = kind(data, sensor_size=size, ledger=ledger, **cut, **chosen)
    except EventKitError as refusal:
        complaint = str(refusal)
    else:
        assert before is None or all(
            np.array_equal(data[k], before[k], equal_nan=data[k].dtype.kind == "f") for k in data
        ), "the caller's arrays were changed"
        judge(case, Call(kind, cleaned(data, size, chosen), size, cut), result, ledger)
        assert ledger.decoded == np.size(data["t"])
        return "answered"
    sound = not case.odd and (chosen.get("sort") or bool((np.diff(data["t"]) >= 0).all()))
    assert complaint, "an error says what is wrong"
    assert not sound, f"a sound call was refused: {complaint}"
    return "refused"


def costly(kind: Representation, data: Any, size: Any, cut: Any, chosen: Any) -> bool:
    """Return whether the result has too many cells; whatever is wrong is left to the call."""
    try:
        ev = cleaned(data, size, chosen)
        cells = int(np.prod(kind.frame_shape(size)))
        if cells > MAX_CELLS:
            return True
        windows = len(kind.windows(ev, size, **cut))
        return windows > MAX_WINDOWS or windows * cells > MAX_CELLS
    except Exception:  # the call itself must say what is wrong, in our words
        return False


def judge(case: Case, call: Call, result: NDArray[Any], ledger: Ledger) -> None:
    """Check an answer: shape, type, ledger, and the bits that chunks of the same events give."""
    kind, ev = call.kind, call.events
    spans = kind.windows(ev, call.size, **call.rule)
    frames = kind.accumulator(spans, sensor_size=call.size)
    edges = [0, *np.sort(case.rng.integers(0, len(ev) + 1, 3)).tolist(), len(ev)]
    for a, b in pairwise(edges):
        frames.update(ev[a:b])
    whole = frames.finish()
    assert result.dtype == kind.frame_dtype
    assert result.shape in (whole.shape, whole.shape[1:])
    assert result.tobytes() == whole.tobytes(), "chunks give other bits"
    assert np.isfinite(result.astype(np.float64)).all()
    ranges = spans.ranges(ev.t)
    met = np.zeros(len(ev), np.bool_)
    for a, b in ranges:
        met[a:b] = True
    assert ledger.dropped["outside"] == ledger.decoded - len(ev)
    assert ledger.dropped["unpaired"] == len(ev) - int(met.sum())
    assert np.array_equal(frames.binned, ranges[:, 1] - ranges[:, 0])
    if kind.mass == "counts":
        assert whole.sum(dtype=np.float64) == frames.binned.sum() - frames.clipped.sum()


def run_batch(batch: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for turn in range(BATCH):
        case = Case(np.random.default_rng([SEED, batch, turn]))
        try:
            outcomes[checked(case)] += 1
        except Exception as err:
            msg = f"batch {batch}, turn {turn}, seed {SEED}, odd: {case.odd}"
            raise AssertionError(msg) from err
    return outcomes


def test_odd_arrays_end_in_a_right_answer_or_in_our_error() -> None:
    outcomes = run_batch(0)

    assert outcomes["answered"] > BATCH // 4
    assert outcomes["refused"] > BATCH // 8


@pytest.mark.long
@pytest.mark.parametrize("batch", range(1, 51 if FULL else 4))
def test_many_odd_arrays_end_in_a_right_answer_or_in_our_error(batch: int) -> None:
    assert run_batch(batch)["answered"] > BATCH // 4
