"""The ``eventkit`` command: a static table of commands, each loaded when it is called.

click alone costs five times a bare interpreter, so help is printed from the table and nothing
else is imported for it. Names that are not in the table are looked up among the entry points
``eventkit.commands``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from eventkit import __version__

_COMMANDS = {
    "info": ("eventkit.cli.info:command", "Say what a recording holds."),
    "export": (
        "eventkit.cli.export:command",
        "A recording in another format, nothing lost unsaid.",
    ),
    "simulate": ("eventkit.cli.simulate:command", "Images or video to simulated recordings."),
    "check": ("pipelines.cli_check:check", "Look for what is wrong with raw recordings."),
    "convert": (
        "pipelines.cli_convert:convert",
        "Raw recordings to frames and differences, in Zarr.",
    ),
    "shard": ("pipelines.cli_shard:shard", "Zarr store to WebDataset tars."),
    "report": ("pipelines.cli_report:report", "One page on a store or shards: what is in it."),
    "verify": ("pipelines.cli_verify:verify", "Hash, count and balance written shards or a store."),
    "warmup": ("eventkit.cli.warmup:command", "Compile every kernel now, for all later runs."),
    "render": ("eventkit.cli.render:command", "Draw a recording, store or shards: PNG, GIF, MP4."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the built-in names in the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Load one command; unknown names may come from another package."""
        if name in _COMMANDS:
            return _load(_COMMANDS[name][0])
        from importlib.metadata import entry_points

        for point in entry_points(group="eventkit.commands", name=name):
            command: click.Command = point.load()
            return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table; the commands stay unloaded."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _load(target: str) -> click.Command:
    module, _, name = target.partition(":")
    command: click.Command = getattr(import_module(module), name)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eventkit")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to standard error.")
def main_group(verbose: bool) -> None:
    """Raw RGB-Event recordings to frames to shards.

    \b
        eventkit convert raw/ --bins 8
        eventkit shard
        velora-train --shards shards/
    """  # noqa: D301
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


def main(*args: Any) -> None:
    """Entry point of the console script."""
    from eventkit.cli.run import run

    run(main_group, name="eventkit")
