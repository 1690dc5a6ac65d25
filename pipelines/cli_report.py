"""The command ``report``: one page on a store or a set of shards."""

from __future__ import annotations

from pathlib import Path

import click

from eventkit._optional import check_installed
from eventkit.cli.options import LOCATION
from eventkit.cli.run import exit_codes
from eventkit.cli.text import echo
from eventkit.errors import SettingsError
from eventkit.location import Location
from eventkit.shards import MANIFEST


@click.command("report")
@click.argument("folder", type=LOCATION, required=False, metavar="[FOLDER]")
@click.option(
    "--out",
    type=LOCATION,
    metavar="FILE",
    help="[default: report.html in FOLDER]",
)
@exit_codes()
def report(folder: Location | None, out: Location | None) -> None:
    """Write report.html on a store or a shards FOLDER.

    Totals, what became of every event, classes and splits, lengths and rates, what was set aside
    and why, twelve clips to look at, the settings, and the commands that make it again. The page
    needs no network and no other file. Without FOLDER: ./shards if it is finished, else ./store.
    """
    check_installed(("zarr", "PIL"), extra="pipelines", purpose="eventkit report")
    from pipelines.report import write_report

    if folder is None:
        folder = Path("shards") if Path("shards", MANIFEST).is_file() else Path("store")
    path = out or folder / "report.html"
    if path.is_dir():
        msg = f"--out {path}: expected a file, it is a folder; give {path / 'report.html'}"
        raise SettingsError(msg)
    num_bytes = write_report(folder, path)
    echo(f"{path}: {num_bytes:,} bytes, on {folder}")
