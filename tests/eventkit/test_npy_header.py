"""The header of a .npy array: what NumPy writes is read the same, in threads too."""

from __future__ import annotations

import ast
import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventkit.npy import read_npy
from eventkit.npy_header import parse_header, parse_literal


def saved(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SCALARS = (
    hnp.scalar_dtypes() | hnp.unicode_string_dtypes(max_len=8) | hnp.byte_string_dtypes(max_len=8)
)


@pytest.mark.filterwarnings("ignore:Stored array in format")
@given(SCALARS | hnp.array_dtypes(SCALARS) | hnp.nested_dtypes(SCALARS), st.booleans(), st.data())
def test_every_header_that_numpy_writes_is_read(
    dtype: np.dtype[Any], fortran: bool, data: st.DataObject
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    array = np.zeros(shape, dtype, order="F" if fortran else "C")
    stream = io.BytesIO(saved(array))

    got = parse_header(stream)

    descr = np.lib.format.dtype_to_descr(array.dtype)
    order = array.flags.f_contiguous and not array.flags.c_contiguous
    assert got == (array.shape, order, np.lib.format.descr_to_dtype(descr))
    assert stream.read() == array.tobytes("A")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_are_read(version: tuple[int, int]) -> None:
    name = "\u03bcs \"'\\ \t" if version == (3, 0) else "\xb5s \"'\\ \t"
    stream = io.BytesIO()
    array = np.zeros(3, [(name, "<i8"), ("xy", "<u2", (2,))])
    np.lib.format.write_array(stream, array, version=version)
    stream.seek(0)

    assert parse_header(stream) == ((3,), False, array.dtype)


def test_a_header_of_python_two_is_read() -> None:
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L), }\n"
    stream = io.BytesIO(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)

    assert parse_header(stream) == ((3, 4), False, np.dtype("<f8"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_literal_reads_as_python_reads_it(value: object) -> None:
    assert parse_literal(repr(value)) == value


@given(st.text(alphabet="'\"(),[]{}: 1-LaTrueFalsNon\\", max_size=24))
def test_what_is_no_literal_is_refused_and_what_is_one_reads_as_python_reads_it(text: str) -> None:
    try:
        got = parse_literal(text)
    except ValueError:
        return
    assert got == ast.literal_eval(text.strip().replace("L", ""))


@pytest.mark.parametrize(
    "text",
    ["", "(", "(1 2)", "{1: 2}", "{'a'}", "[1,,2]", "1.5", "__import__('os')", "(" * 99 + ")" * 99],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*got"):
        parse_literal(text)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False}",
        "{'descr': '<i8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': 3}",
        "{'descr': 'i4,f8', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': 7, 'fortran_order': False, 'shape': (3,)}",
        "{'descr': [('x', 'q9')], 'fortran_order': False, 'shape': (3,)}",
        "{'descr': [('x',)], 'fortran_order': False, 'shape': (3,)}",
        "{'descr': (), 'fortran_order': False, 'shape': (3,)}",
        "[1, 2]",
    ],
)
def test_a_header_of_something_else_is_refused(header: str) -> None:
    data = header.encode()
    stream = io.BytesIO(b"\x93NUMPY\1\0" + len(data).to_bytes(2, "little") + data)

    with pytest.raises(ValueError, match=r"expected .*got"):
        parse_header(stream)


@contextmanager
def another_thread_parses() -> Iterator[None]:
    """Do in one thread what a switch of threads does: parse Python amid any allocation."""
    busy: list[str] = []

    def parse(phase: str, info: dict[str, int]) -> None:
        if not busy:
            busy.append(phase)
            ast.parse("[(1, 2)]")
            busy.clear()

    old = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*old)
        gc.callbacks.remove(parse)


def test_threads_that_parse_do_not_meet() -> None:
    data = saved(np.arange(24).reshape(2, 3, 4))

    with another_thread_parses():
        shapes = {read_npy(data).shape for _ in range(50)}

    assert shapes == {(2, 3, 4)}
