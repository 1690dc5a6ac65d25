"""Side files that belong to nothing: sizes and times of recordings that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.check.findings import Finding
from pipelines.datasets.files import is_bag, stem_of, walk

_SIZE = ".size.txt"
_TIMES = ("_timestamps.txt", "_timestamps.csv")


def find_strays(root: Path, sources: Sequence[Path]) -> Iterator[Finding]:
    """Yield side files whose recording or folder of pictures is not beside them."""
    for source in sources:
        if not source.is_dir():
            continue
        for folder, files in walk(source.resolve(), refuse=lambda _: None):
            if is_bag(files):
                continue
            stems = {stem_of(name) for name in files}
            for name in files:
                owner = _owner(name)
                if owner is None or owner in files or owner in stems or (folder / owner).is_dir():
                    continue
                path = (folder / name).relative_to(root).as_posix()
                message = (
                    f"expected {owner} beside it, got no such file or folder; get the recording, "
                    "or move this away"
                )
                yield Finding("side_file", path, message)


def _owner(name: str) -> str | None:
    """Return the name of what a side file is about."""
    for ending in (_SIZE, *_TIMES):
        if name.endswith(ending) and name != ending:
            return name.removesuffix(ending)
    return None
