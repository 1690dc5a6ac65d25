"""Option types that several commands share."""

from __future__ import annotations

import re
from typing import Any

import click


class SizeType(click.ParamType["tuple[int, int]"]):
    """``WxH`` in pixels."""

    name = "WxH"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the name as it is; click would write it in capitals."""
        return self.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (W, H)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX,](\d+)", str(value))
        size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not all(0 < side <= 65536 for side in size):
            self.fail(f"expected a size like 346x260, got {value!r}", param, ctx)
        return size


SIZE = SizeType()
