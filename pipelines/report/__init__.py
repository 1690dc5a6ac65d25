"""One page on a store or a set of shards: what is in it, what was lost, and how to make it again.

Read are the plan, the receipts or the manifest, and twelve clips for the pictures: seconds,
whatever the size of the set. Equal sets give equal bytes: no time of day, no path is in it.
"""

from pipelines.report.page import write_report

__all__ = ["write_report"]
