"""Tests that every reader has to pass, ours and those of others.

Subclass `ReaderTests`, say how a file is written, and pytest runs the rest::

    from eventkit.testing.readers import ReaderTests

    class TestMyFormat(ReaderTests):
        format = "my-format"
        suffix = ".my"
        max_events_per_byte = 1 / 8

        def write(self, events, sensor_size, path):
            path.write_bytes(my_encoder(events, sensor_size))

The reader is found by its name, so it has to be registered under the entry point group
``eventkit.readers``, or `ReaderTests.reader` overridden.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, cast
from unittest import SkipTest

import numpy as np

from eventkit.columns import Columns
from eventkit.errors import MissingDependencyError
from eventkit.events import Events
from eventkit.readers import readers
from eventkit.readers.base import Reader, ReadOptions
from eventkit.recording import OnError, Recording
from eventkit.sources import HEAD_BYTES, Source
from eventkit.testing.damage import cuts, damaged
from eventkit.testing.files import known_events
from eventkit.testing.reading import Reading, check_reading, read_all

POLICIES: tuple[OnError, ...] = ("raise", "skip", "repair")

FOREIGN: Mapping[str, bytes] = {
    "empty": b"",
    "one byte": b"\x00",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "random": np.random.default_rng(7).bytes(4096),
    "text": b"Dear reader,\nthis is a letter, not a recording.\n" * 9,
    "xml": b'<?xml version="1.0"?>\n<recording><event x="1"/></recording>\n',
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(64),
}
"""What is no recording of any format."""


class ReaderTests:
    """The contract of a reader.

    Attributes
    ----------
    format : str
        Name of the reader, as in ``--format``.
    suffix : str
        Of the files that `write` makes, with the dot.
    sensor_size : (W, H)
        Events are drawn on this sensor.
    holds_geometry : bool
        Whether the file says the size of its sensor; else it is given at reading.
    by_content : bool
        Whether the file is recognised under any name; else by its suffix.
    takes : tuple of str
        Which of `FOREIGN` the format takes for its own, as text formats do.
    max_events_per_byte : float, optional
        Most events that a byte of the file can hold; None for compressed formats.
    last_us : int, microseconds, optional
        Latest time that the format holds; None where nothing but int64 limits it.
    step_us : int, microseconds
        All times are multiples of it.
    lazy : bool
        Whether opening reads a part of the file only.
    options : mapping
        Further fields of `ReadOptions`, as ``{"columns": "txyp"}``.
    small : int
        Events of the file that is cut at every byte.
    most_cuts, flips : int
        Damaged files tried in one test.
    time_limit_s : float, seconds
        For one damaged file.
    """

    format: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    sensor_size: ClassVar[tuple[int, int]] = (34, 30)
    holds_geometry: ClassVar[bool] = True
    by_content: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ()
    max_events_per_byte: ClassVar[float | None] = None
    last_us: ClassVar[int | None] = None
    step_us: ClassVar[int] = 1
    lazy: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Any]] = {}
    small: ClassVar[int] = 20
    most_cuts: ClassVar[int] = 300
    flips: ClassVar[int] = 200
    time_limit_s: ClassVar[float] = 2.0

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        """Write events to a file of the format; override this.

        Parameters
        ----------
        events : Events
            Possibly none; inside the sensor; times from 0 on.
        sensor_size : (W, H)
        path : Path
            Does not exist yet.
        """
        raise NotImplementedError

    def reader(self) -> Reader:
        """Return the reader; the registered one of this name."""
        return next(reader for reader in readers() if reader.name == self.format)

    # What the tests are made of.

    def events(self, n: int, *, seed: int = 0, span_us: int | None = None) -> Events:
        """Draw known events that the format can hold."""
        span = 20 * n if span_us is None else span_us
        if self.last_us is not None:
            span = min(span, self.last_us)
        return known_events(
            n, sensor_size=self.sensor_size, seed=seed, span_us=span, step_us=self.step_us
        )

    def open(self, source: Path | Source, on_error: OnError = "raise") -> Recording:
        """Open with what the format does not say."""
        source = source if isinstance(source, Source) else Source(source)
        size = None if self.holds_geometry else self.sensor_size
        options = ReadOptions(on_error=on_error, sensor_size=size, **self.options)
        try:
            return self.reader().open(source, options)
        except MissingDependencyError as err:
            raise SkipTest(str(err)) from err

    def written(self, events: Events, folder: Path, name: str = "recording") -> Path:
        """Write events to a new file in ``folder``."""
        path = folder / f"{name}{self.suffix}"
        try:
            self.write(events, self.sensor_size, path)
        except (MissingDependencyError, ModuleNotFoundError) as err:
            raise SkipTest(str(err)) from err
        return path

    def read(self, path: Path, on_error: OnError = "raise") -> Reading:
        """Read all and check what holds for every file."""
        try:
            reading = read_all(self.open, path, on_error)
        except MissingDependencyError as err:
            raise SkipTest(str(err)) from err
        check_reading(
            reading,
            path,
            on_error=on_error,
            max_events_per_byte=self.max_events_per_byte,
            time_limit_s=self.time_limit_s,
        )
        return reading

    def assert_reads_as(self, path: Path, events: Events) -> Recording:
        """Assert that a sound file gives these events under every policy."""
        for on_error in POLICIES:
            recording = self.open(path, on_error)
            _assert_equal(_absolute(recording), events)
        assert not recording.ledger.dropped, f"dropped {recording.ledger.dropped}"
        assert not recording.ledger.faults, f"faults {recording.ledger.faults}"
        return recording

    # The contract.

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        """Every field of every event, and the sensor."""
        events = self.events(2_000)

        recording = self.assert_reads_as(self.written(events, tmp_path), events)

        assert recording.sensor_size == self.sensor_size, f"sensor {recording.sensor_size}"
        assert recording.geometry_source, "where the geometry comes from is not said"
        assert recording.format == self.format

    def test_one_event_is_read(self, tmp_path: Path) -> None:
        """The first event is the last one too."""
        events = self.events(1)

        self.assert_reads_as(self.written(events, tmp_path), events)

    def test_no_event_is_read(self, tmp_path: Path) -> None:
        """A recording in which nothing moved."""
        recording = self.assert_reads_as(self.written(Events.empty(), tmp_path), Events.empty())

        assert len(recording.between(0, 1 << 40)) == 0

    def test_events_at_one_time_keep_their_order(self, tmp_path: Path) -> None:
        """Nothing sorts what is in order."""
        drawn = self.events(300)
        events = Events(x=drawn.x, y=drawn.y, t=np.zeros(300, np.int64), p=drawn.p)

        self.assert_reads_as(self.written(events, tmp_path), events)

    def test_two_hours_are_read(self, tmp_path: Path) -> None:
        """Clocks of 24 bits wrap 429 times, those of 32 bits once; 0.7 s between events."""
        events = self.events(10_000, span_us=7_200_000_000)

        self.assert_reads_as(self.written(events, tmp_path), events)

    def test_the_format_is_recognised(self, tmp_path: Path) -> None:
        """By content: under any name."""
        path = self.written(self.events(100), tmp_path)
        named = path.rename(tmp_path / "renamed.unknown") if self.by_content else path

        why = self.reader().recognise(Source(named))

        assert why, "the reader does not recognise its own file"

    def test_what_is_foreign_is_not_recognised(self, tmp_path: Path) -> None:
        """Random bytes, text, an empty file and a folder, under another name."""
        for name, content in FOREIGN.items():
            path = tmp_path / f"{name.replace(' ', '-')}.unknown"
            path.write_bytes(content)
            why = self.reader().recognise(Source(path))
            assert name in self.takes or why is None, f"{name} was taken for {self.format}: {why}"
            own = path.rename(path.with_suffix(self.suffix))
            self.reader().recognise(Source(own))  # whatever it says, it must not raise
        (tmp_path / "folder").mkdir()
        assert self.reader().recognise(Source(tmp_path / "folder")) is None

    def test_opening_does_not_read_the_file(self, tmp_path: Path) -> None:
        """A list of recordings is opened before one is read."""
        if not self.lazy:
            msg = f"{self.format} is read whole"
            raise SkipTest(msg)
        source = CountingSource(self.written(self.events(200_000), tmp_path))
        _ = source.head
        source.count = 0

        self.open(source)

        most = max(4 * HEAD_BYTES, (source.size or 0) // 4)
        assert source.count <= most, f"opening read {source.count} of {source.size} bytes"

    def test_chunks_are_the_whole(self, tmp_path: Path) -> None:
        """By number, by time and as they come."""
        events = self.events(3_000)
        path = self.written(events, tmp_path)

        rules: list[dict[str, Any]] = [
            {},
            {"n": 1},
            {"n": 700},
            {"n": 10**6},
            {"us": 900},
            {"us": 10**9},
        ]
        for rule in rules:
            recording = self.open(path)
            parts = [_moved(part, recording.t_offset_us) for part in recording.chunks(**rule)]
            _assert_equal(Events.concatenate(parts), events)

    def test_between_is_a_slice_of_the_whole(self, tmp_path: Path) -> None:
        """In any order, before the whole was read and after it."""
        events = self.events(3_000)
        recording = self.open(self.written(events, tmp_path))
        first, last = int(events.t[0]), int(events.t[-1])
        spans = [
            (first, last + 1),
            (last - 500, last),
            (first + 700, first + 20_000),
            (first - 9, first),
            (last, last + 9),
            (last + 1, last + 9),
            (first + 50, first + 50),
        ]
        for _ in range(2):
            for a, b in spans:
                offset = recording.t_offset_us
                found = _moved(recording.between(a - offset, b - offset), offset)
                i, j = np.searchsorted(events.t, [a, b])
                _assert_equal(found, events[int(i) : int(j)])
            _ = recording.events

    def test_columns_of_the_caller_are_filled(self, tmp_path: Path) -> None:
        """With room and without."""
        events = self.events(3_000)
        path = self.written(events, tmp_path)

        for room in (5_000, 3_000, 10, 0):
            recording = self.open(path)
            out = Columns.empty(room)
            for _ in range(2):
                found = recording.load(out=out)
                _assert_equal(_moved(found, recording.t_offset_us), events)

    def test_a_compressed_file_reads_as_the_plain_one(self, tmp_path: Path) -> None:
        """By gzip, and as a member of a zip archive."""
        events = self.events(1_000)
        path = self.written(events, tmp_path)
        packed = tmp_path / f"packed{self.suffix}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            archive.write(path, f"deep/{path.name}")

        for name in (str(packed), f"zip://deep/{path.name}::{tmp_path / 'all.zip'}"):
            assert self.reader().recognise(Source(name)), f"{name} is not recognised"
            _assert_equal(_absolute(self.open(Source(name))), events)

    def test_a_read_only_folder_and_another_working_directory_do(self, tmp_path: Path) -> None:
        """Reading writes nothing beside the file."""
        folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
        folder.mkdir()
        elsewhere.mkdir()
        events = self.events(500)
        path = self.written(events, folder)
        before, home = _listing(folder), Path.cwd()
        folder.chmod(0o555)
        path.chmod(0o444)
        try:
            os.chdir(elsewhere)
            _assert_equal(_absolute(self.open(path)), events)
            _assert_equal(_absolute(self.open(Path("../data") / path.name)), events)
        finally:
            os.chdir(home)
            folder.chmod(0o755)
        assert _listing(folder) == before, "reading changed the folder"
        assert not list(elsewhere.iterdir()), "reading wrote into the working directory"

    def test_a_file_cut_anywhere_gives_a_right_prefix_or_an_error(self, tmp_path: Path) -> None:
        """At every byte of a small file; ``skip`` keeps what was whole."""
        events = self.events(self.small)
        whole = self.written(events, tmp_path).read_bytes()
        path = tmp_path / f"cut{self.suffix}"
        for cut in cuts(whole, most=self.most_cuts):
            path.write_bytes(cut.data)
            for on_error in POLICIES:
                reading = self.read(path, on_error)
                if not self.reader().recognise(Source(path)):
                    continue  # cut within its magic bytes, it is no file of this format
                offset = reading.recording.t_offset_us if reading.recording else 0
                found = _moved(reading.events, offset)
                assert found == events[: len(found)], f"cut at byte {cut.at}: not a prefix"

    def test_a_damaged_file_gives_events_or_an_error_of_ours(self, tmp_path: Path) -> None:
        """Flipped, moved and forged bytes; no other error, no hang, the ledger balanced."""
        whole = self.written(self.events(200), tmp_path).read_bytes()
        path = tmp_path / f"damaged{self.suffix}"
        for seed in range(self.flips):
            damage = damaged(whole, np.random.default_rng([seed, len(whole)]))
            path.write_bytes(damage.data)
            try:
                self.read(path, POLICIES[seed % 3])
            except SkipTest:
                raise
            except Exception as err:
                msg = (
                    f"seed {seed}, {damage.kind} at byte {damage.at}, {POLICIES[seed % 3]}: {err!r}"
                )
                raise AssertionError(msg) from err

    def test_an_empty_file_is_refused_or_holds_no_event(self, tmp_path: Path) -> None:
        """Nothing, and a few bytes of nothing."""
        path = tmp_path / f"empty{self.suffix}"
        for content in (b"", b"\x00", b"\n", bytes(64)):
            path.write_bytes(content)
            for on_error in POLICIES:
                reading = self.read(path, on_error)
                assert content or not len(reading.events), "events of an empty file"


class CountingSource(Source):
    """A source that counts the bytes that are read through it."""

    count = 0

    def open(self) -> BinaryIO:
        """Open as `Source` does, and count."""
        return cast("BinaryIO", _Counted(self, super().open()))


class _Counted(io.BufferedIOBase):
    def __init__(self, source: CountingSource, file: BinaryIO) -> None:
        self._source, self._file = source, file

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._source.count += len(data)
        return data

    read1 = read

    def readinto(self, buffer: Any, /) -> int:
        got = int(self._file.readinto(buffer))  # type: ignore[attr-defined]
        self._source.count += got
        return got

    readinto1 = readinto

    def readable(self) -> Literal[True]:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


def _moved(events: Events, offset_us: int) -> Events:
    if not offset_us:
        return events
    return Events(x=events.x, y=events.y, t=events.t + offset_us, p=events.p)


def _absolute(recording: Recording) -> Events:
    return _moved(recording.events, recording.t_offset_us)


def _assert_equal(found: Events, events: Events) -> None:
    assert len(found) == len(events), f"{len(found)} events, not {len(events)}"
    for name in "xytp":
        got, wanted = getattr(found, name), getattr(events, name)
        if not np.array_equal(got, wanted):
            i = int(np.argmax(got != wanted))
            msg = f"{name} of event {i} is {got[i]}, not {wanted[i]}"
            raise AssertionError(msg)


def _listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
