"""What all formats that are tables of numbers do alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import eventkit
from eventkit.errors import FormatError, SettingsError

N = 1000
X, Y = np.arange(N) % 30, np.arange(N) % 20
T = np.arange(N) * 1000
FORMATS = ["npz", "npy", "csv", "parquet", "h5", "mat"]


def write(path: Path, p: NDArray[np.int8], *, origin: int = 0, t: NDArray[np.int64] = T) -> Path:
    columns = {"x": X + origin, "y": Y + origin, "t": t, "p": p.astype(np.int64)}
    kind = path.suffix
    if kind == ".npz":
        np.savez(path, **columns)
    elif kind == ".npy":
        np.save(path, np.stack(list(columns.values()), 1))
    elif kind == ".csv":
        rows = zip(*(c.tolist() for c in columns.values()), strict=True)
        path.write_text("x,y,t,p\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in rows))
    elif kind == ".parquet":
        polars = pytest.importorskip("polars")
        polars.DataFrame(columns).write_parquet(path)
    elif kind == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[f"events/{name}"] = values
    else:
        io = pytest.importorskip("scipy.io")
        io.savemat(path, columns)
    return path


def opened(path: Path, **options: object) -> eventkit.Recording:
    columns = {"columns": "xytp"} if path.suffix == ".npy" else {}
    return eventkit.open(path, sensor_size=(40, 40), **columns, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("at", [0, 1, 500])
def test_one_damaged_polarity_does_not_turn_the_others(tmp_path: Path, kind: str, at: int) -> None:
    p = (np.arange(N) % 2).astype(np.int8)
    p[at] = -1

    recording = opened(write(tmp_path / f"a.{kind}", p), on_error="skip")

    assert recording.events.t.tolist() == np.delete(T, at).tolist()
    assert recording.ledger.skipped == {"bad_row": 1}
    with pytest.raises(FormatError, match="0, 1"):
        _ = opened(tmp_path / f"a.{kind}").events


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_fault_is_the_one_that_is_named(tmp_path: Path, kind: str) -> None:
    p = (np.arange(N) % 2).astype(np.int8)
    p[500] = 7
    t = T.copy()
    t[100] = 5

    with pytest.raises(FormatError, match="got 5 us after 99000 us at event 100"):
        _ = opened(write(tmp_path / f"a.{kind}", p, t=t)).events


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("csv", "npy")])
@pytest.mark.parametrize("values", [(1, 2), (0, 255)])
def test_polarities_of_another_kind_end_the_reading_under_every_policy(
    tmp_path: Path, kind: str, values: tuple[int, int]
) -> None:
    if kind == "mat" and values == (1, 2):
        pytest.skip("MATLAB counts from 1: 1 is OFF and 2 is ON there")
    p = np.array(values)[np.arange(N) % 2]
    path = write(tmp_path / f"a.{kind}", p)

    with pytest.raises(FormatError, match="500 of 1000 rows, which is no damage"):
        _ = opened(path).events
    for policy in ("skip", "repair"):
        recording = opened(path, on_error=policy)
        assert len(recording.events) < 2
        assert "which is no damage" in recording.ledger.faults[0]["message"]


@pytest.mark.parametrize("kind", ["csv", "npy"])
@pytest.mark.parametrize("values", [(1, 2), (0, 255)])
def test_polarities_of_another_kind_are_refused_where_columns_are_told_by_their_values(
    tmp_path: Path, kind: str, values: tuple[int, int]
) -> None:
    path = write(tmp_path / f"a.{kind}", np.array(values)[np.arange(N) % 2])

    with pytest.raises(FormatError, match="which is no damage"):
        _ = opened(path).events
    for policy in ("skip", "repair"):
        try:
            kept = len(opened(path, on_error=policy).events)
        except FormatError:
            kept = 0
        assert kept < 2


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("csv", lambda path: path.write_text("x,y,t_us,p\n1,2,3,1\n")),
        ("parquet", lambda path: write(path, np.ones(N, np.int8), t=T.astype("m8[ns]"))),
        ("h5", lambda path: units(write(path, np.ones(N, np.int8)), "us")),
    ],
)
def test_a_unit_that_the_file_states_is_not_overridden(
    tmp_path: Path, kind: str, make: Callable[[Path], object]
) -> None:
    path = tmp_path / f"a.{kind}"
    make(path)

    _ = opened(path).events
    with pytest.raises(SettingsError, match="expected no --time-unit but"):
        _ = opened(path, time_unit="s").events


def units(path: Path, unit: str) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        file["events/t"].attrs["units"] = unit
    return path
