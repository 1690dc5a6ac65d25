"""What other projects' tests can use, and our own do.

- `eventkit.testing.readers`: `ReaderTests`, the contract that every reader has to pass.
- `eventkit.testing.files`: recordings whose events are known.
- `eventkit.testing.damage`: cut, flipped, moved and forged bytes.
- `eventkit.testing.reading`: what must hold for whatever is read.
- `eventkit.testing.strategies`: Hypothesis strategies; needs ``pip install hypothesis``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventkit.testing.readers import ReaderTests

__all__ = ["ReaderTests"]


def __getattr__(name: str) -> Any:
    if name != "ReaderTests":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from eventkit.testing.readers import ReaderTests

    return ReaderTests
