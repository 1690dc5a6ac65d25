"""`eventkit.open`: options that no reader could use, and readers of other packages."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventkit
from eventkit import readers
from eventkit.errors import SettingsError
from eventkit.recording import Recording


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes([1, 2, 128, 0, 5]) * 40)
    return path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sensor_size": "640x480"}, "sensor_size as"),
        ({"sensor_size": (640,)}, "sensor_size as"),
        ({"sensor_size": (0, 0)}, "got \\(0, 0\\)"),
        ({"sensor_size": (-5, 3)}, "each in 1..65536"),
        ({"sensor_size": (70_000, 480)}, "each in 1..65536"),
        ({"sensor_size": (640.5, 480)}, "sensor_size as"),
        ({"time_unit": "sec"}, "time_unit as one of s, ms, us, ns, got 'sec'"),
        ({"columns": "zz"}, "each of t, x, y, p once"),
        ({"topic": 3}, "topic as"),
        ({"on_error": "ignore"}, "on_error as one of raise, skip, repair"),
    ],
)
def test_options_that_no_reader_could_use_are_refused(
    recording: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        eventkit.open(recording, **options)


def test_a_unit_against_the_one_of_the_format_is_refused(recording: Path) -> None:
    told = r"a\.bin: expected no --time-unit for atis-bin \(its times are in us\), got s; leave it"

    with pytest.raises(SettingsError, match=told):
        eventkit.open(recording, time_unit="s")

    assert eventkit.open(recording, time_unit="us", sensor_size=(9, 9)).format == "atis-bin"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"columns": "txyp"},
            r"no --columns for atis-bin \(it is for csv, hdf5, mat, npy, npz\), got t",
        ),
        (
            {"topic": "/dvs"},
            r"no --topic for atis-bin \(it is for aedat3, aedat4, hdf5, mat, ros, ro",
        ),
    ],
)
def test_an_option_that_the_format_has_no_use_for_is_refused(
    recording: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        eventkit.open(recording, **options)


def test_every_built_in_reader_says_which_options_it_takes() -> None:
    silent = [reader.name for reader in readers.readers() if not hasattr(reader, "takes")]

    assert silent == []


def test_a_size_of_numpy_integers_is_a_size(recording: Path) -> None:
    sides = np.array([34, 34])

    assert eventkit.open(recording, sensor_size=(sides[0], sides[1])).sensor_size == (34, 34)


class Foreign:
    """A reader that recognises bytes which the ATIS reader would take by the suffix."""

    name, suffixes, holds = "foreign", (".bin",), ("events",)

    def recognise(self, source: Any) -> str | None:
        return "first bytes MYFMT" if source.head.startswith(b"MYFMT") else None

    def open(self, source: Any, options: Any) -> Recording:
        return Recording(path=source.path, format=self.name)


SINCE_1970 = 1_600_000_000_000_000


class Clocked(Foreign):
    """Its events have a clock of their own."""

    def open(self, source: Any, options: Any) -> Recording:
        return Recording(path=source.path, format=self.name, t_offset_us=SINCE_1970)


class Failing(Foreign):
    name = "failing"

    def recognise(self, source: Any) -> str | None:
        raise RuntimeError("a fault of its own")


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register readers as an installed package would."""

    def register(**targets: str) -> None:
        points = [EntryPoint(name, value, "eventkit.readers") for name, value in targets.items()]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
        readers.readers.cache_clear()

    yield register
    monkeypatch.undo()
    readers.readers.cache_clear()


