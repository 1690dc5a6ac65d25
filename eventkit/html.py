"""The skeleton of reports: one file that needs no network, no script and no other file.

Everything that is not `Markup` is escaped, so a hostile file name is text wherever it lands.
Colours follow the reader's choice of light or dark, printing is in black on white.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Iterable, Sequence

_VOID = ("img", "meta")
# Nothing may be loaded and nothing run, whatever stands in the text.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2126; --faint: #667078;
  --line: #d8dcdf; --panel: #f1f3f4; --warn: #8a4b00; --warn-paper: #fff3dc;
  --c0: #3b76b5; --c1: #e08b2c; --c2: #b8434e; --c3: #4f9e91; --c4: #8a6bb1; --c5: #8f7a4a;
  --c6: #c76b9b; --c7: #8b9299; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191c; --ink: #e4e7e9; --faint: #99a2a9;
  --line: #363c41; --panel: #20252a; --warn: #f3c06d; --warn-paper: #33270f;
  --c0: #6fa8e0; --c1: #efac5f; --c2: #e07781; --c3: #74c4b6; --c4: #b298d6; --c5: #c1aa74;
  --c6: #e29bc2; --c7: #8b9299; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p { margin: .5rem 0; }
.faint { color: var(--faint); font-size: .875rem; }
.warn { background: var(--warn-paper); color: var(--warn); padding: .6rem .9rem;
  border-radius: .4rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
th { color: var(--faint); font-weight: 600; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.stack td { overflow-wrap: anywhere; }
.stack td:not(.number) { min-width: 7.5rem; }
.stack td:last-child { min-width: 14rem; }
@media screen and (max-width: 40rem) { .stack thead { display: none; }
  .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .stack td, .stack td.number { display: block; border: 0; padding: 0; text-align: left;
    white-space: normal; overflow-wrap: anywhere; }
  .stack td:empty { display: none; }
  .stack td::before { content: attr(data-label) ": "; color: var(--faint); } }
pre, code { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace;
  font-size: .8125rem; }
pre { background: var(--panel); padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; }
svg { display: block; width: 100%; }
.c0 { fill: var(--c0); background: var(--c0); } .c1 { fill: var(--c1); background: var(--c1); }
.c2 { fill: var(--c2); background: var(--c2); } .c3 { fill: var(--c3); background: var(--c3); }
.c4 { fill: var(--c4); background: var(--c4); } .c5 { fill: var(--c5); background: var(--c5); }
.c6 { fill: var(--c6); background: var(--c6); } .c7 { fill: var(--c7); background: var(--c7); }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --faint: #444;
  --line: #bbb; --panel: #f4f4f4; --warn: #000; --warn-paper: #eee; --c0: #3b76b5; --c1: #e08b2c;
  --c2: #b8434e; --c3: #4f9e91; --c4: #8a6bb1; --c5: #8f7a4a; --c6: #c76b9b; --c7: #8b9299; }
  body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; } h2, h2 + p { break-after: avoid; }
  tr, figure { break-inside: avoid; } .wide { overflow: visible; } }
"""


class Markup(str):
    """Text that is HTML already; any other text is escaped where it is put."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    r"""Return text as HTML: what neither can be seen nor encoded is shown as an escape.

    Examples
    --------
    >>> str(escaped('<b>"a\u202e\n'))
    '&lt;b&gt;&quot;a\\u202e\\n'
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Markup(html.escape(text))


def element(name: str, /, *children: str | None, **attributes: str | None) -> Markup:
    """Return an element; ``class_`` and ``aria_label`` are class and aria-label.

    Parameters
    ----------
    name : str
    children : str or None
        Escaped unless `Markup`; None is left out.
    attributes : str or None
        Escaped; None is left out.

    Examples
    --------
    >>> str(element("p", "a < b", class_="faint"))
    '<p class="faint">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[str | None]) -> Markup:
    """Return children one after the other; see `element`."""
    return Markup(
        "".join(c if isinstance(c, Markup) else escaped(c) for c in children if c is not None)
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Collection[int] = (),
    class_: str | None = None,
) -> Markup:
    """Return a table that scrolls by itself where it is wider than the page.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequence of str
    numbers : collection of int
        Columns that are aligned as numbers.
    class_ : str, optional
        ``stack``: on a narrow page the cells of a row stand one below the other, with their heads.
    """

    def line(kind: str, cells: Sequence[str]) -> Markup:
        first = kind == "th"
        return element(
            "tr",
            *(
                element(
                    kind,
                    cell,
                    scope="col" if first else None,
                    class_="number" if i in numbers else None,
                    data_label=head[i] if class_ == "stack" and not first else None,
                )
                for i, cell in enumerate(cells)
            ),
        )

    body = element("tbody", *(line("td", row) for row in rows))
    whole = element("table", element("thead", line("th", head)), body, class_=class_)
    return element("div", whole, class_="wide")


def picture(data: bytes, *, kind: str, alt: str, class_: str | None = None) -> Markup:
    """Return a picture that is part of the page; ``kind`` is that of the bytes, png or jpeg."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return element("img", src=source, alt=alt, class_=class_)


def page(title: str, *parts: str, style: str = "") -> str:
    """Return a whole file; ``style`` is added to that of all reports."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_STYLE + style)),
    )
    body = element("body", element("main", *parts))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"
