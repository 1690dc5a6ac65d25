"""Augmentations of events, frames, pictures and differences of one clip, by one draw.

An `Augmentation` holds settings; ``draw(rng=..., sensor_size=..., span=...)`` makes a `Transform`
of plain numbers, which does the same to every array of the clip. Randomness enters as ``rng``.
"""

from eventkit.augment.base import Augmentation, Compose, Transform, Unchanged
from eventkit.augment.clip import ClipArrays, augment_clip
from eventkit.augment.drops import DropByArea, DropByChance, DropByTime
from eventkit.augment.flips import FlipX, FlipY, TimeReversal
from eventkit.augment.places import SpatialJitter, UniformNoise
from eventkit.augment.times import TimeJitter, TimeSkew

__all__ = [
    "Augmentation",
    "ClipArrays",
    "Compose",
    "DropByArea",
    "DropByChance",
    "DropByTime",
    "FlipX",
    "FlipY",
    "SpatialJitter",
    "TimeJitter",
    "TimeReversal",
    "TimeSkew",
    "Transform",
    "Unchanged",
    "UniformNoise",
    "augment_clip",
]
