"""Which reader opens a path: built-in ones by content and suffix, then entry points."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from eventkit.errors import EventKitError, FormatError, SettingsError, UnsupportedFormatError
from eventkit.events import TimeUnit
from eventkit.frames import Frames
from eventkit.readers.base import Reader, ReadOptions
from eventkit.readers.fit import check_fit
from eventkit.recording import OnError, Recording
from eventkit.sources import Source

_log = logging.getLogger(__name__)

# In this order: formats with magic bytes first, then what is told by its shape.
_BUILT_IN = (
    "eventkit.readers.aedat.aedat4:Aedat4Reader",
    "eventkit.readers.aedat.aedat3:Aedat3Reader",
    "eventkit.readers.aedat.aedat2:Aedat2Reader",
    "eventkit.readers.aedat.aedat1:Aedat1Reader",
    "eventkit.readers.prophesee.evt:Evt3Reader",
    "eventkit.readers.prophesee.evt:Evt21Reader",
    "eventkit.readers.prophesee.evt:Evt2Reader",
    "eventkit.readers.prophesee.dat:DatReader",
    "eventkit.readers.es:EsReader",
    "eventkit.readers.hdf5.reader:Hdf5Reader",
    "eventkit.readers.mat:MatReader",
    "eventkit.readers.parquet:ParquetReader",
    "eventkit.readers.ros.reader:RosReader",
    "eventkit.readers.ros.reader:RosFolderReader",
    "eventkit.readers.npz:NpzReader",
    "eventkit.readers.npy:NpyReader",
    "eventkit.readers.images.reader:ImageReader",
    "eventkit.readers.images.video:VideoReader",
    "eventkit.readers.images.reader:ImageFolderReader",
)
_TABLES = ("csv", "npy")
# What takes nearly anything of its suffix is asked after the readers of other packages.
_LAST = ("eventkit.readers.text.reader:TextReader", "eventkit.readers.atis:AtisReader")


@cache
def readers() -> tuple[Reader, ...]:
    """Return all readers in the order in which they are asked.

    Those registered under the entry point group ``eventkit.readers`` are among them; one that
    cannot be loaded is left out with a warning that names its package.
    """
    return (*map(_made, _BUILT_IN), *_registered(), *map(_made, _LAST))


def _made(target: str) -> Reader:
    module, _, name = target.partition(":")
    reader: Reader = getattr(import_module(module), name)()
    return reader


def _registered() -> list[Reader]:
    # Looking through the metadata of every installed package takes 10 ms: once a process.
    from importlib.metadata import entry_points

    found: list[Reader] = []
    for point in sorted(entry_points(group="eventkit.readers"), key=lambda point: point.name):
        try:
            found.append(point.load()())
        except Exception as err:  # whatever a foreign module raises, other formats are read
            package = point.dist.name if point.dist is not None else point.value
            _log.warning("the reader %s of %s is left out: %r", point.name, package, err)
    return found


def _recognised(reader: Reader, source: Source) -> str | None:
    try:
        return reader.recognise(source)
    except (EventKitError, OSError):
        raise
    except Exception as err:  # a reader of another package must not take the others along
        _log.warning("the reader %s failed to look at %s: %r", reader.name, source, err)
        return None


def suffixes(side: str) -> dict[str, str]:
    """Map each file suffix to the reader's name, for readers that hold ``events`` or ``frames``."""
    return {s: reader.name for reader in readers() for s in reader.suffixes if side in reader.holds}


def is_events(path: str | Path) -> bool:
    """Tell by the content whether a file has events that some reader knows."""
    source = Source(path)
    return any("events" in r.holds and _recognised(r, source) is not None for r in readers())


def find_reader(source: Source, *, format: str | None = None) -> tuple[Reader, str]:
    """Return the reader of a source, and why it is that one.

    Raises
    ------
    SettingsError
        If ``format`` is the name of no reader.
    FormatError
        If the file is empty, which no camera writes and a broken copy does, or if the name promises
        events and the content is of no known format.
    UnsupportedFormatError
        If none recognises it; lists what is known.
    """
    named = None if format is None else _named(source, format)
    if not source.is_dir and not source.head:
        got = "nothing that can be unpacked" if source.compression else "an empty file"
        msg = f"expected a recording, got {got}; copy it again"
        raise FormatError(msg, path=source.name, offset=0, reason="empty")
    if named is not None:
        return named, "--format"
    for reader in readers():
        why = _recognised(reader, source)
        if why is not None:
            return reader, why
    for reader in readers():
        if reader.name in _TABLES and source.suffix in reader.suffixes and not source.is_dir:
            # A table that is none of events as it stands: its reader knows what is missing.
            return reader, f"suffix {source.suffix}"
    raise _unknown(source)


