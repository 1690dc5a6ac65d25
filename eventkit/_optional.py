"""Optional libraries: import on first use, or say which extra brings them."""

from __future__ import annotations

import importlib
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
        msg = f"{purpose} needs {module!r}: pip install '{DISTRIBUTION}[{extra}]'"
        raise MissingDependencyError(msg) from err
