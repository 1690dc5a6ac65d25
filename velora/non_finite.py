"""Results that are no numbers."""

from __future__ import annotations

from collections.abc import Sequence

from eventkit.errors import EventKitError


class NonFiniteError(EventKitError):
    """A loss, gradient or logit that is no number; nothing was updated or written with it."""


def listed(keys: Sequence[str], *, most: int = 32) -> str:
    """Name the first samples, and say how many more there are."""
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
