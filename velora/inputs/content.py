"""What the numbers of event frames mean, by the representation that made them.

K values of each pixel and polarity, H, W
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from eventkit.clip_settings import stored_form
from eventkit.representations import Representation, parse

#: "counts" of events, "signed" sums of polarities, "recency" of the newest events, finished
#: pictures, or something that only another package's input can know.
Kind = Literal["counts", "signed", "recency", "picture", "other"]

_KINDS: dict[str, Kind] = {
    "counts:eventkit": "counts",
    "counts:tonic": "counts",
    "counts:spikingjelly": "counts",
    "stack:rvt": "counts",
    "binary:sstformer": "counts",
    "voxel:zhu": "signed",
    "voxel:zhu-spatial": "signed",
    "voxel:tonic": "signed",
    "voxel:cube": "signed",
    "stack:mdes": "signed",
    "surface:sae": "recency",
    "surface:hots": "recency",
    "surface:tore": "recency",
    "surface:speed-invariant": "recency",
    "binary:binarep": "recency",
    "image:event-ahu": "picture",
    "image:tencode": "picture",
    # Its small surfaces lie side by side: no pixel is where the camera saw it.
    "surface:hats": "other",
}
# Of surface:speed-invariant: decoded integers are kept in a byte, and (2 r + 1)^2 has to fit.
_WIDEST = 7
_OF_MASS: dict[str, Kind] = {"counts": "counts", "signs": "signed", "none": "other"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What the frames of a representation hold.

    Parameters
    ----------
    representation : str
        The full spec.
    kind : Kind
    channels : int
        Of a frame as it stands in a shard: 1, 2 (OFF, ON), 2 K (OFF new to old, ON new to old) or
        3 (red, green, blue).
    none : float
        The value of a pixel without events.
    most : float, optional
        The value of the strongest trace of an event; None where there is no bound.
    ground : float, optional
        Of pictures: the gray of a pixel without events, 0 to 1; None where it is not known.
    """

    representation: str
    kind: Kind
    channels: int
    none: float = 0.0
    most: float | None = None
    ground: float | None = None


def content_of(representation: str) -> Content:
    """Read the spec of a representation, as manifests of shards carry it.

    Raises
    ------
    SettingsError
        If nothing that is installed has the name or the settings.

    Examples
    --------
    >>> content_of("binary:sstformer,bins=4").most
    1.0
    """
    made = parse(representation)
    shape, _ = stored_form(made, bins=1)
    kind = _KINDS.get(made.name, _OF_MASS[made.mass])
    settings = made.settings
    if made.name == "voxel:cube" and settings["polarity"] == "split":
        kind = "counts"
    if made.name == "surface:speed-invariant" and settings["radius"] > _WIDEST:
        kind = "other"
    return Content(
        representation=representation, kind=kind, channels=shape[1], **_range(made, settings)
    )


def _range(made: Representation, settings: dict[str, Any]) -> dict[str, float]:
    """Return what differs from the defaults of ``none``, ``most`` and ``ground``."""
    match made.name:
        case "surface:tore" if settings["convention"] == "baldwin":
            # Ages in logarithms: 0 is now, and what never happened is as old as can be.
            oldest = math.log1p(settings["max_us"]) - math.log1p(settings["min_us"])
            return {"none": oldest, "most": 0.0}
        case "surface:speed-invariant":
            return {"most": float((2 * settings["radius"] + 1) ** 2)}
        case "surface:sae" | "surface:hots" | "surface:tore" | "binary:binarep":
            return {"most": 1.0}
        case "binary:sstformer":
            return {"most": 1.0}
        case "image:event-ahu":
            return {"most": 255.0, "ground": 1.0}
        case "image:tencode":
            return {"most": 255.0, "ground": 0.0}
    return {}
