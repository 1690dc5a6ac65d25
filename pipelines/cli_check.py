"""The command ``check``: an audit of raw recordings, as a table or as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click

from eventkit._optional import check_installed
from eventkit.cli.options import RGB_TIME_UNIT, HereType, read_options
from eventkit.cli.run import exit_codes
from eventkit.cli.text import echo
from pipelines.cli_run import run_options
from pipelines.datasets.discover import LAYOUTS
from pipelines.datasets.splits import SPLIT_METHODS, SplitRule
from pipelines.executors import RunSettings

FOUND = 4


@click.command("check")
@click.argument("sources", nargs=-1, required=True, type=HereType(path_type=Path), metavar="RAW...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all findings.")
@click.option("--strict", is_flag=True, help="Exit with 4 for notes as well.")
@read_options
@RGB_TIME_UNIT
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True)
@click.option(
    "--split-by",
    metavar="LEVEL|REGEX",
    help="What makes a group that is to stay in one split, as for convert.",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_METHODS),
    default="hash",
    show_default=True,
    help="Where no list or folder says it, as for convert.",
)
@run_options
@exit_codes()
def check(
    sources: tuple[Path, ...],
    *,
    as_json: bool,
    strict: bool,
    layout: Any,
    split_by: str | None,
    split: Any,
    executor: str,
    workers: int | None,
    **how: Any,
) -> int:
    """Look for what is wrong with RAW recordings (folders or files) before they are converted.

    Reads every recording once and writes nothing. Finds files that are missing, cut, empty,
    damaged or double, recordings that stand in train and in test, times that step back, events
    outside the sensor, missing pictures, odd sizes and lengths, and what is wrong with lists,
    labels and names.

    Exit code: 0 clean, 4 errors or warnings found, 2 nothing to look at.
    """
    check_installed(("PIL", "rich"), extra="pipelines", purpose="eventkit check")
    from pipelines.check.audit import check_raw
    from pipelines.check.table import table
    from pipelines.opening import ReadSettings

    audit = check_raw(
        sources,
        read=ReadSettings(**how),
        layout=layout,
        rule=SplitRule(by=split_by, method=split),
        run=RunSettings(executor=executor, workers=workers),
    )
    clean = audit.is_clean(strict=strict)
    if as_json:
        click.echo(json.dumps({"ok": clean, **audit.as_dict()}))
    else:
        width = max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))
        echo(*table(audit, width=width))
    return 0 if clean else FOUND