def test_a_broken_plug_in_takes_no_other_reader_along(
    recording: Path, plug_ins: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plug_ins(broken="no_such_module:Reader", failing=f"{__name__}:Failing")

    with caplog.at_level(logging.WARNING):
        assert eventkit.open(recording, sensor_size=(9, 9)).format == "atis-bin"

    assert "the reader broken of no_such_module:Reader is left out" in caplog.text
    assert "the reader failing failed to look at" in caplog.text


def test_a_plug_in_is_asked_before_readers_that_go_by_the_suffix(
    tmp_path: Path, plug_ins: Any
) -> None:
    plug_ins(foreign=f"{__name__}:Foreign")
    path = tmp_path / "b.bin"
    path.write_bytes(b"MYFMT" + bytes(range(100)))

    assert eventkit.open(path).format == "foreign"


class Told(Foreign):
    """It says what it takes."""

    takes, unit = ("topic",), "ns"


def test_a_plug_in_that_does_not_say_what_it_takes_is_told_everything(
    tmp_path: Path, plug_ins: Any
) -> None:
    plug_ins(foreign=f"{__name__}:Foreign")
    path = tmp_path / "b.bin"
    path.write_bytes(b"MYFMT" + bytes(range(100)))

    assert eventkit.open(path, time_unit="s", columns="txyp", topic="a").format == "foreign"


def test_a_plug_in_that_says_what_it_takes_is_told_no_more(tmp_path: Path, plug_ins: Any) -> None:
    plug_ins(foreign=f"{__name__}:Told")
    path = tmp_path / "b.bin"
    path.write_bytes(b"MYFMT" + bytes(range(100)))

    assert eventkit.open(path, time_unit="ns", topic="a").format == "foreign"
    with pytest.raises(SettingsError, match=r"--time-unit for foreign \(its times are in ns\)"):
        eventkit.open(path, time_unit="us")
    with pytest.raises(SettingsError, match="no --columns for foreign"):
        eventkit.open(path, columns="txyp")


def pictures(folder: Path, times: list[object]) -> Path:
    """A folder of small pictures with their times."""
    image = pytest.importorskip("PIL.Image")
    folder.mkdir()
    for i in range(len(times)):
        image.fromarray(np.full((3, 4), i, np.uint8)).save(folder / f"{i}.png")
    (folder / "timestamps.txt").write_text("".join(f"{time}\n" for time in times))
    return folder


def test_the_unit_of_an_rgb_side_has_an_option_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,x,y,p\n" + "".join(f"{t},1,2,1\n" for t in range(0, 900, 9)))
    folder = pictures(tmp_path / "rgb", [0, 40, 80])

    guessed = eventkit.open(tmp_path / "a.csv", rgb=folder)
    told = eventkit.open(tmp_path / "a.csv", rgb=folder, rgb_time_unit="ms")

    assert any("is --rgb-time-unit ms?" in note for note in guessed.notes)
    assert told.frames.t_us.tolist() == [0, 40_000, 80_000]
    assert told.events == guessed.events


def test_absolute_times_of_an_rgb_side_come_to_the_clock_of_the_events(
    tmp_path: Path, plug_ins: Any
) -> None:
    plug_ins(clocked=f"{__name__}:Clocked")
    path = tmp_path / "b.bin"
    path.write_bytes(b"MYFMT")
    absolute = pictures(tmp_path / "absolute", [SINCE_1970 + 1000, SINCE_1970 + 5000])
    own = pictures(tmp_path / "own", [1000, 5000])

    moved, kept = (eventkit.open(path, rgb=side) for side in (absolute, own))

    assert moved.frames.t_us.tolist() == kept.frames.t_us.tolist() == [1000, 5000]
    assert any("times of the RGB side are absolute" in note for note in moved.notes)
    assert not any("absolute" in note for note in kept.notes)


def test_a_unit_for_an_rgb_side_that_has_no_use_for_it_is_refused(
    recording: Path, tmp_path: Path
) -> None:
    picture = next(pictures(tmp_path / "rgb", [0]).glob("*.png"))

    with pytest.raises(SettingsError, match=r"0\.png: expected no --rgb-time-unit for image"):
        eventkit.open(recording, sensor_size=(9, 9), rgb=picture, rgb_time_unit="ms")
    with pytest.raises(SettingsError, match=r"expected --rgb with --rgb-time-unit, got no"):
        eventkit.open(recording, sensor_size=(9, 9), rgb_time_unit="ms")
