"""The commands ``convert``, ``shard``, ``verify``: options in, one function, a summary out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventkit._optional import check_installed
from eventkit.cli.options import BOX, RGB_TIME_UNIT, SIZE, read_options
from eventkit.cli.run import GO_ON, exit_codes
from eventkit.clip_settings import ClipSettings
from eventkit.homography import load_homography
from eventkit.representations import COUNT_DTYPES
from eventkit.samples import CODECS
from pipelines.datasets.discover import LAYOUTS
from pipelines.executors import EXECUTORS, RunSettings, open_pool

if TYPE_CHECKING:
    from pipelines.convert import Outcome

QUARANTINED = 3
_LIBRARIES = ("zarr", "google_crc32c", "PIL", "rich")


class _Percent(click.ParamType):
    name = "N%"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)%?", str(value))
        if match is None or float(match[1]) > 100:
            self.fail(f"expected a share like 1%, got {value!r}", param, ctx)
        return float(match[1])


def _run_options(command: Any) -> Any:
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Default: all processors."),
        click.option("--executor", type=click.Choice(EXECUTORS), default="auto", show_default=True),
    ):
        command = option(command)
    return command


@click.command("convert")
@click.argument(
    "sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RAW..."
)
@click.option("--out", type=click.Path(path_type=Path), default="store", show_default=True)
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
    type=click.Choice(["time", "rgb"]),
    default="time",
    show_default=True,
    help="Equal time, or the intervals between RGB exposures.",
)
@click.option(
    "--event-window",
    type=click.Choice(["interval", "exposure"]),
    default="interval",
    help="With --windows rgb: the whole interval, or the exposure only.",
)
@click.option("--diffs/--no-diffs", default=True, help="Store frame differences.")
@click.option("--rgb-offset-us", type=int, default=0, help="Added to RGB times.")
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
    "--on-error",
    type=click.Choice(["raise", "skip", "repair"]),
    default="raise",
    show_default=True,
    help="raise: set the recording aside; skip, repair: keep what is whole.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad recording.")
@click.option("--max-bad", type=_Percent(), default="100%", help="Fail if more recordings are bad.")
@_run_options
@exit_codes(go_on=GO_ON)
def convert(
    sources: tuple[Path, ...],
    out: Path,
    layout: Any,
    on_error: Any,
    sensor_size: tuple[int, int] | None,
    time_unit: Any,
    rgb_time_unit: Any,
    columns: str | None,
    topic: str | None,
    format: str | None,
    strict: bool,
    max_bad: float,
    executor: str,
    workers: int | None,
    filters: tuple[str, ...],
    homography: Path | None,
    **clip_options: Any,
) -> int:
    """Convert RAW recordings (folders or files) to frames and differences in a Zarr store.

    Understands list files (`<class>/<recording> <frames> <label>`), class folders with or without
    train/ val/ test/ above them, event files with an image, video or image folder of the same
    name, and AEDAT4 files that hold both. Prints what it understood before it starts.

    Events pass --crop, --filter, --downsample and --size in this order before clips are cut; RGB
    stays as it is unless --homography brings it to the same grid.
    """
    check_installed(_LIBRARIES, extra="pipelines", purpose="eventkit convert")
    from pipelines.convert import convert_raw
    from pipelines.scan import ReadSettings

    outcome = convert_raw(
        sources,
        out,
        clip=ClipSettings(
            filters=tuple(spec for text in filters for spec in text.split(",")),
            homography=None if homography is None else _matrix(homography),
            **clip_options,
        ),
        read=ReadSettings(
            on_error=on_error,
            sensor_size=sensor_size,
            time_unit=time_unit,
            rgb_time_unit=rgb_time_unit,
            columns=columns,
            topic=topic,
            format=format,
        ),
        layout=layout,
        run=RunSettings(executor=executor, workers=workers, strict=strict, max_bad=max_bad),
        say=click.echo,
    )
    if outcome.did_nothing:
        click.echo(f"{out}: finished before, nothing to do")
    both = outcome.totals.get("both", 0)
    click.echo(f"{out}: {outcome.clips:,} clips, {both:,} with events and RGB")
    click.echo(f"  {_balance(outcome)}")
    for note in outcome.notes:
        click.echo(f"  note: {note}")
    if not outcome.quarantine:
        return 0
    click.secho(f"{len(outcome.quarantine)} recordings set aside:", fg="yellow", err=True)
    for bad in outcome.quarantine[:10]:
        at = f" (byte {bad['offset']})" if bad["offset"] is not None else ""
        file = "" if bad["file"] is None else f"{bad['file']}: "
        click.echo(f"  {bad['recording']}: {bad['reason']}: {file}{bad['message']}{at}", err=True)
    click.echo(f"  all of them: {out}/.eventkit/quarantine.jsonl", err=True)
    return QUARANTINED


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


@click.command("shard")
@click.argument("store", type=click.Path(path_type=Path), default="store")
@click.option("--out", type=click.Path(path_type=Path), default="shards", show_default=True)
@click.option("--codec", type=click.Choice(CODECS), default="npy.gz", show_default=True)
@click.option("--with-diffs", is_flag=True, help="Also write the differences as members.")
@click.option("--num-shards", type=click.IntRange(min=1), help="A split; default by size.")
@click.option(
    "--shard-bytes", type=click.IntRange(min=1 << 16), default=256 << 20, show_default=True
)
@_run_options
@exit_codes(go_on=GO_ON)
def shard(
    store: Path,
    out: Path,
    codec: str,
    with_diffs: bool,
    num_shards: int | None,
    shard_bytes: int,
    executor: str,
    workers: int | None,
) -> None:
    """Write the clips of STORE as deterministic WebDataset tars."""
    check_installed(_LIBRARIES, extra="pipelines", purpose="eventkit shard")
    from pipelines.shard import shard_store
    from pipelines.shard_task import ShardSettings

    manifest, did_nothing = shard_store(
        store,
        out,
        settings=ShardSettings(
            codec=codec, with_diffs=with_diffs, num_shards=num_shards, shard_bytes=shard_bytes
        ),
        run=RunSettings(executor=executor, workers=workers),
    )
    if did_nothing:
        click.echo(f"{out}: finished before, nothing to do")
    for split, facts in manifest["splits"].items():
        click.echo(
            f"{out}/{split}: {facts['samples']:,} samples in {facts['shards']:,} shards, "
            f"{facts['bytes']:,} bytes"
        )
    click.echo(f"{out}/manifest.json: plan {manifest['plan_id'][:12]}")


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path), default="shards")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_run_options
def verify(folder: Path, as_json: bool, executor: str, workers: int | None) -> None:
    """Check every byte and count of a shards FOLDER, or of a store."""
    check_installed(_LIBRARIES, extra="pipelines", purpose="eventkit verify")
    from pipelines.receipts import HIDDEN
    from pipelines.verify import require_undamaged, verify_shards, verify_store

    is_store = (folder / HIDDEN / "plan.json").is_file() and (folder / HIDDEN / "packs").is_dir()
    if is_store:
        problems, totals = verify_store(folder)
    else:
        with open_pool(executor, workers=workers) as pool:
            problems, totals = verify_shards(folder, pool)
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": problems, "totals": totals}))
    require_undamaged(problems, folder)
    if not as_json:
        click.echo(f"{folder}: whole; " + ", ".join(f"{n:,} {name}" for name, n in totals.items()))
