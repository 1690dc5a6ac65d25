"""Event streams as dense arrays, every convention by name.

``names()`` lists them, ``make(name, **settings)`` returns one, and the common ones have functions
of their own. See docs/representations.md.
"""

from eventkit.representations.base import Accumulator as Accumulator
from eventkit.representations.base import Representation as Representation
from eventkit.representations.binary import sst_tensor as sst_tensor
from eventkit.representations.counts import COUNT_DTYPES as COUNT_DTYPES
from eventkit.representations.counts import count_frames as count_frames
from eventkit.representations.pictures import event_image as event_image
from eventkit.representations.registry import make as make
from eventkit.representations.registry import names as names
from eventkit.representations.registry import parse as parse
from eventkit.representations.registry import spec_of as spec_of
from eventkit.representations.surfaces import time_surface as time_surface
from eventkit.representations.voxels import voxel_grid as voxel_grid
