"""Verify: hash, count, decode and balance what was written, and hold it against the raw files."""

from pipelines.verify.deep_shards import verify_against_store
from pipelines.verify.deep_store import verify_against_raw
from pipelines.verify.shards import verify_shards
from pipelines.verify.store import is_store, verify_store
from pipelines.verify.tars import TarJob, check_tar
from pipelines.verify.verdict import Verdict, require_undamaged

__all__ = [
    "TarJob",
    "Verdict",
    "check_tar",
    "is_store",
    "require_undamaged",
    "verify_against_raw",
    "verify_against_store",
    "verify_shards",
    "verify_store",
]
