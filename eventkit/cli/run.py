"""From a command to an exit code: one red line for a user's mistake, a traceback for ours.

0 fine; 1 internal; 2 usage or input; 3 done, something quarantined; 4 damage found; 5 locked;
6 disk or I/O; 130 / 143 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click

from eventkit.cli.text import printable
from eventkit.errors import EventKitError

GO_ON = "run the same command again to go on"
FROM_THE_START = "the same command starts from the beginning"


class Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that pools, files and locks are let go."""


def run(command: click.Command, *, name: str) -> NoReturn:
    """Run a click command and leave the process with the right exit code.

    Parameters
    ----------
    command : click.Command
    name : str
        Program name, for usage lines.
    """
    _open_closed_streams()
    try:
        with exit_codes():
            result = _invoke(command, name)
    except SystemExit as stop:
        if stop.code in (130, 143):
            # What was interrupted (an event loop in the middle of a write, say) would complain at
            # the interpreter's end, and nothing is lost: what has no receipt is made again.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(stop.code)
        raise
    sys.exit(result if isinstance(result, int) else 0)


def _open_closed_streams() -> None:
    """Put the null device where a stream was closed (``>&-``).

    Python has None there, and the next file that is opened would get the number of the stream and
    with it whatever a library prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _invoke(command: click.Command, name: str) -> Any:
    try:
        # Not command.main: it turns a closed pipe into exit code 1 on its own.
        with command.make_context(name, sys.argv[1:]) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as err:
        raise SystemExit(err.exit_code) from None
    except click.ClickException as err:
        err.show()
        raise SystemExit(err.exit_code) from None
    sys.stdout.flush()
    return result


@contextmanager
def exit_codes(*, go_on: str = "") -> Iterator[None]:
    """Turn what a user can cause into one line on standard error and `SystemExit` with its code.

    Parameters
    ----------
    go_on : str
        How a command that keeps what is done goes on; empty for one that starts again.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (KeyboardInterrupt, click.exceptions.Abort):
        _stop(f"interrupted; {go_on or FROM_THE_START}", 130)
    except Terminated:
        _stop(f"terminated; {go_on or FROM_THE_START}", 143)
    except EventKitError as err:
        _stop(str(err), err.exit_code)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does; the shells' code for that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as err:
        _stop("; ".join(filter(None, (_disk_trouble(err), go_on))), 6)
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(text: str, code: int) -> NoReturn:
    click.secho(f"error: {printable(text)}", fg="red", err=True)
    raise SystemExit(code) from None


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _disk_trouble(err: OSError) -> str:
    where = f"{err.filename}: " if err.filename else ""
    if err.errno == errno.ENOSPC:
        return f"{where}the disk is full; free some space"
    if err.errno == errno.EROFS:
        return f"{where}cannot be written ({err.strerror}); choose another --out"
    if err.errno in (errno.EACCES, errno.EPERM):
        return f"{where}{err.strerror}; check who may read or write it"
    return f"{where}{err.strerror or err}"
