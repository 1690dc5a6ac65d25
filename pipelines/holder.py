"""Who holds the lock of a folder."""

from __future__ import annotations

import os
import platform
import secrets
import time
from dataclasses import dataclass

from eventkit.atomic import machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock, as it stands in the file; ``since`` is in UTC."""

    host: str
    machine: str
    pid: int
    since: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} UTC"

    @classmethod
    def here(cls) -> Holder:
        """Return this process as a holder."""
        return cls(
            host=platform.node(),
            machine=machine(),
            pid=os.getpid(),
            since=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
            token=secrets.token_hex(8),
        )
