"""Trunks that come with the package: ``<name>.safetensors`` and, beside it, ``<name>.json``.

`velora.pretrain` makes them; no hub is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from eventkit.errors import DamageError


class Embedded(Struct, frozen=True, kw_only=True):
    """What is to be known of a trunk of this package to build it.

    ``model`` and ``kwargs`` make it with timm; ``sha256`` is that of the file.
    """

    name: str
    model: str
    kwargs: dict[str, int]
    sha256: str

    @property
    def path(self) -> Path:
        """The weights: fp16, the names of timm's state dict, without a classifier."""
        return _folder() / f"{self.name}.safetensors"

    def check(self) -> None:
        """Raise `DamageError` unless the file is the one that was published."""
        if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.sha256:
            msg = f"{self.path} is not the file it was published as; install the package again"
            raise DamageError(msg)


def names() -> tuple[str, ...]:
    """Return the names of all trunks of this package."""
    return tuple(sorted(path.stem for path in _folder().glob("*.json")))


def find(name: str) -> Embedded | None:
    """Return the trunk of this name, or None: then it is for timm to know it."""
    page = _folder() / f"{name}.json"
    if name not in names():
        return None
    return msgspec.json.decode(page.read_bytes(), type=Embedded)


def timm_model(backbone: str, kwargs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments by which ``timm.create_model`` makes a trunk.

    Those of a trunk of this package, with ``kwargs`` over its own; any other name stays.
    """
    embedded = find(backbone)
    if embedded is None:
        return backbone, dict(kwargs)
    return embedded.model, {**embedded.kwargs, **kwargs}


def _folder() -> Path:
    return Path(str(files(__name__)))
