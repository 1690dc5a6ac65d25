"""The header of a ``.npy`` array, read without Python's own parser.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

NumPy hands the header to `ast.literal_eval`, whose recursion counter is shared by all threads in
Python 3.11: two of them at once end in a `SystemError` on a whole file
(https://github.com/python/cpython/issues/106905). Threads decode samples here.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"\x93NUMPY"
# NumPy writes 64 to 128 bytes; version 1 has two bytes for the length.
HEADER_BYTES = 1 << 16
_DEPTH = 16
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?P<number>-?[0-9]{1,20})L?(?![\w.])"""
    r"|(?P<word>True|False|None)\b|(?P<mark>[][(){},:]))"
)
_WORDS = {"True": True, "False": False, "None": None}
_CLOSES = {"(": ")", "[": "]", "{": "}"}
# A type of one element, as numpy.dtype.str gives it; "i4,f8" would reach Python's parser again.
_TYPE = re.compile(r"[<>|=]?[A-Za-z?][0-9]*(\[[0-9]*[A-Za-z]+\])?")


def parse_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis is the fastest, and dtype.

    Raises
    ------
    ValueError
        If the bytes are no header. The stream is left behind it otherwise.
    """
    magic = stream.read(8)
    if magic[:6] != MAGIC or magic[6:7] not in (b"\1", b"\2", b"\3"):
        msg = f"expected the start of a .npy file, versions 1 to 3, got {magic!r}"
        raise ValueError(msg)
    short = magic[6] == 1
    length = int.from_bytes(stream.read(2 if short else 4), "little")
    if length > HEADER_BYTES:
        msg = f"expected a header of at most {HEADER_BYTES} bytes, got {length}"
        raise ValueError(msg)
    header = stream.read(length)
    if len(header) < length:
        msg = f"expected a header of {length} bytes, got {len(header)}"
        raise ValueError(msg)
    return _fields(parse_literal(header.decode("utf-8" if magic[6] == 3 else "latin-1")))


def _fields(said: object) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if not isinstance(said, dict) or said.keys() != {"descr", "fortran_order", "shape"}:
        msg = f"expected descr, fortran_order and shape, got {str(said)[:100]}"
        raise ValueError(msg)
    shape, fortran = said["shape"], said["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(side) is int for side in shape):
        msg = f"expected a shape of whole numbers, got {shape!r}"
        raise ValueError(msg)
    if not isinstance(fortran, bool):
        msg = f"expected fortran_order True or False, got {fortran!r}"
        raise ValueError(msg)
    return shape, fortran, _dtype(said["descr"])


def _dtype(descr: Any) -> np.dtype[Any]:
    _check_types(descr)
    try:
        return np.lib.format.descr_to_dtype(descr)
    except (TypeError, ValueError, IndexError, OverflowError) as err:
        msg = f"expected a type of numbers, got {str(descr)[:100]} ({err})"
        raise ValueError(msg) from err


def _check_types(descr: object) -> None:
    if isinstance(descr, list):
        for field in descr:
            if not isinstance(field, tuple) or len(field) not in (2, 3):
                msg = f"expected fields of name, type and shape, got {str(field)[:100]}"
                raise ValueError(msg)
            _check_types(field[1])
    elif isinstance(descr, tuple):
        if descr:
            _check_types(descr[0])
    elif not isinstance(descr, str) or not _TYPE.fullmatch(descr):
        msg = f"expected a type of numbers, got {str(descr)[:100]}"
        raise ValueError(msg)


def parse_literal(text: str) -> object:
    """Return the dicts, lists, tuples, texts, whole numbers, True, False and None that a text is.

    Raises
    ------
    ValueError
    """
    value, at = _value(text, 0, _DEPTH)
    if text[at:].strip(" \n\r\t\0"):
        msg = f"expected one literal, got {text[at : at + 20]!r} after it"
        raise ValueError(msg)
    return value


def _value(text: str, at: int, depth: int) -> tuple[object, int]:
    token = _token(text, at)
    if token["text"]:
        return _unescape(token["text"][1:-1]), token.end()
    if token["number"]:
        return int(token["number"]), token.end()
    if token["word"]:
        return _WORDS[token["word"]], token.end()
    if token["mark"] not in _CLOSES or depth == 0:
        msg = f"expected a value, got {token['mark']!r} at character {token.start('mark')}"
        raise ValueError(msg)
    return _group(text, token.end(), token["mark"], depth - 1)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")


def _group(text: str, at: int, opened: str, depth: int) -> tuple[object, int]:
    items: list[Any] = []
    commas = 0
    while (token := _token(text, at))["mark"] != _CLOSES[opened]:
        if commas < len(items):
            msg = f"expected a comma or {_CLOSES[opened]!r} at character {at}, got {token[0]!r}"
            raise ValueError(msg)
        item, at = _value(text, at, depth)
        if opened == "{":
            item, at = _pair(text, item, at, depth)
        items.append(item)
        if (token := _token(text, at))["mark"] == ",":
            commas, at = commas + 1, token.end()
    at = token.end()
    if opened == "{":
        return dict(items), at
    if opened == "[":
        return items, at
    return (tuple(items) if commas or not items else items[0]), at


def _pair(text: str, key: object, at: int, depth: int) -> tuple[tuple[str, object], int]:
    colon = _token(text, at)
    if not isinstance(key, str) or colon["mark"] != ":":
        msg = f"expected a name and a colon at character {at}, got {key!r} and {colon[0]!r}"
        raise ValueError(msg)
    value, at = _value(text, colon.end(), depth)
    return (key, value), at


def _token(text: str, at: int) -> re.Match[str]:
    token = _TOKEN.match(text, at)
    if token is None:
        msg = f"expected a literal at character {at}, got {text[at : at + 20]!r}"
        raise ValueError(msg)
    return token
