"""Text for a terminal: what is printed has names in it, and a file may be named anything.

An escape sequence in a name could clear the screen, set the title of the window, or forge a line of
a report; a name that is no UTF-8 could not be printed at all.
"""

from __future__ import annotations

import click

_OF_ONE = {
    "are": "is",
    "have": "has",
    "hold": "holds",
    "last": "lasts",
    "stay": "stays",
    "were": "was",
}


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


def counted(number: int, words: str) -> str:
    """Return a number and what it counts; the noun, and a verb right behind it, agree.

    Parameters
    ----------
    number : int
    words : str
        In the plural. The noun is the first or second word; without the s of a plural it stays.

    Examples
    --------
    >>> counted(1_234, "recordings are damaged"), counted(1, "recordings are damaged")
    ('1,234 recordings are damaged', '1 recording is damaged')
    >>> counted(1, "classes"), counted(1, "event files with RGB"), counted(1, "decoded in clips")
    ('1 class', '1 event file with RGB', '1 decoded in clips')
    """
    if number == 1:
        parts = words.split(" ")
        noun = 0 if parts[0].endswith("s") else 1
        parts[noun : noun + 1] = [_single(word) for word in parts[noun : noun + 1]]
        parts[noun + 1 : noun + 2] = [_OF_ONE.get(w, w) for w in parts[noun + 1 : noun + 2]]
        words = " ".join(parts)
    return f"{number:,} {words}"


def _single(noun: str) -> str:
    return noun.removesuffix("es") if noun.endswith("sses") else noun.removesuffix("s")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
