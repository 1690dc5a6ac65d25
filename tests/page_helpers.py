"""A page that was written, taken apart."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image


class Page(HTMLParser):
    """Elements, tables and text of a page; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("img", "meta"):
            return
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data

    def table(self, head: str) -> dict[str, list[str]]:
        """Return the rows of the first table whose first column has this head."""
        rows = next(table for table in self.tables if table[0][0] == head)
        return {row[0]: row[1:] for row in rows[1:]}

    def images(self) -> list[tuple[str, Image.Image]]:
        """Return alternative text and picture of every image."""
        found = []
        for tag, attrs in self.elements:
            if tag == "img":
                kind, data = (attrs["src"] or "").split(",", 1)
                assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
                picture = Image.open(io.BytesIO(base64.b64decode(data)))
                picture.load()
                found.append((attrs["alt"] or "", picture))
        return found
