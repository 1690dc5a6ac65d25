"""Recordings out of the toolkit again, in formats that others read.

`export` does it in one call; `eventkit.writers.plan` has the steps for those who want to look at
what would be lost before anything is written.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from eventkit.errors import SettingsError
from eventkit.recording import Recording
from eventkit.writers.base import Contents as Contents
from eventkit.writers.base import Writer as Writer
from eventkit.writers.plan import Exported as Exported
from eventkit.writers.plan import FrameRule, carry_out, make_plan

_BUILT_IN = {
    "evt2": "eventkit.writers.evt:Evt2Writer",
    "evt21": "eventkit.writers.evt:Evt21Writer",
    "evt3": "eventkit.writers.evt:Evt3Writer",
    "dat": "eventkit.writers.dat:DatWriter",
    "atis-bin": "eventkit.writers.atis:AtisWriter",
    "es": "eventkit.writers.es:EsWriter",
    "aedat4": "eventkit.writers.aedat4:Aedat4Writer",
    "hdf5-dsec": "eventkit.writers.hdf5:DsecWriter",
    "hdf5-xs": "eventkit.writers.hdf5:XsWriter",
    "hdf5-ecf": "eventkit.writers.hdf5:EcfWriter",
    "npz": "eventkit.writers.npz:NpzWriter",
    "csv": "eventkit.writers.text:CsvWriter",
    "parquet": "eventkit.writers.parquet:ParquetWriter",
    "mcap": "eventkit.writers.ros:McapWriter",
    "ros2-db3": "eventkit.writers.ros:Ros2Writer",
    "images": "eventkit.writers.images:ImagesWriter",
}

# What several formats share goes to the one that most tools read; `.raw` is left open, since a
# wrong guess there would only show in somebody else's program.
_USUAL = {".h5": "hdf5-dsec", ".hdf5": "hdf5-dsec", ".bin": "atis-bin"}

_REFUSED = {
    ".bag": "ROS 1 bags are read, not written; use .mcap, or --format ros2-db3",
    ".db3": "rosbag2 is a folder with a .db3 in it; name a folder and --format ros2-db3",
    ".aedat": "AEDAT 1, 2 and 3.1 are read, not written; use .aedat4",
    ".mat": "MATLAB files are read, not written; use .npz or .h5",
    ".npy": "npy files are read, not written; use .npz",
}


def writers() -> dict[str, Writer]:
    """Return all writers by name.

    Examples
    --------
    >>> writers()["images"].name
    'images'
    """
    return dict(_built_in())


@cache
def _built_in() -> dict[str, Writer]:
    found = {}
    for name, target in _BUILT_IN.items():
        module, _, attribute = target.partition(":")
        found[name] = getattr(import_module(module), attribute)()
    return found


def find_writer(path: str | Path, *, format: str | None = None) -> Writer:
    """Return the writer for a path, by ``format`` or else by suffix.

    Raises
    ------
    SettingsError
        If no format, or more than one, goes by that suffix; lists those there are.

    Examples
    --------
    >>> find_writer("a.mat")
    Traceback (most recent call last):
        ...
    eventkit.errors.SettingsError: a.mat: MATLAB files are read, not written; use .npz or .h5
    """
    known = writers()
    if format is not None:
        if format not in known:
            msg = f"expected --format among {', '.join(known)}, got {format!r}"
            raise SettingsError(msg)
        return known[format]
    name = Path(path).name.lower()
    ends = [(s, w) for w in known.values() for s in w.suffixes if name.endswith(s)]
    longest = max((suffix for suffix, _ in ends), key=len, default="")
    found = {writer.name: writer for suffix, writer in ends if suffix == longest}
    usual = _USUAL.get(longest)
    if usual in found:
        return found[usual]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        msg = f"{path}: {longest} is {', '.join(found)}; give --format with one of them"
        raise SettingsError(msg)
    suffix = Path(name).suffix
    if suffix in _REFUSED:
        msg = f"{path}: {_REFUSED[suffix]}"
        raise SettingsError(msg)
    suffixes = sorted({s for writer in known.values() for s in writer.suffixes})
    msg = (
        f"{path}: expected a name that ends in {', '.join(suffixes)}, got {suffix or 'no suffix'}; "
        f"or --format among {', '.join(known)}"
    )
    raise SettingsError(msg)


def export(
    recording: Recording | str | Path,
    path: str | Path,
    *,
    format: str | None = None,
    frames: FrameRule = "auto",
    overwrite: bool = False,
) -> Exported:
    """Write a recording in another format, in bounded memory.

    Parameters
    ----------
    recording : Recording, str or Path
        A path is opened with `eventkit.open`.
    path : str or Path
        The suffix says the format: `find_writer`.
    format : str, optional
        Name of the writer, as ``evt3``.
    frames : {"auto", "png", "none"}
        ``auto``: in the file, if the format holds frames, else a folder ``<stem>_rgb`` of pictures
        beside it with ``timestamps.txt``. ``png``: the folder in any case. ``none``: left out.
    overwrite : bool
        Replace what is there; otherwise that is refused, but for a folder of the same pictures.

    Returns
    -------
    Exported
        Where everything went, what the format could not hold (``losses``), and the ledger.

    Raises
    ------
    SettingsError
        If the events do not fit the format, or something is there already.
    FormatError
        At a fault of the recording, as it was opened.

    Examples
    --------
    >>> import eventkit
    >>> eventkit.export("recording.aedat4", "recording.h5").losses  # doctest: +SKIP
    []
    """
    if not isinstance(recording, Recording):
        from eventkit.readers import open as open_recording

        recording = open_recording(recording)
    writer = find_writer(path, format=format)
    plan = make_plan(recording, writer, Path(path), frames=frames, overwrite=overwrite)
    return carry_out(plan)
