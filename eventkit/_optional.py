"""Optional libraries: import on first use, or say which extra brings them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType

from eventkit.errors import MissingDependencyError

DISTRIBUTION = "velora-eventkit"


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Parameters
    ----------
    module : str
        Import name.
    extra : str
        The extra of this distribution that installs it.
    purpose : str
        What it is needed for, as in "reading AEDAT4 files".

    Raises
    ------
    MissingDependencyError
        With the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        if err.name is None or err.name.split(".")[0] != module.split(".")[0]:
            raise
        raise _missing(module, extra, purpose) from err


def check_installed(modules: Iterable[str], *, extra: str, purpose: str) -> None:
    """Name the first of ``modules`` that is not installed, without importing any.

    Raises
    ------
    MissingDependencyError
        Before the work starts rather than in the middle of it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra, purpose)


def _missing(module: str, extra: str, purpose: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{purpose} needs {module!r}: pip install '{DISTRIBUTION}[{extra}]'"
    )
