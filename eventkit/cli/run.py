"""From a command to an exit code: one red line for a user's mistake, a traceback for ours.

0 fine; 1 internal; 2 usage or input; 3 done, something quarantined; 4 damage found; 5 locked;
6 disk or I/O; 130 / 143 interrupted.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from eventkit.errors import EventKitError

GO_ON = "run the same command again to go on"


class Terminated(SystemExit):
    """SIGTERM: unwinds like Ctrl-C, so that pools and locks are let go."""


def run(command: click.Command, *, name: str, go_on: str = GO_ON) -> NoReturn:
    """Run a click command and leave the process with the right exit code.

    Parameters
    ----------
    command : click.Command
    name : str
        Program name, for usage lines.
    go_on : str
        What to say after an interruption.
    """
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_code(command, name, go_on))


def fail(text: str) -> None:
    """Print one red line to standard error."""
    click.secho(f"error: {text}", fg="red", err=True)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _code(command: click.Command, name: str, go_on: str) -> int:
    try:
        result: Any = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        fail(f"interrupted; {go_on}")
        return 130
    except KeyboardInterrupt:
        fail(f"interrupted; {go_on}")
        return 130
    except Terminated as stop:
        fail(f"terminated; {go_on}")
        return int(stop.code or 143)
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except EventKitError as err:
        fail(str(err))
        return err.exit_code
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does: nothing to report, nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as err:
        fail(f"{_disk_trouble(err)}; {go_on}")
        return 6


def _disk_trouble(err: OSError) -> str:
    where = f"{err.filename}: " if err.filename else ""
    if err.errno == errno.ENOSPC:
        return f"{where}the disk is full; free some space"
    if err.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{where}cannot be written ({err.strerror}); choose another --out"
    return f"{where}{err.strerror or err}"
