"""What the commands of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventkit._optional import check_installed
from eventkit.cli.run import exit_codes

if TYPE_CHECKING:
    from velora.files.kept_files import Kept

# Threads that spin while they wait for each other cost a factor of ten where the cores are shared.
# Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
FILE = click.Path(path_type=Path)
WEIGHTS = click.option("--weights", type=FILE, help="Where the trunk's weights file lies now.")


@contextmanager
def running(program: str, *, go_on: str = "") -> Iterator[None]:
    """Run a command: errors of the user end it with one line and the exit code of their kind."""
    with exit_codes(go_on=go_on):
        libraries = ("msgspec", "PIL", "safetensors", "torch", "timm")
        check_installed(libraries, extra="velora", purpose=program)
        yield


def told(kept: Kept) -> list[str]:
    """Say where files lie."""
    how = "is there already, the same" if kept.unchanged else "written"
    size = f"{kept.num_bytes / 1e6:.1f} MB"
    return [f"{path}: {how}, {size}" for path in kept.paths]
