"""Verify: hash, count, decode and balance what was written, and hold it against the raw files."""

from pipelines.verify.deep_shards import verify_against_store
from pipelines.verify.deep_store import verify_against_raw
from pipelines.verify.shards import verify_shards
from pipelines.verify.store import verify_store
from pipelines.verify.tars import TarJob, check_tar
from pipelines.verify.verdict import Verdict

__all__ = [
    "TarJob",
    "Verdict",
    "check_tar",
    "verify_against_raw",
    "verify_against_store",
    "verify_shards",
    "verify_store",
]
