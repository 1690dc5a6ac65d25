"""What bags that are read by the index of `rosbags` share: its topics, and the end of it.

The classes have the interface of the readers of `rosbags`, so that they stand in for them, in its
reader of folders too.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from eventkit.readers.ros.chunks import Lost


class IndexFile:
    """A bag of one file.

    Parameters
    ----------
    index
        The reader of `rosbags`, not opened.
    path : Path
    lost : callable, optional
        Told of what is damaged; without it that is an error.
    """

    def __init__(self, index: Any, path: Path, lost: Lost | None) -> None:
        self._index, self._path, self._lost = index, path, lost

    @property
    def connections(self) -> Any:
        """As `rosbags` has them."""
        return self._index.connections

    @property
    def metadata(self) -> Any:
        """As `rosbags` has them."""
        return self._index.metadata

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # it closes itself at a fault
            self._index.close()
