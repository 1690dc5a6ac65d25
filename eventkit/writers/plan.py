"""An export in two steps: what would be written and lost, then the writing.

Everything that can be refused is refused in the first step, before a byte is written. The second
writes to temporary names in the final folder and renames them when all is on the disk: pictures
first, so that whoever sees the events sees all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eventkit.align import on_event_clock
from eventkit.atomic import remove_left, replaced
from eventkit.compression import SUFFIXES
from eventkit.errors import FormatError, SettingsError
from eventkit.frames import Frames
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.base import Contents, Writer
from eventkit.writers.images import png_losses, write_folder
from eventkit.writers.survey import survey, told_times, with_frames
from eventkit.writers.targets import check_kept, check_pictures, check_target

FrameRule = Literal["auto", "png", "none"]

HOLD_FRAMES = ("aedat4", "mcap", "ros2-db3", "images")
"""Formats that have room for pictures beside events."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written where, and what would be lost.

    Parameters
    ----------
    recording : Recording
        What the writer gets.
    writer : Writer
    path : Path
    contents : Contents
    losses : tuple of str
        One sentence each.
    notes : tuple of str
        Where times of frames come from, if they are not those of the recording.
    pictures : Frames or None
        Those that go into a folder of their own and are not there yet.
    pictures_path : Path or None
        That folder.
    """

    recording: Recording
    writer: Writer
    path: Path
    contents: Contents
    losses: tuple[str, ...]
    notes: tuple[str, ...] = ()
    pictures: Frames | None = None
    pictures_path: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Parameters
    ----------
    path : Path
    format : str
    contents : Contents
    losses, notes : tuple of str
    pictures_path : Path or None
        The folder of pictures, where there is one.
    ledger : Ledger
        Of the reading: ``decoded == kept + dropped``.
    """

    path: Path
    format: str
    contents: Contents
    losses: tuple[str, ...]
    notes: tuple[str, ...]
    pictures_path: Path | None
    ledger: Ledger

    def as_dict(self) -> dict[str, Any]:
        """Return plain types in a fixed order, for JSON."""
        size = self.contents.sensor_size
        return {
            "path": str(self.path),
            "format": self.format,
            "events": self.contents.events,
            "t_first_us": self.contents.first_us,
            "t_last_us": self.contents.last_us,
            "sensor_size": list(size) if size else None,
            "frames": self.contents.frames,
            "frames_path": str(self.pictures_path) if self.pictures_path else None,
            "losses": list(self.losses),
            "notes": list(self.notes),
            "ledger": self.ledger.as_dict(),
        }


def make_plan(
    recording: Recording,
    writer: Writer,
    path: Path,
    *,
    frames: FrameRule = "auto",
    overwrite: bool = False,
    sources: Iterable[str | Path] = (),
    invented: Iterable[str] = (),
    ledger: Ledger | None = None,
) -> Plan:
    """Read the recording once and lay out its export.

    Parameters
    ----------
    recording : Recording
    writer : Writer
    path : Path
    frames : {"auto", "png", "none"}
    overwrite : bool
    sources : iterable of str or Path
        Further files that must not be written over.
    invented : iterable of str
        What `eventkit.writers.survey.part` says of times of frames.
    ledger : Ledger, optional
        Receives the counts of this pass, as it goes.

    Raises
    ------
    SettingsError
        If the events do not fit the format or something is there already, other than the folder
        of the same pictures, which is kept.
    """
    if frames not in ("auto", "png", "none"):
        msg = f"expected frames among auto, png, none, got {frames!r}"
        raise SettingsError(msg)
    if recording.source is None and writer.name != "images":
        msg = f"{recording.path}: expected events, there are none; --format images writes pictures"
        raise SettingsError(msg)
    check_not_compressed(path)
    inside = writer.name == "images" or (frames == "auto" and writer.name in HOLD_FRAMES)
    apart = recording.frames is not None and not inside and frames != "none"
    folder = path.with_name(f"{_stem(path, writer)}_rgb") if apart else None
    sources = (recording.path, *sources)
    check_target(path, sources, overwrite=overwrite)
    if folder is not None and overwrite:
        check_target(folder, sources, overwrite=True)
    elif folder is not None and recording.frames is not None:
        check_pictures(folder, len(recording.frames), sources)
    found = survey(recording, ledger=ledger)
    losses: list[str] = []
    if frames == "none" and found.frames and writer.name != "images":
        losses.append(f"{found.frames} frames are not written, as asked for")
        found, recording = with_frames(found, None), recording.with_frames(None)
    side, notes, made_up = _timed(recording, found, untimed=inside)
    losses += made_up if side is None else (*invented, *made_up)
    recording = recording.with_frames(side if inside else None)
    losses += writer.losses(with_frames(found, recording.frames))
    if side is not None and (apart or writer.name == "images"):
        losses += png_losses(side)
    if side is not None and apart:
        side, moved = _with_the_events(side, writer, found)
        notes += moved
    kept = folder is not None and side is not None and not overwrite and check_kept(folder, side)
    if kept:
        notes.append(f"{folder} holds these pictures already: it is kept as it is")
    if recording.t_offset_us:
        losses.append(
            f"times are written as they are read; the absolute start, {recording.t_offset_us} us, "
            "is not"
        )
    return Plan(
        recording=recording,
        writer=writer,
        path=path,
        contents=found,
        losses=tuple(losses),
        notes=tuple(notes),
        pictures=side if apart and not kept else None,
        pictures_path=folder,
    )


