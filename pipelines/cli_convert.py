"""The command ``convert``: options in, one function, a summary out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit._optional import check_installed
from eventkit.cli.options import (
    BOX,
    LOCATION,
    RGB_OFFSET,
    RGB_TIME_UNIT,
    SIZE,
    HereType,
    read_options,
)
from eventkit.cli.run import GO_ON, exit_codes
from eventkit.cli.text import counted, echo
from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.homography import load_homography
from eventkit.location import Location
from eventkit.representations import COUNT_DTYPES
from pipelines.cli_run import DRY_RUN, LIBRARIES, Percent, run_options
from pipelines.datasets.discover import LAYOUTS
from pipelines.datasets.named import named_sets
from pipelines.datasets.splits import SPLIT_METHODS, SplitRule
from pipelines.datasets.tonic_sets import PREFIX as TONIC
from pipelines.executors import RunSettings

if TYPE_CHECKING:
    from pipelines.convert import Outcome

QUARANTINED = 3


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, type=LOCATION, metavar="RAW...")
@click.option("--out", type=LOCATION, default="store", show_default=True)
@click.option("--bins", type=int, help="Windows a clip.  [default: 8]")
@click.option("--clip-us", type=int, help="Cut recordings into clips of this length.")
@click.option(
    "--repr",
    "--representation",
    "representation",
    default="counts:eventkit",
    show_default=True,
    metavar="NAME[,SETTING=VALUE...]",
    help="Any name of eventkit.representations.names(), as voxel:zhu,bins=5.",
)
@click.option("--dtype", type=click.Choice(COUNT_DTYPES), help="Of counts.  [default: u1]")
@click.option(
    "--windows",
    default="time",
    show_default=True,
    metavar="time|rgb|adaptive[,SETTING=VALUE...]",
    help="Equal time, the intervals between RGB exposures, or cut where the scene changes.",
)
@click.option(
    "--event-window",
    type=click.Choice(["interval", "exposure"]),
    default="interval",
    help="With --windows rgb: the whole interval, or the exposure only.",
)
@click.option("--diffs/--no-diffs", default=True, help="Store frame differences.")
@RGB_OFFSET
@click.option(
    "--homography",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="3x3 matrix, RGB pixel to event pixel: puts RGB on the events' grid.",
)
@click.option("--crop", type=BOX, help="Keep the events in this box of the sensor.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="NAME[:SETTING=VALUE...][,NAME...]",
    help="Filters on events, in order, as hot-pixels,background:within_us=2000.",
)
@click.option(
    "--downsample",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Divide the places of events by this.",
)
@click.option("--size", type=SIZE, help="Bring events to this grid, not larger than theirs.")
@click.option("--raw-events", is_flag=True, help="Keep the events beside the frames.")
@read_options
@RGB_TIME_UNIT
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True)
@click.option(
    "--dataset",
    metavar="NAME",
    help=f"A published set: {', '.join(named_sets())}.  [default: told by the names of its files]",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With tonic:NAME as RAW: where tonic keeps its sets (its save_to).",
)
@click.option(
    "--split-by",
    metavar="RULE",
    help="What stays in one split: the level of a folder in the path (1, 2, ...), or a regular "
    "expression whose group names it, as '(subject[0-9]+)'.  [default: the recording]",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_METHODS),
    default="hash",
    show_default=True,
    help="Where no list or folder says it: by hash, so that new data moves nothing, or the same "
    "shares of every class.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "repair"]),
    default="raise",
    show_default=True,
    help="raise: set the recording aside; skip, repair: keep what is whole.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad recording.")
@click.option("--max-bad", type=Percent(), default="100%", help="Fail if more recordings are bad.")
@click.option(
    "--retry-quarantined",
    is_flag=True,
    help="Look again at recordings that were set aside; what is finished stays as it is.",
)
@click.option(
    "--reuse",
    type=HereType(path_type=Path),
    metavar="STORE",
    help="Take over from another store, of the same settings, the recordings that are the same.",
)
@DRY_RUN
@run_options
@exit_codes(go_on=GO_ON)
def convert(
    sources: tuple[Location, ...],
    out: Location,
    layout: Any,
    dataset: str | None,
    root: Path | None,
    split_by: str | None,
    split: Any,
    on_error: Any,
    sensor_size: tuple[int, int] | None,
    time_unit: Any,
    rgb_time_unit: Any,
    columns: str | None,
    topic: str | None,
    format: str | None,
    strict: bool,
    max_bad: float,
    retry_quarantined: bool,
    reuse: Path | None,
    dry_run: bool,
    executor: str,
    workers: int | None,
    filters: tuple[str, ...],
    homography: Path | None,
    **clip_options: Any,
) -> int:
    """Convert RAW recordings (folders or files) to frames and differences in a Zarr store.

    Understands list files (`<class>/<recording> <frames> <label>`), class folders with or without
    train/ val/ test/ above them, event files with an image, video or image folder of the same
    name, AEDAT4 files that hold both, and published sets as they are unpacked (see --dataset).
    Prints what it understood before it starts. RAW may be tonic:NAME, any set of tonic: its files
    stand in --root FOLDER, and nothing is downloaded.

    Events pass --crop, --filter, --downsample and --size in this order before clips are cut; RGB
    stays as it is unless --homography brings it to the same grid.
    """
    check_installed(LIBRARIES, extra="pipelines", purpose="eventkit convert")
    from pipelines.convert import convert_raw
    from pipelines.opening import ReadSettings

    sources, dataset = _of_tonic(sources, dataset, root)
    settings: dict[str, Any] = {
        "clip": ClipSettings(
            filters=tuple(spec for text in filters for spec in text.split(",")),
            homography=None if homography is None else _matrix(homography),
            **clip_options,
        ),
        "read": ReadSettings(
            on_error=on_error,
            sensor_size=sensor_size,
            time_unit=time_unit,
            rgb_time_unit=rgb_time_unit,
            columns=columns,
            topic=topic,
            format=format,
        ),
        "layout": layout,
        "rule": SplitRule(by=split_by, method=split),
        "run": RunSettings(executor=executor, workers=workers, strict=strict, max_bad=max_bad),
        "say": echo,
        "dataset": dataset,
        "reuse": reuse,
    }
    if dry_run:
        if retry_quarantined:
            msg = "expected --dry-run or --retry-quarantined, got both; leave one out"
            raise SettingsError(msg)
        from pipelines.dry_run import forecast_convert

        echo(*forecast_convert(sources, out, **settings).lines(out))
        return 0
    outcome = convert_raw(sources, out, retry=retry_quarantined, **settings)
    if outcome.did_nothing:
        echo(f"{out}: finished before, nothing to do")
    both = outcome.totals.get("both", 0)
    echo(f"{out}: {counted(outcome.clips, 'clips')}, {both:,} with events and RGB")
    echo(f"  {_balance(outcome)}")
    for note in outcome.notes:
        echo(f"  note: {note}")
    if not outcome.quarantine:
        return 0
    click.secho(
        f"{counted(len(outcome.quarantine), 'recordings')} set aside:", fg="yellow", err=True
    )
    for bad in outcome.quarantine[:10]:
        at = f" (byte {bad['offset']})" if bad["offset"] is not None else ""
        file = "" if bad["file"] is None else f"{bad['file']}: "
        echo(f"  {bad['recording']}: {bad['reason']}: {file}{bad['message']}{at}", err=True)
    echo(f"  all of them: {out}/.eventkit/quarantine.jsonl", err=True)
    echo("  once mended: the same command with --retry-quarantined", err=True)
    if any("--on-error" in bad["message"] for bad in outcome.quarantine):
        new = shlex.quote(f"{out}-skip")
        echo(
            f"  or keep what is whole: the same command with --out {new} --on-error skip", err=True
        )
    return QUARANTINED


def _of_tonic(
    sources: tuple[Location, ...], dataset: str | None, root: Path | None
) -> tuple[tuple[Location, ...], str | None]:
    """Return sources and set, where tonic:NAME stands among the sources."""
    names = [str(source) for source in sources if str(source).startswith(TONIC)]
    if not names:
        if root is not None:
            msg = f"expected tonic:NAME as RAW with --root, got {sources[0]}; leave --root out"
            raise SettingsError(msg)
        return sources, dataset
    if len(sources) > 1 or dataset is not None:
        msg = f"expected {names[0]} alone, got RAW or --dataset beside it; convert each apart"
        raise SettingsError(msg)
    if root is None:
        msg = f"{names[0]}: expected --root FOLDER, where tonic keeps its sets, got none"
        raise SettingsError(msg)
    return (root,), names[0]


def _matrix(path: Path) -> tuple[float, ...]:
    return tuple(load_homography(path).ravel().tolist())


def _balance(outcome: Outcome) -> str:
    """Return the mass balance in words; frames that keep no counts show where events were met."""
    totals = outcome.totals
    reasons = " + ".join(f"{n:,} dropped ({reason})" for reason, n in outcome.dropped.items())
    met, full = totals.get("binned", 0), totals.get("clipped", 0)
    counted = f"{met - full:,} in frames + {full:,} clipped"
    kept = counted if outcome.mass == "counts" else f"{met:,} in windows"
    return f"{totals.get('decoded', 0):,} events decoded = {kept} + {reasons or '0 dropped'}"