def _unknown(source: Source) -> FormatError | UnsupportedFormatError:
    known = ", ".join(sorted({suffix for reader in readers() for suffix in reader.suffixes}))
    if source.suffix in suffixes("events") and not source.is_dir:
        msg = (
            f"expected the content of a {source.suffix} recording, got first bytes "
            f"{source.head[:12]!r}; is the file cut or renamed? --format names the format"
        )
        return FormatError(msg, path=source.name, offset=0, reason="bad_header")
    if source.is_dir:
        got = "a folder without images; name a file in it, or `eventkit convert` takes all of it"
    elif source.suffix == ".zip":
        got = f".zip; name a file in it as zip://MEMBER::{source}"
    else:
        got = source.suffix or "no suffix"
    msg = f"{source}: expected one of {known} or a folder of images, got {got}"
    return UnsupportedFormatError(msg)


def _named(source: Source, format: str) -> Reader:
    for reader in readers():
        if reader.name != format:
            continue
        # A reader of folders has no suffixes.
        if (source.is_dir and reader.suffixes) or (not source.is_dir and not reader.suffixes):
            wanted, got = ("a file", "a folder") if source.is_dir else ("a folder", "a file")
            msg = f"{source}: expected {wanted} for --format {reader.name}, got {got}"
            raise SettingsError(msg)
        return reader
    names = ", ".join(reader.name for reader in readers())
    msg = f"expected --format among {names}, got {format!r}"
    raise SettingsError(msg)


def open(
    path: str | Path,
    *,
    rgb: str | Path | None = None,
    on_error: OnError = "raise",
    sensor_size: tuple[int, int] | None = None,
    time_unit: TimeUnit | None = None,
    columns: str | None = None,
    topic: str | None = None,
    format: str | None = None,
    rgb_time_unit: TimeUnit | None = None,
) -> Recording:
    """Open a recording; events and pixels are decoded when they are asked for.

    Parameters
    ----------
    path : str or Path
        An event file, a video, an image, or a folder of images; compressed or not;
        ``zip://member::archive.zip`` for a file in an archive; ``s3://bucket/key`` and whatever
        else fsspec opens.
    rgb : str or Path, optional
        The RGB side where it is a file or folder of its own.
    on_error : {"raise", "skip", "repair"}
        What happens at a fault; drops and repairs are counted in ``recording.ledger``.
    sensor_size : (W, H), optional
        For formats that do not say; overrides those that do.
    time_unit : {"us", "s", "ms", "ns"}, optional
        For formats that do not say; told by evidence where it is not given.
    columns : str, optional
        Order of columns without names, as in ``txyp``.
    topic : str, optional
        Which topic of a ROS bag, or which stream, where there are several. This, ``columns`` and a
        ``time_unit`` against that of the format are refused by formats that have no use for them.
    format : str, optional
        Name of the reader, where detection is wrong.
    rgb_time_unit : {"us", "s", "ms", "ns"}, optional
        As ``time_unit``, of the times of ``rgb``.

    Returns
    -------
    Recording

    Raises
    ------
    MissingDataError, UnsupportedFormatError, FormatError, SettingsError

    Examples
    --------
    >>> import eventkit
    >>> eventkit.open("no-such-file.aedat4")
    Traceback (most recent call last):
        ...
    eventkit.errors.MissingDataError: no-such-file.aedat4: no such file or folder
    """
    options = ReadOptions(
        on_error=on_error,
        sensor_size=sensor_size,
        time_unit=time_unit,
        columns=columns,
        topic=topic,
    )
    if rgb is None and rgb_time_unit is not None:
        msg = f"{path}: expected --rgb with --rgb-time-unit, got no RGB side; leave it out"
        raise SettingsError(msg)
    source = Source(path)
    reader, why = find_reader(source, format=format)
    given = {"time_unit": time_unit, "columns": columns, "topic": topic}
    check_fit(source, reader, given, readers())
    recording = reader.open(source, options)
    recording.evidence = why
    recording.side_faults = options.side_faults
    if rgb is not None:
        faults = options.side_faults
        side = ReadOptions(on_error=on_error, time_unit=rgb_time_unit, side_faults=faults)
        _join(recording, rgb, side)
    return recording


def _join(recording: Recording, rgb: str | Path, options: ReadOptions) -> None:
    """Give a recording the frames of an RGB side of its own; ``options`` are those of that."""
    source = Source(rgb)
    reader, _ = find_reader(source)
    check_fit(source, reader, {"time_unit": options.time_unit}, readers(), prefix="--rgb-")
    side = reader.open(source, options)
    if side.frames is None:
        msg = f"{rgb}: expected images or a video as the RGB side, got {side.format}"
        raise SettingsError(msg)
    recording.frames, moved = _on_the_same_clock(side.frames, recording.t_offset_us)
    notes = (note.replace("--time-unit", "--rgb-time-unit") for note in side.notes)
    recording.notes.extend((*notes, *moved))


def _on_the_same_clock(frames: Frames, offset_us: int) -> tuple[Frames, list[str]]:
    """Bring frames with absolute times to the clock of events that have their own."""
    middle = int(np.median(frames.t_us)) if len(frames) else 0
    if frames.timing != "recorded" or abs(middle - offset_us) >= abs(middle):
        return frames, []
    note = f"the times of the RGB side are absolute: {offset_us} us are taken off, as of the events"
    return frames.shifted(-offset_us), [note]
