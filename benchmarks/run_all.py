"""Every table that the docs quote, in one run."""

from __future__ import annotations

import platform

import common  # first: one thread a library
import counts
import memory
import startup


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    assert common.FILL_S > 0
    counts.main()
    startup.main()
    memory.main()


if __name__ == "__main__":
    main()
