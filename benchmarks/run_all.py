"""Every table that the docs quote, in one run."""

from __future__ import annotations

import platform

import common  # noqa: F401  first: one thread a library
import counts
import memory
import startup


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    counts.main()
    startup.main()
    memory.main()


if __name__ == "__main__":
    main()
