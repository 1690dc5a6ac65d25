"""``.npz`` event files: zip archives of arrays, told by the names of their members.

Read are columns of their own (HARDVS and SpikingJelly ``t, x, y, p``; N-ImageNet ``x_pos, y_pos,
timestamp, polarity``; what else `eventkit.events.field_names` knows, in any case), one array of
records (N-ImageNet ``event_data``), and one table of shape (N, 4). Beside ``x, y, t, p`` a member
``timestamps`` belongs to something else. Members are read in step, a part of each at a time,
deflated or not.

A member's checksum stands at its end. Under ``raise`` it is checked on the way and a wrong one ends
the reading; under the other policies it is checked first, since nothing tells the wrong events of a
damaged member from its right ones.
"""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from eventkit.columns import Buffer
from eventkit.errors import EventKitError, FormatError, InvalidEventsError
from eventkit.events import FIELD_NAMES, TimeUnit, field_names
from eventkit.npy import BadArrayError, CutArrayError, read_npy
from eventkit.readers import geometry, notes
from eventkit.readers.arrays import (
    Array,
    Lanes,
    from_columns,
    from_records,
    from_table,
    open_array,
    settle_unit,
)
from eventkit.readers.base import ReadOptions
from eventkit.readers.column_order import refuse_order
from eventkit.readers.integers import PartDecoder
from eventkit.readers.policy import RawChunk
from eventkit.readers.stream import EventStream
from eventkit.readers.table import Cleaner
from eventkit.recording import Recording
from eventkit.sources import PIECE_BYTES, Source

MAGIC = b"PK\x03\x04"
RECORDS = ("event_data", "events", "arr_0")
"""Members that hold all events in one array."""

_SIZE_KEYS = ("sensor_size", "width", "height")
_MOST_LOOKED_AT = 64
"""Members of unknown names that are looked at for records."""
_SMALL = 4096
_MOST_EVENTS_AT_ONCE = 1 << 26
# zlib's limit: 258 bytes from 2 bits; https://zlib.net/zlib_tech.html
_DEFLATE_RATIO = 1032


_Opener = Callable[[str], Array]
_Found = tuple[Lanes, list[str], list[str]]
"""Where the columns stand, in which members, and what is to be said about that."""


