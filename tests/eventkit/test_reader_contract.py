"""The contract of readers, which is shipped for third parties, applied to every built-in format."""

from __future__ import annotations

from format_files import FORMATS

# One class a format: `TestEvt2`, `TestHdf5Dsec` ...
for _kind in FORMATS.values():
    globals()[f"Test{_kind.__name__}"] = _kind
