"""Filters: drop or move events, count what was dropped, chunk by chunk or at once.

``names()`` lists them, ``make(name, **settings)`` and ``parse(spec)`` return one, ``chain`` joins
several, and each has a function of its own that returns `Filtered`.
"""

from eventkit.filters.base import Filter as Filter
from eventkit.filters.base import Filtered as Filtered
from eventkit.filters.base import FilterState as FilterState
from eventkit.filters.geometry import Crop as Crop
from eventkit.filters.geometry import Downsample as Downsample
from eventkit.filters.geometry import Flip as Flip
from eventkit.filters.geometry import Transpose as Transpose
from eventkit.filters.geometry import crop as crop
from eventkit.filters.geometry import downsample as downsample
from eventkit.filters.geometry import flip as flip
from eventkit.filters.geometry import transpose as transpose
from eventkit.filters.hot import HotPixelMask as HotPixelMask
from eventkit.filters.hot import HotPixels as HotPixels
from eventkit.filters.hot import hot_pixels as hot_pixels
from eventkit.filters.noise import Background as Background
from eventkit.filters.noise import Refractory as Refractory
from eventkit.filters.noise import background_activity as background_activity
from eventkit.filters.noise import refractory as refractory
from eventkit.filters.registry import Chain as Chain
from eventkit.filters.registry import chain as chain
from eventkit.filters.registry import make as make
from eventkit.filters.registry import names as names
from eventkit.filters.registry import parse as parse
from eventkit.filters.registry import spec_of as spec_of
from eventkit.filters.stream import Polarity as Polarity
from eventkit.filters.stream import RateLimit as RateLimit
from eventkit.filters.stream import limit_rate as limit_rate
from eventkit.filters.stream import polarity as polarity
