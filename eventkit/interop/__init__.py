"""To and from the objects of other libraries, none of which is imported here.

``to_X`` makes what library X works with, ``from_X`` takes it; each says whether it copies. What
comes in is checked as `eventkit.Events` checks everything: unsigned times, bools with any byte in
them, polarities of -1.

| library | form | copy |
|---|---|---|
| tonic, Metavision, aedat, faery, expelliarmus, dv | structured array | yes |
| dv | EventStore | yes, event by event |
| SpikingJelly, NumPy, DLPack (torch, JAX, CuPy) | columns by name | no |
| (N, 4) arrays | one array in a named order | yes |
| Arrow, Polars | table | no |
| evlib | Polars table, polarity -1 and 1 | polarity only |
| torch.utils.data | `EventSequence` | no |
"""

from eventkit.interop.arrays import from_aedat as from_aedat
from eventkit.interop.arrays import from_array as from_array
from eventkit.interop.arrays import from_columns as from_columns
from eventkit.interop.arrays import from_dv as from_dv
from eventkit.interop.arrays import from_expelliarmus as from_expelliarmus
from eventkit.interop.arrays import from_faery as from_faery
from eventkit.interop.arrays import from_metavision as from_metavision
from eventkit.interop.arrays import from_spikingjelly as from_spikingjelly
from eventkit.interop.arrays import from_tonic as from_tonic
from eventkit.interop.arrays import to_aedat as to_aedat
from eventkit.interop.arrays import to_array as to_array
from eventkit.interop.arrays import to_columns as to_columns
from eventkit.interop.arrays import to_dv as to_dv
from eventkit.interop.arrays import to_dv_array as to_dv_array
from eventkit.interop.arrays import to_expelliarmus as to_expelliarmus
from eventkit.interop.arrays import to_faery as to_faery
from eventkit.interop.arrays import to_metavision as to_metavision
from eventkit.interop.arrays import to_spikingjelly as to_spikingjelly
from eventkit.interop.arrays import to_tonic as to_tonic
from eventkit.interop.dataset import EventSequence as EventSequence
from eventkit.interop.tables import from_arrow as from_arrow
from eventkit.interop.tables import from_evlib as from_evlib
from eventkit.interop.tables import from_polars as from_polars
from eventkit.interop.tables import to_arrow as to_arrow
from eventkit.interop.tables import to_evlib as to_evlib
from eventkit.interop.tables import to_polars as to_polars

__all__ = [
    "EventSequence",
    "from_aedat",
    "from_array",
    "from_arrow",
    "from_columns",
    "from_dv",
    "from_evlib",
    "from_expelliarmus",
    "from_faery",
    "from_metavision",
    "from_polars",
    "from_spikingjelly",
    "from_tonic",
    "to_aedat",
    "to_array",
    "to_arrow",
    "to_columns",
    "to_dv",
    "to_dv_array",
    "to_evlib",
    "to_expelliarmus",
    "to_faery",
    "to_metavision",
    "to_polars",
    "to_spikingjelly",
    "to_tonic",
]
