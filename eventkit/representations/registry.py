"""Every representation by name, ours and those of other packages.

A name is ``family:convention``; a spec adds settings, as in ``voxel:zhu,bins=5``. Other packages
register a `Representation` class under the entry point group ``eventkit.representations``.
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from eventkit.errors import SettingsError
from eventkit.representations.base import Representation

_BUILT_IN = {
    "counts:eventkit": "counts:Counts",
    "counts:tonic": "counts:TonicCounts",
    "counts:spikingjelly": "counts:SpikingJellyCounts",
    "voxel:zhu": "voxels:ZhuVoxels",
    "voxel:zhu-spatial": "voxels:SpatialVoxels",
    "voxel:tonic": "voxels:TonicVoxels",
    "voxel:cube": "voxels:CubeVoxels",
    "stack:rvt": "stacks:RvtHistogram",
    "stack:mdes": "stacks:MixedDensity",
    "surface:sae": "surfaces:ActiveEvents",
    "surface:hots": "surfaces:HotsSurface",
    "surface:hats": "hats:AveragedSurface",
    "surface:tore": "tore:ToreVolume",
    "surface:speed-invariant": "surfaces:SpeedInvariant",
    "image:event-ahu": "pictures:EventImage",
    "image:tencode": "pictures:Tencode",
    "binary:sstformer": "binary:SstTensor",
    "binary:binarep": "binary:BinaRep",
}
GROUP = "eventkit.representations"


def names() -> tuple[str, ...]:
    """Return the names of all representations, ours first.

    Examples
    --------
    >>> "voxel:zhu" in names()
    True
    """
    others = sorted(point.name for point in entry_points(group=GROUP))
    return (*_BUILT_IN, *(name for name in others if name not in _BUILT_IN))


def representation_class(name: str) -> type[Representation]:
    """Return the class behind a name.

    Raises
    ------
    SettingsError
        If there is no such name; lists those there are.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found = getattr(import_module(f"eventkit.representations.{module}"), attribute)
    else:
        points = tuple(entry_points(group=GROUP, name=name))
        if not points:
            family = [known for known in names() if known.split(":")[0] == name.split(":")[0]]
            msg = f"expected a representation among {', '.join(family or names())}, got {name!r}"
            raise SettingsError(msg)
        found = points[0].load()
    if not (isinstance(found, type) and issubclass(found, Representation)):
        msg = f"expected a Representation class behind {name!r}, got {found!r}"
        raise SettingsError(msg)
    return found


def make(name: str, **settings: Any) -> Representation:
    """Return a representation by name.

    Examples
    --------
    >>> make("voxel:zhu", bins=3).frame_shape((4, 2))
    (3, 2, 4)
    """
    kind = representation_class(name)
    known = {field.name for field in fields(kind)}
    for setting in settings:
        if setting not in known:
            listed = ", ".join(sorted(known)) or "none"
            msg = f"{name} has no setting {setting!r}; its settings are {listed}"
            raise SettingsError(msg)
    return kind(**settings)


def parse(spec: str, **defaults: Any) -> Representation:
    """Read ``name,setting=value,...``; ``defaults`` apply where the class has such a setting.

    Examples
    --------
    >>> parse("voxel:zhu,bins=3,normalize=nonzero").settings
    {'bins': 3, 'normalize': 'nonzero'}
    """
    name, *parts = [part.strip() for part in spec.split(",")]
    known = {field.name: field.default for field in fields(representation_class(name))}
    settings = {key: value for key, value in defaults.items() if key in known}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals or key not in known:
            listed = ", ".join(sorted(known)) or "none"
            msg = f"expected setting=value with a setting of {name} ({listed}), got {part!r}"
            raise SettingsError(msg)
        settings[key] = _value(name, key, text, known[key])
    return make(name, **settings)


def spec_of(representation: Representation) -> str:
    """Return the spec that `parse` turns into this representation.

    Examples
    --------
    >>> spec_of(parse("voxel:zhu,bins=3"))
    'voxel:zhu,bins=3,normalize=none'
    """
    settings = [f"{key}={value}" for key, value in representation.settings.items()]
    return ",".join([representation.name, *settings])


def _value(name: str, key: str, text: str, default: Any) -> Any:
    """Read a setting as the type of its default."""
    if not isinstance(default, int | float):
        return text
    kind = type(default)
    try:
        return kind(text)
    except ValueError as err:
        msg = f"expected {key} of {name} as {kind.__name__}, got {text!r}"
        raise SettingsError(msg) from err
