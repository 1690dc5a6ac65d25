"""Whether a worker fits: the same code, the same versions, and the folders of the run in sight.

A worker with another version would write other bytes, and one that sees another disk would write
where nobody looks. Both are looked for before the first task, and again, once, in every process
that joins later: a job scheduler brings and takes machines while a run goes on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from eventkit.atomic import TEMPORARY
from eventkit.errors import EventKitError
from eventkit.location import Location, location
from pipelines.executors.site import Site
from pipelines.put import put
from pipelines.versions import installation

_LOOK_BYTES = 1 << 16
_PROBE = f".eventkit/{TEMPORARY}probe"
"""A name that the next run clears away, if this one is killed."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class ClusterError(EventKitError):
    """A cluster that is not there, went away, or does not fit; what is done is kept."""

    exit_code = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a worker must find; small, hashable, and sent with every task.

    Parameters
    ----------
    versions : tuple of (name, version)
    folder : str
        Where tasks write; empty if they do not.
    token : str
        What the probe file in it holds.
    inputs : tuple of (path, bytes, sha256 of the first 64 kB)
    """

    versions: tuple[tuple[str, str], ...]
    folder: str = ""
    token: str = ""
    inputs: tuple[tuple[str, int, str], ...] = ()


@contextmanager
def probed(site: Site) -> Iterator[Fit]:
    """Write the probe of a site, for the length of the block, and say what workers must find."""
    inputs = tuple((str(path), *_look(path)) for path in site.inputs if path.is_file())
    versions = tuple(installation().items())
    if site.folder is None:
        yield Fit(versions=versions, inputs=inputs)
        return
    probe, token = site.folder / _PROBE, secrets.token_hex(16)
    put(probe, token.encode())
    try:
        yield Fit(versions=versions, folder=str(site.folder), token=token, inputs=inputs)
    finally:
        probe.unlink(missing_ok=True)


def misfit(fit: Fit) -> str | None:
    """Return why this process does not fit, as a sentence with the cure, or None."""
    return _other_versions(fit) or _other_folder(fit) or _other_inputs(fit)


def run_if_fit(fit: Fit, task: Callable[[Item], Result], item: Item) -> Result:
    """Run a task in a process that fits.

    Raises
    ------
    ClusterError
    """
    _require(fit)
    return task(item)


@lru_cache(maxsize=4)
def _require(fit: Fit) -> None:
    why = misfit(fit)
    if why is not None:
        msg = f"worker on {socket.gethostname()}: {why}; then run the same command again"
        raise ClusterError(msg)


def _other_versions(fit: Fit) -> str | None:
    here, there = installation(), dict(fit.versions)
    differing = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    if not differing:
        return None
    texts = [
        f"{name} {there.get(name, 'absent')}, got {here.get(name, 'absent')}" for name in differing
    ]
    return f"expected {'; '.join(texts)}; install the same there as where the command runs"


def _other_folder(fit: Fit) -> str | None:
    if not fit.folder:
        return None
    folder = location(fit.folder)
    try:
        found = (folder / _PROBE).read_bytes().decode()
    except OSError as err:
        return (
            f"expected to see the folder {folder} of the command, got {_words(err)}; --out must "
            "lie on a disk that all machines mount under the same path"
        )
    if found != fit.token:
        return (
            f"expected the folder {folder} of the command, got another one of that name; --out "
            "must lie on a disk that all machines share"
        )
    trial = folder / f"{_PROBE}-{socket.gethostname()}-{os.getpid()}"
    try:
        trial.write_bytes(b"")
    except OSError as err:
        return f"expected to write into {folder}, got {_words(err)}; check who may write there"
    finally:
        with suppress(OSError):
            trial.unlink()
    return None


def _other_inputs(fit: Fit) -> str | None:
    for name, size, digest in fit.inputs:
        try:
            found = _look(location(name))
        except OSError as err:
            return (
                f"expected to see {name}, got {_words(err)}; inputs must lie on a disk that all "
                "machines mount under the same path"
            )
        if found != (size, digest):
            return (
                f"expected {name} with {size:,} bytes as where the command runs, got another file "
                f"of {found[0]:,} bytes; inputs must lie on a disk that all machines share"
            )
    return None


def _look(path: Location) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.sha256(file.read(_LOOK_BYTES)).hexdigest()


def _words(err: OSError) -> str:
    return f"{err.filename}: {err.strerror}" if err.filename else str(err)