class NpzReader:
    """Reader of ``.npz`` archives."""

    name = "npz"
    suffixes = (".npz",)
    holds = ("events",)
    takes = ("time_unit", "columns")

    def recognise(self, source: Source) -> str | None:
        """Go by members with names of events; a damaged archive named ``.npz`` is ours too."""
        named = source.suffix in self.suffixes
        if source.head.startswith(MAGIC) and (named or b".npy" in source.head[30:300]):
            try:
                with _faults(source), zipfile.ZipFile(source.local()) as archive:
                    names = {name.removesuffix(".npy") for name in archive.namelist()}
                if (found := _event_names(names)) is not None:
                    return f"a zip archive of arrays {', '.join(found)}"
            except (EventKitError, OSError):
                pass
        known = source.head[:2] == b"PK" or len(source.head) < 4
        return "a zip archive named .npz" if named and known else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        """Open the archive: headers, the geometry, and the first times for their unit."""
        stored = None
        if options.sensor_size is None:
            with options.booking():
                stored = _stored_size(source)
        found = geometry.settle(source, options.sensor_size, (stored, "keys of the file"))
        plan: _Plan | FormatError
        try:
            plan = _plan(source, options, found.size)
        except FormatError as err:
            if options.strict:
                raise
            plan = err.anew()  # booked as a fault when the events are read
        strict = options.strict
        return Recording(
            path=source.path,
            format=self.name,
            sensor_size=found.size,
            geometry_source=found.why,
            source=EventStream(
                lambda buffer, mark: _decode(source, plan, buffer, mark, strict=strict),
                path=source.name,
                sensor_size=found.size,
                on_error=options.on_error,
                bound=plan.bound if isinstance(plan, _Plan) else None,
            ),
            notes=[*(plan.notes if isinstance(plan, _Plan) else []), *notes.of_size(found)],
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the columns stand, and in what unit the times are."""

    lanes: Lanes
    members: tuple[str, ...]
    unit: TimeUnit
    notes: list[str]

    def bound(self) -> int:
        """Return the number of events, unless deflated data claims more than fits in memory."""
        return min(self.lanes.size, _MOST_EVENTS_AT_ONCE)


def _event_names(names: Collection[str]) -> list[str] | None:
    """Return the names by which an archive is one of events."""
    try:
        return list(_columns([name for name in names if name.lower() in FIELD_NAMES])[0].values())
    except InvalidEventsError:
        return [name for name in RECORDS[:1] if name in names] or None


def _columns(names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Map x, y, t, p to members, and return members with names of columns that are none.

    Raises
    ------
    InvalidEventsError
    """
    spelt = {name.lower(): name for name in names}
    spelt |= {name: name for name in names if name.islower()}  # of T and t the latter
    others: list[str] = []
    if set("xytp") <= spelt.keys():
        others = [name for name in spelt if name in FIELD_NAMES and len(name) > 1]
    found = field_names(tuple(name for name in spelt if name not in others))
    columns = {column: spelt[name] for column, name in found.items()}
    return columns, [spelt[name] for name in others]


@contextmanager
def _faults(source: Source) -> Iterator[None]:
    """Turn every kind of damage into `FormatError`."""
    reason, offset = "corrupt", source.size
    try:
        yield
        return
    except EventKitError:
        raise
    except CutArrayError as err:
        reason, fault = "truncated", str(err)
    except BadArrayError as err:
        offset, fault = 0, str(err)
    except (zipfile.BadZipFile, EOFError) as err:
        reason, fault = "truncated", str(err)
    except OSError as err:
        if err.errno not in (None, errno.EINVAL):
            raise
        fault = str(err)
    except (ValueError, RuntimeError, NotImplementedError, KeyError, zlib.error) as err:
        fault = str(err)
    msg = (
        f"expected a whole .npz archive of numeric arrays, got something else ({fault}); "
        "copy it again"
    )
    raise FormatError(msg, path=source.name, offset=offset, reason=reason)


def _open_member(source: Source, name: str) -> BinaryIO:
    # A file of its own for each member: they are read side by side.
    archive = zipfile.ZipFile(source.local())
    try:
        return cast("BinaryIO", archive.open(name))
    finally:
        archive.close()  # the file below stays open until the member is closed


def _claimed(archive: zipfile.ZipFile, name: str) -> int:
    """Return the size of a member, if its packed bytes can hold that.

    Raises
    ------
    BadArrayError
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        msg = f"{name!r} is packed by method {info.compress_type}, expected stored or deflated"
        raise BadArrayError(msg)
    most = info.compress_size
    if info.compress_type == zipfile.ZIP_DEFLATED:
        most = (most + 1) * _DEFLATE_RATIO
    if info.file_size > most:
        msg = f"{name!r} claims {info.file_size} bytes from {info.compress_size} packed ones"
        raise BadArrayError(msg)
    return info.file_size


def _plan(source: Source, options: ReadOptions, sensor_size: tuple[int, int] | None) -> _Plan:
    with _faults(source), zipfile.ZipFile(source.local()) as archive:
        # Of two members of one name the last counts, as in NumPy.
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}

        def array(key: str) -> Array:
            opened = partial(_open_member, source, members[key])
            return open_array(key, opened, _claimed(archive, members[key]))

        lanes, keys, said = _found(members, array, options.columns, sensor_size, source.name)
        if not lanes.order:
            refuse_order(options.columns, lanes.why, source.name)
        unit, told = settle_unit(lanes, options.time_unit, source.name)
    return _Plan(lanes, tuple(members[key] for key in keys), unit, [*said, *told])


def _found(
    names: Collection[str],
    array: _Opener,
    order: str | None,
    sensor_size: tuple[int, int] | None,
    path: str,
) -> _Found:
    """Find the events: records, four arrays, or one table."""
    known = [key for key in RECORDS if key in names]
    for key in known:
        if (lanes := from_records(array(key))) is not None:
            return lanes, [key], []
    try:
        columns, others = _columns(names)
    except InvalidEventsError as err:
        tables = known or [name for name in names if name not in _SIZE_KEYS]
        if len(tables) == 1 and not {name.lower() for name in names} & set(FIELD_NAMES):
            table = array(tables[0])
            if table.is_table:
                return from_table(table, order, sensor_size, path), tables, []
        if (records := _other_records(names, array)) is not None:
            return records
        raise FormatError(str(err), path=path, offset=0, reason="bad_header") from err
    arrays = {column: array(key) for column, key in columns.items()}
    sizes = {column: found.length for column, found in arrays.items()}
    if len(set(sizes.values())) > 1:
        msg = f"expected columns of one length, got {sizes}"
        raise FormatError(msg, path=path, offset=0, reason="truncated")
    said = [f"columns are x, y, t, p; {', '.join(others)} not used"] if others else []
    return from_columns(arrays), list(columns.values()), said


def _other_records(names: Collection[str], array: _Opener) -> _Found | None:
    """Return the one array of records of whatever name."""
    if len(names) > _MOST_LOOKED_AT:
        return None
    found = []
    for key in names:
        with suppress(BadArrayError):  # what is no array of numbers is no records either
            if (lanes := from_records(array(key))) is not None:
                found.append((lanes, [key], [f"events are the records of {key!r}"]))
    return found[0] if len(found) == 1 else None


def _stored_size(source: Source) -> tuple[int, int] | None:
    keys = {}
    with _faults(source), zipfile.ZipFile(source.local()) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if name in _SIZE_KEYS:
                with archive.open(member) as file:
                    keys[name] = read_npy(file.read(_SMALL))
    if "sensor_size" in keys:
        found = [keys["sensor_size"]]
    elif {"width", "height"} <= keys.keys():
        found = [keys["width"], keys["height"]]
    else:
        return None
    numbers = all(array.dtype.kind in "iuf" for array in found)
    sides = [side for array in found for side in array.ravel().tolist()] if numbers else []
    if len(sides) != 2 or not all(side == side // 1 and 0 < side <= 65536 for side in sides):
        got = "x".join(map(str, sides[:4])) or ", ".join(str(array.dtype) for array in found)
        msg = f"expected a sensor size (W, H) of 1x1 to 65536x65536, got {got}"
        raise FormatError(msg, path=source.name, offset=0, reason="bad_header")
    return int(sides[0]), int(sides[1])


def _decode(
    source: Source,
    plan: _Plan | FormatError,
    buffer: Buffer,
    mark: object,
    *,
    strict: bool,
) -> Iterator[RawChunk]:
    if isinstance(plan, FormatError):
        raise plan.anew()
    cleaner = Cleaner(source.name, plan.unit, strict=strict).starting_at(mark)
    decoder = PartDecoder.of(plan.lanes, cleaner, buffer)
    with _faults(source):
        if not strict and mark is None:
            for name in plan.members:
                _check_sum(source, name)
        for part in plan.lanes.pieces(cleaner.seen):
            yield decoder.chunk(part)


def _check_sum(source: Source, name: str) -> None:
    with _open_member(source, name) as file:
        while file.read(PIECE_BYTES):
            pass
