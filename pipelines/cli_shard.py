"""The command ``shard``: options in, one function, a summary out."""

from __future__ import annotations

import click

from eventkit._optional import check_installed
from eventkit.cli.options import LOCATION
from eventkit.cli.run import GO_ON, exit_codes
from eventkit.cli.text import counted, echo
from eventkit.location import Location
from eventkit.samples import CODECS
from pipelines.cli_run import DRY_RUN, LIBRARIES, run_options
from pipelines.executors import RunSettings
from pipelines.scan_notes import empty_splits
from pipelines.shard_settings import MIXES


@click.command("shard")
@click.argument("store", type=LOCATION, default="store", metavar="[STORE]")
@click.option("--out", type=LOCATION, default="shards", show_default=True)
@click.option("--codec", type=click.Choice(CODECS), default="npy.gz", show_default=True)
@click.option("--with-diffs", is_flag=True, help="Also write the differences as members.")
@click.option("--num-shards", type=click.IntRange(min=1), help="Shards of every split.")
@click.option(
    "--shard-bytes",
    type=click.IntRange(min=1 << 16),
    help="Size of a shard.  [default: at most 256 MiB, and up to 64 shards of 64 samples each]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of samples.")
@click.option(
    "--mix",
    type=click.Choice(MIXES),
    default="all",
    show_default=True,
    help="What samples are mixed with: all of their split, or those of 256 packs at a time: faster "
    "beyond 250,000 clips, and from a bucket.",
)
@click.option(
    "--md5/--no-md5", default=True, help="The md5 that wids lists; raw codecs are slower with it."
)
@DRY_RUN
@run_options
@exit_codes(go_on=GO_ON)
def shard(
    store: Location,
    out: Location,
    codec: str,
    with_diffs: bool,
    num_shards: int | None,
    shard_bytes: int | None,
    seed: int,
    mix: str,
    md5: bool,
    dry_run: bool,
    executor: str,
    workers: int | None,
) -> None:
    """Write the clips of STORE as deterministic WebDataset tars."""
    check_installed(LIBRARIES, extra="pipelines", purpose="eventkit shard")
    from pipelines.receipts import read_plan
    from pipelines.shard import shard_store
    from pipelines.shard_count import shard_notes
    from pipelines.shard_settings import ShardSettings

    settings = ShardSettings(
        codec=codec,
        with_diffs=with_diffs,
        num_shards=num_shards,
        shard_bytes=shard_bytes,
        seed=seed,
        mix=mix,
        md5=md5,
    )
    run = RunSettings(executor=executor, workers=workers)
    if dry_run:
        from pipelines.dry_run import forecast_shards

        echo(*forecast_shards(store, out, settings=settings, run=run).lines(out))
        return
    manifest, did_nothing = shard_store(store, out, settings=settings, run=run)
    if did_nothing:
        echo(f"{out}: finished before, nothing to do")
    for split, facts in manifest["splits"].items():
        echo(
            f"{out}/{split}: {counted(facts['samples'], 'samples')} in "
            f"{counted(facts['shards'], 'shards')}, "
            f"{facts['bytes']:,} bytes"
        )
    planned = (read_plan(store) or {}).get("splits", {})
    for note in [*empty_splits(planned, manifest["splits"]), *shard_notes(manifest)]:
        echo(f"  note: {note}")
    echo(f"{out}/manifest.json: plan {manifest['plan_id'][:12]}")
