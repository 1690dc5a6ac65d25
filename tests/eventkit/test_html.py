"""The skeleton of reports: whatever a text holds, it stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from eventkit.html import Markup, element, escaped, joined, page, picture, table

HOSTILE = (
    "<script>alert(1)</script>",
    "\" onload='x' `",
    "a\nb\x1b[2J\u202e\u2028",
    "\udcff",
    "&lt;&#60;",
    "</style></title></td>",
    "]]><!--",
)


class Seen(HTMLParser):
    """What a browser would see: text, elements with attributes, and open ones at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_and_can_be_encoded(text: str) -> None:
    parts = [
        element("p", text, title=text),
        table([text], [[text]]),
        picture(b"", kind="png", alt=text),
    ]

    seen = Seen(page(text, *parts))

    assert not seen.open
    names = [name for name, _ in seen.elements]
    assert "script" not in names
    assert names.count("style") == names.count("title") == 1
    allowed = {"title", "class", "src", "alt", "scope", "lang", "charset", "http-equiv", "name"}
    for _, attributes in seen.elements:
        assert attributes.keys() <= allowed | {"content"}
    page(text, *parts).encode()  # no surrogate is left
    shown = "".join(seen.text)
    printable = "".join(c if c.isprintable() else "" for c in text)
    assert printable in shown or "\\" in shown


def test_markup_is_put_as_it_is_and_text_is_not() -> None:
    assert joined([Markup("<b></b>"), "<b>", None]) == "<b></b>&lt;b&gt;"
    assert escaped("a\u202e") == "a\\u202e"


def test_a_table_that_stacks_names_its_cells() -> None:
    seen = Seen(table(["a", "b"], [["1", "2"]], numbers=(1,), class_="stack"))

    cells = [attributes for name, attributes in seen.elements if name == "td"]
    assert [cell["data-label"] for cell in cells] == ["a", "b"]
    assert [cell.get("class") for cell in cells] == [None, "number"]


def test_a_page_loads_nothing() -> None:
    text = page("title", element("p", "x"))

    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
