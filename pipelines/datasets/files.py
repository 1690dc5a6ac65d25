"""Which files of a folder belong together: event file and RGB side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from eventkit.compression import SUFFIXES
from eventkit.errors import EventKitError, MissingDataError, SettingsError
from eventkit.location import Location, RemotePath
from eventkit.readers import is_events, suffixes
from pipelines.datasets.faults import Refuse, SetFault, at_once

# Tables may be events or anything else beside them: these are looked into.
TABLES = (".txt", ".csv", ".npy", ".parquet")
# Lists, times and notes stand beside recordings; they are no recordings that went unread.
SIDE_SUFFIXES = (".txt", ".csv", ".md", ".json", ".yaml", ".yml", ".pdf", ".zip", ".xml")
RGB_FOLDER_ENDINGS = ("", "_aps", "_rgb", "_frames")
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """A recording before labels: paths relative to the root, with forward slashes.

    ``id`` is the path without suffix; ``events`` or ``rgb`` may be None, not both.
    """

    id: str
    events: str | None
    rgb: str | None


@dataclass(slots=True)
class _Folder:
    """The relevant files of one folder, relative to the root."""

    path: str
    events: list[str] = field(default_factory=list)
    stills: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Folder) -> None:
        """Take over what is new; the same file may be named twice."""
        for mine, theirs in (
            (self.events, other.events),
            (self.stills, other.stills),
            (self.videos, other.videos),
        ):
            mine.extend(name for name in theirs if name not in mine)
        self.unknown |= other.unknown


def find_pairs(
    root: Location, sources: Sequence[Location], *, refuse: Refuse = at_once
) -> tuple[list[Pair], Counter[str]]:
    """Find recordings below ``sources`` and pair event files with their RGB side.

    The RGB side of ``D/S.bin`` is ``D/S.png`` (or another image), ``D/S.mp4`` (or another video),
    or a folder of images ``D/S``, ``D/S_aps``, ``D/S_rgb``, ``D/S_frames``. What no event file
    claims is a recording of RGB alone; images of a folder without event files are its frames.

    Parameters
    ----------
    root : Location
    sources : sequence of Path
    refuse : callable
        Is given a `SetFault` where an event file has more than one candidate, two event files share
        a stem, or a folder cannot be listed. If it returns, such a file has no RGB side, both are
        in the result, and the folder is left out.

    Returns
    -------
    list of Pair
        Sorted by id.
    Counter
        Files that no reader knows, by suffix.

    Raises
    ------
    MissingDataError
        If nothing is found.
    """
    folders: dict[str, _Folder] = {}
    for source in sources:
        for folder in _folders(root, source, refuse):
            folders.setdefault(folder.path, _Folder(folder.path)).add(folder)
    pairs: list[Pair] = []
    claimed: set[str] = set()
    for folder in folders.values():
        for events in folder.events:
            # A bag given as the source is the root itself.
            stem = root.name if events == "." else stem_of(events)
            sides = _rgb_sides(stem, folder, folders)
            if len(sides) > 1:
                msg = f"{stem}: expected one RGB side, got {', '.join(sides)}; keep one of them"
                refuse(SetFault(msg, reason="two_pictures", where=stem, others=tuple(sides)))
            claimed.update(sides)
            pairs.append(Pair(stem, events, sides[0] if len(sides) == 1 else None))
    for folder in folders.values():
        for video in folder.videos:
            if video not in claimed:
                pairs.append(Pair(stem_of(video), None, video))
        if folder.path in claimed or not folder.stills:
            continue
        if folder.events:
            left = [still for still in folder.stills if still not in claimed]
            pairs.extend(Pair(stem_of(still), None, still) for still in left)
        else:
            name = root.name if folder.path == "." else folder.path
            pairs.append(Pair(name, None, folder.path))
    if not pairs:
        known = ", ".join(sorted({*suffixes("events"), *suffixes("frames")}))
        where = ", ".join(str(source) for source in sources)
        msg = f"{where}: expected recordings ({known}), found none{_packed(sources)}"
        raise MissingDataError(msg)
    _check_unique(pairs, refuse)
    unknown = sum((folder.unknown for folder in folders.values()), Counter[str]())
    return sorted(pairs, key=lambda pair: pair.id), unknown


def _packed(sources: Sequence[Location]) -> str:
    """Say what to do about an archive, where there is one and no recording."""
    files = (f for s in sources for f in (sorted(s.iterdir()) if s.is_dir() else [s]))
    archive = next((f for f in files if suffix_of(f.name) in ARCHIVES), None)
    if archive is None:
        return ""
    member = f"; `eventkit info zip://MEMBER::{archive}` reads one file in it"
    return f" but {archive.name}: unpack it first{member * (archive.suffix == '.zip')}"


def walk(source: Location, *, refuse: Refuse = at_once) -> Iterator[tuple[Location, list[str]]]:
    """Yield every folder below ``source`` and the sorted names of its files.

    Links are followed, as data folders are often made of them; a folder that was seen before ends
    a loop. Hidden folders and Zarr stores are left out, and what lies below a ROS 2 bag.
    """
    seen: set[str] = set()

    def unlisted(err: OSError) -> None:
        msg = f"{err.filename}: expected a folder that can be listed, got {err.strerror}"
        refuse(SetFault(msg, reason="unreadable", where=os.path.relpath(err.filename, source)))

    if isinstance(source, RemotePath):
        yield from _walk_listed(source)
        return
    for current, folders, files in os.walk(source, followlinks=True, onerror=unlisted):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if is_bag(files):
            folders.clear()
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not f.endswith(".zarr"))
        yield Path(current), sorted(files)


def _walk_listed(folder: RemotePath) -> Iterator[tuple[RemotePath, list[str]]]:
    """Yield as `walk` does; there are no links, and no folder that cannot be listed alone."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    files = [path.name for path in inside if path.is_file()]
    yield folder, files
    for path in () if is_bag(files) else inside:
        if path.is_dir() and not path.name.startswith(".") and path.suffix != ".zarr":
            yield from _walk_listed(path)


