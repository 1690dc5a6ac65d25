"""One interface over four ways to run tasks: a window of submitted work, results as they come.

A task is a module-level function of one small argument; it returns a small result. At most
``2 x workers`` tasks are in flight: a scheduler never sees the whole graph, and little finished
work is lost with a worker. A task that takes its process down costs no other task its result.
"""

from pipelines.executors.alone import Death
from pipelines.executors.opening import EXECUTORS, checked_name, count_workers, open_pool
from pipelines.executors.pool import Pool, RunSettings, WorkerDiedError
from pipelines.executors.site import Site

__all__ = [
    "EXECUTORS",
    "Death",
    "Pool",
    "RunSettings",
    "Site",
    "WorkerDiedError",
    "checked_name",
    "count_workers",
    "open_pool",
]
