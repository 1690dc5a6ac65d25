"""Every event input by name, and which one goes with which representation.

A spec is a name and settings, as in ``counts,cap=8``. Other packages register an `EventInput` class
under the entry point group ``velora.inputs``.
"""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

from eventkit.errors import SettingsError
from velora.inputs.base import EventInput
from velora.inputs.content import Content, Kind, content_of
from velora.inputs.painters import Counts, Picture, RedBlue, Surface, Voxel

GROUP = "velora.inputs"
AUTO = "auto"
_BUILT_IN: dict[str, type[EventInput]] = {
    kind.name: kind for kind in (RedBlue, Counts, Voxel, Surface, Picture)
}
# In the order in which "auto" asks; which is better for a kind is measured in
# docs/event-inputs.md.
_FIRST = ("voxel", "redblue", "counts", "surface", "picture")
_HOW_TO_CONVERT: dict[Kind, str] = {
    "counts": "counts:eventkit",
    "signed": "voxel:zhu",
    "recency": "surface:sae",
    "picture": "image:event-ahu",
}


def names() -> tuple[str, ...]:
    """Return the names of all inputs, ours first.

    Examples
    --------
    >>> names()[:5]
    ('redblue', 'counts', 'voxel', 'surface', 'picture')
    """
    others = sorted(point.name for point in entry_points(group=GROUP))
    return (*_BUILT_IN, *(name for name in others if name not in _BUILT_IN))


def input_class(name: str) -> type[EventInput]:
    """Return the class behind a name.

    Raises
    ------
    SettingsError
        If there is no such name; lists those there are.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        msg = f"expected an event input among auto, {', '.join(names())}, got {name!r}"
        raise SettingsError(msg)
    found = points[0].load()
    if not (isinstance(found, type) and issubclass(found, EventInput)):
        msg = f"expected an EventInput class behind {name!r}, got {found!r}"
        raise SettingsError(msg)
    return found


def resolve(spec: str, representation: str) -> EventInput:
    """Return the input that paints what shards hold.

    Parameters
    ----------
    spec : str
        ``name,setting=value,...`` or ``auto``, which goes by the representation.
    representation : str
        The spec that the manifest carries.

    Raises
    ------
    SettingsError
        If there is no such input, it has no such setting, or it cannot paint this
        representation; names those that can, and how to convert for this one.

    Examples
    --------
    >>> resolve("auto", "counts:eventkit,dtype=u1").name
    'redblue'
    >>> resolve("counts,cap=8", "counts:eventkit,dtype=u1").cap
    8.0
    """
    content = content_of(representation)
    if spec == AUTO:
        fitting = [name for name in _FIRST if _BUILT_IN[name].accepts(content)]
        if not fitting:
            raise SettingsError(_nothing_paints(content))
        return _BUILT_IN[fitting[0]](content=content)
    name, *settings = [part.strip() for part in spec.split(",")]
    kind = input_class(name)
    if not kind.accepts(content):
        raise SettingsError(_wrong_pair(kind, content))
    return kind(content=content, **_settings(kind, settings))


def _settings(kind: type[EventInput], parts: list[str]) -> dict[str, Any]:
    """Read ``setting=value`` as the types of the defaults."""
    known = {field.name: field.default for field in fields(kind) if field.name != "content"}
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals or key not in known:
            listed = ", ".join(sorted(known)) or "none"
            msg = f"expected setting=value with a setting of {kind.name} ({listed}), got {part!r}"
            raise SettingsError(msg)
        try:
            found[key] = type(known[key])(text)
        except ValueError as error:
            wanted = type(known[key]).__name__
            msg = f"expected {key} of {kind.name} as {wanted}, got {text!r}"
            raise SettingsError(msg) from error
    return found


def _painting(content: Content) -> list[str]:
    return [name for name in names() if input_class(name).accepts(content)]


def _nothing_paints(content: Content) -> str:
    return (
        f"no event input paints {content.representation}; "
        "convert with `--repr counts:eventkit`, voxel:zhu, surface:sae or image:event-ahu"
    )


def _wrong_pair(kind: type[EventInput], content: Content) -> str:
    others = _painting(content)
    if not others:
        return _nothing_paints(content)
    makes = [_HOW_TO_CONVERT[made] for made in kind.kinds if made in _HOW_TO_CONVERT]
    convert = f", or convert with `--repr {makes[0]}`" if makes else ""
    return (
        f"event input {kind.name!r} does not paint {content.representation}: "
        f"choose {' or '.join(others)} or auto{convert}"
    )