def check_not_compressed(path: Path) -> None:
    """Refuse a name that promises a compressed file.

    Raises
    ------
    SettingsError
    """
    suffix = path.suffix
    if suffix.lower() in SUFFIXES:
        msg = (
            f"{path}: expected a name without {suffix}, compressed output is not written; write "
            f"{path.with_suffix('').name} and compress it afterwards"
        )
        raise SettingsError(msg)


def carry_out(plan: Plan, *, ledger: Ledger | None = None) -> Exported:
    """Write what was planned.

    Parameters
    ----------
    plan : Plan
    ledger : Ledger, optional
        Receives the counts, as it goes.

    Raises
    ------
    FormatError
        At a fault of the recording, and if it changed since the plan was made; nothing is left.
    """
    ledger = ledger if ledger is not None else Ledger()
    folder = plan.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    remove_left(folder)
    written = plan.pictures_path if plan.pictures is not None else None
    beside = [] if written is None else [written]
    with replaced(*beside, plan.path) as (*pictures_at, partial):
        plan.writer.write(plan.recording, partial, ledger=ledger)
        if plan.writer.name != "images" and ledger.kept != plan.contents.events:
            msg = (
                f"expected {plan.contents.events} events as before, got {ledger.kept}; "
                "the file changed while it was read"
            )
            raise FormatError(msg, path=plan.recording.path, reason="corrupt")
        if plan.pictures is not None:
            write_folder(plan.pictures, pictures_at[0])
    return Exported(
        path=plan.path,
        format=plan.writer.name,
        contents=plan.contents,
        losses=plan.losses,
        notes=plan.notes,
        pictures_path=plan.pictures_path,
        ledger=ledger,
    )


def _stem(path: Path, writer: Writer) -> str:
    """Name without the suffix of the format, which may have two dots."""
    ends = [suffix for suffix in writer.suffixes if path.name.lower().endswith(suffix)]
    longest = max(ends, key=len, default=path.suffix)
    return path.name[: len(path.name) - len(longest)] or path.name


def _timed(
    recording: Recording, found: Contents, *, untimed: bool
) -> tuple[Frames | None, list[str], list[str]]:
    """Bring frames to the clock of the events; pictures without times get none in a folder.

    Returns the frames, notes and losses.
    """
    frames = recording.frames
    if frames is None or frames.timing == "recorded" or not found.events:
        return frames, [], []
    if frames.timing == "none" and not untimed:
        return frames, ["the pictures have no times: no timestamps.txt is written"], []
    frames, how = on_event_clock(frames, first_us=found.first_us, last_us=found.last_us)
    return frames, *told_times(how)


def _with_the_events(frames: Frames, writer: Writer, found: Contents) -> tuple[Frames, list[str]]:
    """Move times of pictures as a format moves those of the events, or they would drift apart."""
    moved = getattr(writer, "moved_us", None)
    offset = int(moved(found)) if moved is not None else 0
    if not offset or frames.timing == "none":
        return frames, []
    return frames.shifted(offset), [f"times of the pictures are moved by {offset} us as well"]
