"""DAT and ATIS .bin out: equal back, honest about what does not fit, read by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

import eventkit
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.testing.strategies import events
from eventkit.writers.atis import AtisWriter
from eventkit.writers.base import Contents
from eventkit.writers.dat import DatWriter
from eventkit.writers.survey import survey

SIZE = (7, 5)


def written(writer: Any, path: Path, *parts: Events) -> Recording:
    made = Recording(path, "made", SIZE, source=lambda _: iter([Chunk(part) for part in parts]))
    writer.write(made, path, ledger=Ledger())
    return eventkit.open(path, sensor_size=SIZE)


def many(*, step_us: int, n: int = 3000) -> Events:
    rng = np.random.default_rng(1)
    return Events(
        x=rng.integers(0, SIZE[0], n),
        y=rng.integers(0, SIZE[1], n),
        t=np.cumsum(rng.integers(0, step_us, n)),
        p=rng.integers(0, 2, n),
    )


@given(stream=events(sensor_size=SIZE))
def test_dat_reads_equal_whatever_the_first_time(
    stream: Events, tmp_path_factory: pytest.TempPathFactory
) -> None:
    back = written(DatWriter(), tmp_path_factory.mktemp("a") / "a.dat", stream)

    assert back.events == stream
    assert back.sensor_size == SIZE


@given(stream=events(sensor_size=SIZE, start_us=0))
def test_atis_reads_equal_from_zero(
    stream: Events, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(len(stream))  # without an event there is no byte, which is refused
    assert written(AtisWriter(), tmp_path_factory.mktemp("a") / "a.bin", stream).events == stream


@pytest.mark.parametrize("writer", [DatWriter(), AtisWriter()], ids=lambda w: w.name)
def test_clocks_that_wrap_come_back_over_hours(writer: Any, tmp_path: Path) -> None:
    stream = many(step_us=4_000_000)  # 1 h 40 min; the clocks wrap every 71.6 min and 8.4 s

    assert int(stream.t[-1]) > 1 << 32
    assert written(writer, tmp_path / f"a{writer.suffixes[0]}", stream).events == stream


@pytest.mark.parametrize("writer", [DatWriter(), AtisWriter()], ids=lambda w: w.name)
def test_the_bytes_do_not_depend_on_how_the_stream_is_cut(writer: Any, tmp_path: Path) -> None:
    stream = many(step_us=90_000)

    written(writer, tmp_path / f"a{writer.suffixes[0]}", stream)
    written(writer, tmp_path / f"b{writer.suffixes[0]}", stream[:700], stream[700:])

    first, second = (tmp_path / f"{name}{writer.suffixes[0]}" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_what_does_not_fit_is_refused_with_a_format_that_holds_it() -> None:
    with pytest.raises(SettingsError, match="write npz or hdf5"):
        DatWriter().losses(Contents(1, 0, 0, 16384, 0, None))
    with pytest.raises(SettingsError, match="write dat"):
        AtisWriter().losses(Contents(1, 0, 0, 256, 0, None))
    with pytest.raises(SettingsError, match="write dat"):
        AtisWriter().losses(Contents(1, 0, 0, 0, 240, None))
    with pytest.raises(SettingsError, match="2 h 23 min"):
        AtisWriter().losses(Contents(2, 0, 1 << 34, 0, 0, None))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_silence_that_a_clock_of_32_bits_cannot_carry_is_seen_before_writing(cut: int) -> None:
    longest = (1 << 31) - 1

    def losses(gap: int) -> list[str]:
        stream = Events(x=[0] * 4, y=[0] * 4, t=[5, 9, 9 + gap, 10 + gap], p=[1] * 4)
        parts = [Chunk(stream[:cut]), Chunk(stream[cut:])]
        return DatWriter().losses(
            survey(Recording(Path("a"), "made", SIZE, source=lambda _: iter(parts)))
        )

    assert losses(longest) == []
    with pytest.raises(SettingsError, match=r"expected gaps below 2\^31 us.*got 2147483648 us"):
        losses(longest + 1)


def test_what_gets_lost_is_said() -> None:
    contents = Contents(9, 1 << 40, (1 << 40) + 5, 5, 5, (346, 260), frames=2, triggers=3, imu=4)

    for writer in (DatWriter(), AtisWriter()):
        said = " ".join(writer.losses(contents))
        assert "2 frames are not written" in said
        assert "3 triggers are not written" in said
        assert "4 IMU samples are not written" in said
        assert f"moved by {-(1 << 40)} us" in said
    assert "the sensor size 346x260 is not in the file" in said


@pytest.mark.parametrize("library", ["expelliarmus", "faery", "evutils", "evio"])
def test_other_libraries_read_our_dat(library: str, tmp_path: Path) -> None:
    peer = pytest.importorskip("evutils.io" if library == "evutils" else library)
    stream, path = many(step_us=900), tmp_path / "a.dat"
    written(DatWriter(), path, stream)

    found = {
        "expelliarmus": lambda: peer.Wizard("dat").read(str(path)),
        "faery": lambda: peer.events_stream_from_file(str(path)).to_array(),
        "evutils": lambda: peer.EventReader(str(path)).read_all(),
        "evio": lambda: peer.read(str(path)),
    }[library]()

    for name in "txy":
        column = getattr(found, name) if hasattr(found, name) else found[name]
        np.testing.assert_array_equal(np.asarray(column), getattr(stream, name))


def test_tonic_reads_our_bin(tmp_path: Path) -> None:
    tonic = pytest.importorskip("tonic.io")
    stream, path = many(step_us=9000), tmp_path / "a.bin"
    written(AtisWriter(), path, stream)
    kind = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])

    found = tonic.read_mnist_file(str(path), dtype=kind)

    for name in "xytp":
        np.testing.assert_array_equal(found[name], getattr(stream, name))
