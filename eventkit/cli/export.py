"""``eventkit export``: a recording in a format that others read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit.cli.info import told
from eventkit.cli.options import ON_ERROR, RGB_OFFSET, RGB_TIME_UNIT, SIZE
from eventkit.cli.text import echo
from eventkit.errors import SettingsError

if TYPE_CHECKING:
    from eventkit.ledger import Ledger
    from eventkit.recording import Recording
    from eventkit.writers.plan import Exported, Plan

EVERY_S = 10.0


@click.command("export")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--format", "format_name", help="Name of the writer.  [default: by suffix of DST]")
@click.option(
    "--frames",
    type=click.Choice(["auto", "png", "none"]),
    default="auto",
    show_default=True,
    help="auto: in DST if it holds frames, else as png: a folder of pictures "
    "with timestamps.txt beside it, named as DST with _rgb for the suffix; one that holds the same "
    "pictures is kept.",
)
@click.option("--rgb", metavar="PATH", help="RGB side in a file of its own.")
@RGB_TIME_UNIT
@RGB_OFFSET
@click.option("--start-us", type=click.IntRange(min=0), help="From the first event.")
@click.option("--stop-us", type=click.IntRange(min=1), help="From the first event.")
@ON_ERROR
@click.option("--sensor-size", type=SIZE, help="Where SRC does not say.")
@click.option(
    "--time-unit",
    type=click.Choice(["us", "s", "ms", "ns"]),
    help="Of times of SRC that do not say; told by evidence otherwise.",
)
@click.option("--columns", help="Order of columns of SRC without names, as txyp.")
@click.option(
    "--topic", help="Topic or stream of SRC, where there are several; EVENTS,FRAMES names both."
)
@click.option("--source-format", help="Name of the reader, where detection is wrong.")
@click.option("--overwrite", is_flag=True, help="Replace DST.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str,
    target: Path,
    format_name: str | None,
    frames: Any,
    rgb: str | None,
    rgb_offset_us: int,
    start_us: int | None,
    stop_us: int | None,
    overwrite: bool,
    as_json: bool,
    source_format: str | None,
    **options: Any,
) -> None:
    """Write the recording SRC as DST; the suffix of DST says the format.

    Says what the format cannot hold before it writes, and refuses what does not fit. SRC is read
    twice in pieces, once to see what it holds, and never written to.
    """
    import eventkit
    from eventkit.ledger import Ledger
    from eventkit.writers import find_writer
    from eventkit.writers.plan import carry_out, check_not_compressed, make_plan
    from eventkit.writers.survey import move_frames, part

    check_not_compressed(target)
    writer = find_writer(target, format=format_name)
    recording = eventkit.open(source, rgb=rgb, format=source_format, **options)
    if rgb_offset_us:
        recording = move_frames(recording, rgb_offset_us)
    recording, invented = part(recording, start_us, stop_us)
    sources = (source,) if rgb is None else (source, rgb)
    first, second = Ledger(), Ledger()
    with _spoken("read", first):
        plan = make_plan(
            recording,
            writer,
            target,
            frames=frames,
            overwrite=overwrite,
            sources=sources,
            invented=invented,
            ledger=first,
        )
    _check_range(plan, start_us, stop_us)
    for text in _before(plan, recording.notes):
        echo(text, err=True)
    with _spoken("written", second, plan.contents.events):
        done = carry_out(plan, ledger=second)
    summary = (
        [json.dumps(_facts(done, recording))] if as_json else _summary(done, source, recording)
    )
    echo(*summary)


def _check_range(plan: Plan, start_us: int | None, stop_us: int | None) -> None:
    asked = start_us is not None or stop_us is not None
    if asked and not plan.contents.events and not plan.contents.frames:
        end = "the end" if stop_us is None else f"{stop_us} us"
        msg = (
            f"expected events or frames from {start_us or 0} us to {end}, counted from the first "
            "event, got none; eventkit info says how long the recording is"
        )
        raise SettingsError(msg)


def _before(plan: Plan, notes: list[str]) -> Iterator[str]:
    """What is to be known before the first byte is written."""
    yield from (f"note: {note}" for note in (*notes, *plan.notes))
    yield from (f"loss: {loss}" for loss in plan.losses)


def _facts(done: Exported, recording: Recording) -> dict[str, Any]:
    facts = done.as_dict()
    facts["notes"] = [*recording.notes, *facts["notes"]]
    facts["side_faults"] = recording.side_faults
    return {"source": str(recording.path), "source_format": recording.format, **facts}


def _summary(done: Exported, source: str, recording: Recording) -> list[str]:
    ledger = done.ledger
    lines = [f"{done.path}: {done.format}, from {source}"]
    if done.format != "images":
        lost = sum(ledger.dropped.values())
        why = f" ({_listed(ledger.dropped)})" if lost else ""
        balance = f"{ledger.decoded:,} decoded = {ledger.kept:,} kept + {lost:,} dropped{why}"
        lines.append(f"  events     {balance}")
    if ledger.repaired:
        lines.append(f"  repaired   {_listed(ledger.repaired)}")
    lines += [f"  fault      {line}" for line in told(*ledger.faults, *recording.side_faults)]
    if done.contents.frames:
        place = f"in {done.pictures_path}/" if done.pictures_path else "in it"
        lines.append(f"  frames     {done.contents.frames:,} {place}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))


@contextmanager
def _spoken(verb: str, ledger: Ledger, total: int | None = None) -> Iterator[None]:
    """Say every ten seconds how far it is, from a thread: the work is in one call."""
    over = threading.Event()

    def speak() -> None:
        while not over.wait(EVERY_S):
            of = f" of {total:,}" if total else ""
            sys.stderr.write(f"{ledger.kept:,}{of} events {verb}\n")
            sys.stderr.flush()

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()
