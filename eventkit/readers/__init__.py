"""Which reader opens a path: built-in ones by content and suffix, then entry points."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from eventkit.errors import FormatError, MissingDataError, SettingsError, UnsupportedFormatError
from eventkit.events import TimeUnit
from eventkit.readers.aedat4 import Aedat4Reader
from eventkit.readers.atis import AtisReader
from eventkit.readers.base import Reader, ReadOptions, read_head
from eventkit.readers.images import ImageFolderReader, ImageReader
from eventkit.readers.npz import NpzReader
from eventkit.readers.video import VideoReader
from eventkit.recording import OnError, Recording

_BUILT_IN: tuple[Reader, ...] = (
    Aedat4Reader(),
    AtisReader(),
    NpzReader(),
    ImageReader(),
    VideoReader(),
    ImageFolderReader(),
)


def readers() -> tuple[Reader, ...]:
    """Return built-in readers, then those registered under ``eventkit.readers``."""
    return (*_BUILT_IN, *_registered())


@cache
def _registered() -> tuple[Reader, ...]:
    # Looking through the metadata of every installed package takes 10 ms: once a process.
    from importlib.metadata import entry_points

    points = sorted(entry_points(group="eventkit.readers"), key=lambda point: point.name)
    return tuple(point.load()() for point in points)


def suffixes(side: str) -> dict[str, str]:
    """Map each file suffix to the reader's name, for readers that hold ``events`` or ``frames``."""
    return {s: reader.name for reader in readers() for s in reader.suffixes if side in reader.holds}


def find_reader(path: Path, *, format: str | None = None) -> Reader:
    """Return the reader of a path.

    Raises
    ------
    UnsupportedFormatError
        If none recognises it; lists what is known.
    """
    head = read_head(path)
    for reader in readers():
        if reader.name == format:
            return _check_kind(reader, path)
        if format is None and reader.matches(path, head):
            return reader
    known = ", ".join(sorted({suffix for reader in readers() for suffix in reader.suffixes}))
    if format is not None:
        names = ", ".join(reader.name for reader in readers())
        msg = f"expected --format among {names}, got {format!r}"
        raise SettingsError(msg)
    if path.suffix.lower() in suffixes("events") and not path.is_dir():
        name = suffixes("events")[path.suffix.lower()]
        msg = f"expected {name} content, got first bytes {head[:14]!r}; is the file cut or renamed?"
        raise FormatError(msg, path=path, offset=0, reason="bad_header")
    msg = f"{path}: expected one of {known} or a folder of images, got {path.suffix or 'no suffix'}"
    raise UnsupportedFormatError(msg)


def _check_kind(reader: Reader, path: Path) -> Reader:
    """Refuse a file where the reader takes folders (it has no suffixes), or the other way round."""
    if path.is_dir() != (not reader.suffixes):
        wanted, got = ("a file", "a folder") if path.is_dir() else ("a folder", "a file")
        msg = f"{path}: expected {wanted} for --format {reader.name}, got {got}"
        raise SettingsError(msg)
    return reader


def open(
    path: str | Path,
    *,
    rgb: str | Path | None = None,
    on_error: OnError = "raise",
    sensor_size: tuple[int, int] | None = None,
    time_unit: TimeUnit = "us",
    format: str | None = None,
) -> Recording:
    """Open a recording; events and pixels are decoded when they are asked for.

    Parameters
    ----------
    path : str or Path
        An event file, a video, an image, or a folder of images.
    rgb : str or Path, optional
        The RGB side where it is a file or folder of its own.
    on_error : {"raise", "skip", "repair"}
        What happens at a fault; drops and repairs are counted in ``recording.ledger``.
    sensor_size : (W, H), optional
        For formats that do not say; overrides those that do.
    time_unit : {"us", "s", "ms", "ns"}
        For formats that do not say (``.npz``).
    format : str, optional
        Name of the reader, where detection is wrong.

    Returns
    -------
    Recording

    Raises
    ------
    MissingDataError, UnsupportedFormatError, FormatError

    Examples
    --------
    >>> import eventkit
    >>> eventkit.open("no-such-file.aedat4")
    Traceback (most recent call last):
        ...
    eventkit.errors.MissingDataError: no-such-file.aedat4: no such file or folder
    """
    if on_error not in ("raise", "skip", "repair"):
        msg = f"expected on_error among raise, skip, repair, got {on_error!r}"
        raise SettingsError(msg)
    path = Path(path)
    if not path.exists():
        msg = f"{path}: no such file or folder"
        raise MissingDataError(msg)
    options = ReadOptions(on_error=on_error, sensor_size=sensor_size, time_unit=time_unit)
    recording = find_reader(path, format=format).open(path, options)
    if rgb is not None:
        side = open(rgb, on_error=on_error)
        if side.frames is None:
            msg = f"{rgb}: expected images or a video as the RGB side, got {side.format}"
            raise SettingsError(msg)
        recording = recording.with_frames(side.frames)
        recording.notes.extend(side.notes)
    return recording
