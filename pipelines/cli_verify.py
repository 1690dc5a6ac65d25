"""The command ``verify``: what was written is what was meant, byte by byte and clip by clip."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from eventkit._optional import check_installed
from eventkit.cli.options import LOCATION
from eventkit.cli.text import counted, echo, printable
from eventkit.errors import DamageError, SettingsError
from eventkit.location import Location
from eventkit.shards import MANIFEST
from pipelines.cli_run import LIBRARIES, Percent, run_options
from pipelines.executors import Pool, Site, open_pool
from pipelines.kinds import kind_of, refuse_kind
from pipelines.receipts import PLAN

if TYPE_CHECKING:
    from pipelines.verify import Verdict


@click.command("verify")
@click.argument("folder", type=LOCATION, default="shards", metavar="[FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--deep",
    is_flag=True,
    help="Also make samples again from the store, and clips from the raw files, and compare.",
)
@click.option("--sample", type=Percent(), help="With --deep: this share of recordings and samples.")
@click.option(
    "--raw",
    type=LOCATION,
    help="With --deep: the raw folder, if it is not where it was.",
)
@click.option(
    "--store",
    type=LOCATION,
    help="With --deep, for shards: the store, if it is not where it was.",
)
@run_options
def verify(
    folder: Location,
    as_json: bool,
    deep: bool,
    sample: float | None,
    raw: Location | None,
    store: Location | None,
    executor: str,
    workers: int | None,
) -> int:
    """Check every byte and count of a shards FOLDER, or of a store.

    Names each file that is damaged, lost, or that nothing lists; exit code 4. With --deep also
    what no longer is as in the raw recordings, and raw files that have changed since.
    """
    check_installed(LIBRARIES, extra="pipelines", purpose="eventkit verify")
    if not deep and (sample, raw, store) != (None, None, None):
        msg = "expected --deep with --sample, --raw and --store, got none; add it"
        raise SettingsError(msg)
    whole = folder.resolve() if "://" in executor else folder  # workers stand elsewhere
    site = Site(inputs=(whole / MANIFEST, whole / PLAN))
    with open_pool(executor, workers=workers, site=site) as pool:
        found = _look(whole, pool)
        if deep and not found.problems:
            _compare(found, whole, pool, raw=raw, store=store, percent=sample or 100.0)
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    elif not found.problems:
        names = {"decoded": "decoded in clips"}
        told = (counted(n, names.get(name, name)) for name, n in found.totals.items())
        echo(f"{folder}: whole; {', '.join(told)}")
    else:
        faults = counted(len(found.problems), "faults")
        click.secho(f"error: {printable(str(folder))} is damaged: {faults}", fg="red", err=True)
        echo(*(f"  {problem}" for problem in found.shown()), err=True)
    for note in () if as_json else found.notes:
        echo(f"  note: {note}", err=bool(found.problems))
    return DamageError.exit_code if found.problems else 0


def _look(folder: Location, pool: Pool) -> Verdict:
    from pipelines.verify import verify_shards, verify_store

    return verify_store(folder, pool) if kind_of(folder) == "store" else verify_shards(folder, pool)


def _compare(
    found: Verdict,
    folder: Location,
    pool: Pool,
    *,
    raw: Location | None,
    store: Location | None,
    percent: float,
) -> None:
    """Go back from shards to the store and from the store to the raw files, up to damage."""
    from pipelines.origin import find_origin
    from pipelines.verify import (
        verify_against_raw,
        verify_against_store,
        verify_store,
    )

    if kind_of(folder) != "store":
        made_of = find_origin(folder, store, option="--store STORE")
        refuse_kind(made_of, "shards", cure="give --store STORE, which convert made")
        found.add(verify_store(made_of, pool).problems)
        if not found.problems:
            found.include(verify_against_store(folder, made_of, pool, percent=percent))
        folder = made_of
    if not found.problems:
        made_of = find_origin(folder, raw, option="--raw RAW")
        found.include(verify_against_raw(folder, made_of, pool, percent=percent))
