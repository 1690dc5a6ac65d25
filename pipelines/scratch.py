"""Room on this machine for what is on its way to or from a URL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventkit.atomic import remove_left, scratch
from eventkit.errors import SettingsError
from eventkit.location import Location


def scratch_home() -> Path:
    """Return a folder of this user among the temporary files; ``TMPDIR`` says where those are.

    Raises
    ------
    SettingsError
        If somebody else made it.
    """
    home = Path(tempfile.gettempdir(), f"eventkit-{os.getuid()}")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        msg = f"{home}: expected a folder of this user, got that of another; set TMPDIR"
        raise SettingsError(msg)
    return home


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that is removed after the block; what killed runs have left goes as well."""
    home = scratch_home()
    remove_left(home)
    with scratch(home / "part") as folder:
        yield folder


@contextmanager
def on_disk(path: Location) -> Iterator[Path]:
    """Give one file on this machine: itself, or a copy that is removed after the block."""
    if isinstance(path, Path):
        yield path
        return
    with scratch_folder() as folder:
        copy = folder / path.name
        path.fetch(copy)
        yield copy
