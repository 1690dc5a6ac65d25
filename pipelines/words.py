"""Numbers with what they count, as a sentence wants them."""

from __future__ import annotations

from collections.abc import Container, Mapping

_OF_ONE = {
    "are": "is",
    "have": "has",
    "hold": "holds",
    "last": "lasts",
    "stay": "stays",
    "were": "was",
}


def empty_splits(planned: Mapping[str, int], filled: Container[str]) -> list[str]:
    """Return a sentence for each split that has recordings and no clip.

    Parameters
    ----------
    planned : dict
        Recordings of each split.
    filled : container of str
        Splits that have a clip.
    """
    return [
        f"{split} is empty: its {counted(number, 'recordings were')} set aside or gave no clip"
        for split, number in planned.items()
        if number and split not in filled
    ]


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
