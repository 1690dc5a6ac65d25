"""Options that the commands of the pipelines share: how they run."""

from __future__ import annotations

import re
from typing import Any

import click

from eventkit.errors import SettingsError
from pipelines.executors import EXECUTORS, checked_name

DRY_RUN = click.option(
    "--dry-run",
    is_flag=True,
    help="Say what would be done and, measured on a sample, what it costs; write nothing.",
)
LIBRARIES = ("zarr", "google_crc32c", "deflate", "PIL", "rich")


class Percent(click.ParamType):
    """A share like 1%, or 1."""

    name = "N%"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)%?", str(value))
        if match is None or float(match[1]) > 100:
            self.fail(f"expected a share like 1%, got {value!r}", param, ctx)
        return float(match[1])


class _Executor(click.ParamType):
    name = "executor"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return checked_name(str(value))
        except SettingsError as err:
            self.fail(str(err), param, ctx)


def run_options(command: Any) -> Any:
    """Add how a command runs its tasks."""
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Default: all processors."),
        click.option(
            "--executor",
            type=_Executor(),
            default="auto",
            show_default=True,
            metavar="|".join((*EXECUTORS, "tcp://HOST:PORT", "tls://HOST:PORT")),
            help="An address is that of a dask scheduler.",
        ),
    ):
        command = option(command)
    return command
