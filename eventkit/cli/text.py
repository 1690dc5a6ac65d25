"""Text for a terminal: what is printed has names in it, and a file may be named anything.

An escape sequence in a name could clear the screen, set the title of the window, or forge a line of
a report; a name that is no UTF-8 could not be printed at all.
"""

from __future__ import annotations

import click


def printable(text: str) -> str:
    r"""Return one line: what controls a terminal, or cannot be encoded, is shown as an escape.

    Examples
    --------
    >>> printable("a\x1b[2Jb\u202ec\nd")
    'a\\x1b[2Jb\\u202ec\\nd'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def echo(*lines: str, err: bool = False) -> None:
    """Print lines that may hold names."""
    click.echo("\n".join(map(printable, lines)), err=err)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which has an s unless it is one.

    Examples
    --------
    >>> counted(1, "recording"), counted(1200, "recording"), counted(0, "clip")
    ('1 recording', '1,200 recordings', '0 clips')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
