"""Option types that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from eventkit.location import Location, RemotePath, location


class SizeType(click.ParamType["tuple[int, int]"]):
    """``WxH`` in pixels."""

    name = "WxH"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the name as it is; click would write it in capitals."""
        return self.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (W, H)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX,](\d+)", str(value))
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(0 < side <= 65536 for side in size):
            self.fail(f"expected a size like 346x260, got {value!r}", param, ctx)
        return size


class BoxType(click.ParamType["tuple[int, int, int, int]"]):
    """``X,Y,W,H`` in pixels."""

    name = "X,Y,W,H"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the name as it is; click would write it in capitals."""
        return self.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Return (x, y, w, h)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})", str(value))
        if match is None or not (int(match[3]) and int(match[4])):
            self.fail(f"expected a box like 10,20,64,48, got {value!r}", param, ctx)
        return int(match[1]), int(match[2]), int(match[3]), int(match[4])


class LocationType(click.ParamType["Location"]):
    """A path, or a URL that fsspec opens."""

    name = "PATH|URL"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the name as it is."""
        return self.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Location:
        """Return a `Path`, or a `RemotePath` where the text is a URL."""
        return location(value)


class HereType(click.Path):
    """A path of this machine; a URL is refused, which would be taken for a strange name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Path`."""
        if isinstance(location(str(value)), RemotePath):
            self.fail(f"expected a path of this machine, got {value}; copy it here", param, ctx)
        return super().convert(value, param, ctx)


Command = TypeVar("Command", bound=Callable[..., Any])

SIZE = SizeType()
BOX = BoxType()
LOCATION = LocationType()


def read_options(command: Command) -> Command:
    """Add what every reader can be told: how to read what a file does not say of itself."""
    for option in reversed(_READ_OPTIONS):
        command = option(command)
    return command


_READ_OPTIONS = (
    click.option("--sensor-size", type=SIZE, help="Where the file does not say, or says it wrong."),
    click.option(
        "--time-unit",
        type=click.Choice(["us", "s", "ms", "ns"]),
        help="Of times that do not say; told by evidence otherwise.",
    ),
    click.option("--columns", metavar="ORDER", help="Of columns without names, as txyp."),
    click.option(
        "--topic",
        help="Of a bag, or the stream, where there are several; EVENTS,FRAMES names both.",
    ),
    click.option("--format", "format", help="Name of the reader, where detection is wrong."),
)
RGB_TIME_UNIT = click.option(
    "--rgb-time-unit",
    type=click.Choice(["us", "s", "ms", "ns"]),
    help="Of times of an RGB side of its own that do not say; told by evidence otherwise.",
)
RGB_OFFSET = click.option("--rgb-offset-us", type=int, default=0, help="Added to RGB times.")
ON_ERROR = click.option(
    "--on-error",
    type=click.Choice(["raise", "skip", "repair"]),
    default="raise",
    show_default=True,
    help="raise: stop at the first fault; skip, repair: keep what is whole.",
)