def _folders(root: Location, source: Location, refuse: Refuse) -> Iterator[_Folder]:
    if source.is_file():
        yield from _single(root, source)
        return
    for current, files in walk(source, refuse=refuse):
        if is_bag(files):
            bag = _Folder(relative_name(root, current.parent))
            bag.events.append(relative_name(root, current))
            yield bag
        else:
            yield _sort_files(root, current, files)


def is_bag(files: Sequence[str]) -> bool:
    """Whether a folder with these files is a ROS 2 bag: one recording, however many files."""
    return "metadata.yaml" in files and any(f.endswith((".db3", ".mcap")) for f in files)


def _single(root: Location, source: Location) -> Iterator[_Folder]:
    """Yield a single file, and what may be the RGB side of an event file."""
    if suffix_of(source.name) not in suffixes("events"):
        yield _sort_files(root, source.parent, [source.name])
        return
    stem, pictures = stem_of(source.name), suffixes("frames")
    # Another event file of that stem, as an export leaves it, is not what was asked for.
    beside = sorted(
        f
        for f in source.parent.iterdir()
        if f == source or (stem_of(f.name) == stem and _is_picture(f, pictures))
    )
    yield _sort_files(root, source.parent, [f.name for f in beside])
    for ending in RGB_FOLDER_ENDINGS:
        folder = source.with_name(stem + ending)
        if folder.is_dir():
            yield _sort_files(root, folder, sorted(f.name for f in folder.iterdir() if f.is_file()))


def _is_picture(path: Location, pictures: Mapping[str, str]) -> bool:
    return pictures.get(suffix_of(path.name)) in ("image", "video") and path.is_file()


def _sort_files(root: Location, folder: Location, files: list[str]) -> _Folder:
    events, frames = suffixes("events"), suffixes("frames")
    found = _Folder(relative_name(root, folder))
    for name in files:
        suffix = suffix_of(name)
        path = relative_name(root, folder / name)
        if name.startswith("."):
            continue
        if suffix in events and (suffix not in TABLES or _may_be_events(folder / name)):
            found.events.append(path)
        elif frames.get(suffix) == "image":
            found.stills.append(path)
        elif frames.get(suffix) == "video":
            found.videos.append(path)
        elif suffix not in SIDE_SUFFIXES:
            found.unknown[suffix or "no suffix"] += 1
    return found


def _may_be_events(table: Location) -> bool:
    """Look into a table; one that cannot be read is set aside by the scan, with the reason."""
    try:
        return is_events(str(table))
    except (EventKitError, OSError) as err:
        # A store that does not answer, or refuses, says nothing about the file.
        if isinstance(table, RemotePath) and isinstance(err, OSError | SettingsError):
            raise
        return True


def _rgb_sides(stem: str, folder: _Folder, folders: dict[str, _Folder]) -> list[str]:
    candidates = [f for f in (*folder.stills, *folder.videos) if stem_of(f) == stem]
    for ending in RGB_FOLDER_ENDINGS:
        side = folders.get(stem + ending)
        if side is not None and side.stills:
            candidates.append(side.path)
    return candidates


def _check_unique(pairs: list[Pair], refuse: Refuse) -> None:
    files: dict[str, list[str]] = {}
    for pair in pairs:
        files.setdefault(pair.id, []).append(str(pair.events or pair.rgb))
    clashes = sorted((name, same) for name, same in files.items() if len(same) > 1)
    if clashes:
        shown = "; ".join(f"{name!r}: {' and '.join(same)}" for name, same in clashes[:_SHOWN])
        more = f"; and {len(clashes) - _SHOWN} names more" if len(clashes) > _SHOWN else ""
        msg = (
            f"two recordings have one name, {shown}{more}; rename or move away one of each, or "
            "name the files to convert"
        )
        others = tuple(file for _, same in clashes for file in same)
        refuse(SetFault(msg, reason="same_name", where=clashes[0][0], others=others))


def relative_name(root: Location, path: Location) -> str:
    """Return the way from the root to a path, with forward slashes; of the root itself a dot."""
    if isinstance(path, RemotePath):
        return path.relative_to(root).as_posix()
    return PurePosixPath(os.path.relpath(path, root).replace(os.sep, "/")).as_posix()


def suffix_of(name: str) -> str:
    """Return the suffix, lower case; of a compressed file the one before it."""
    path = PurePosixPath(name)
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.suffix.lower()


def stem_of(path: str) -> str:
    """Return the path without its suffix, nor that of a compression."""
    whole = PurePosixPath(path)
    if whole.suffix.lower() in SUFFIXES and whole.with_suffix("").suffix:
        whole = whole.with_suffix("")
    return str(whole.with_suffix(""))
