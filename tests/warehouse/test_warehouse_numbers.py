"""Columns of an Arrow table as NumPy arrays: the numbers that Arrow lists, NaN for NULL, and no pandas loaded for it."""

from __future__ import annotations

import math
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.imported import _numbers

KINDS = {
    "int64": st.integers(-(2**53), 2**53),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
}


@pytest.mark.parametrize("kind", list(KINDS))
@given(data=st.data())
def test_numbers_are_those_that_arrow_lists(kind: str, data: st.DataObject) -> None:
    """Whole, cut into chunks, and a slice that does not begin at the start; with and without NULL."""
    values = data.draw(st.lists(st.none() | KINDS[kind], max_size=20))
    start = data.draw(st.integers(0, len(values)))
    array = pa.array(values, kind)
    for given_, expected in (
        (array, values),
        (array.slice(start), values[start:]),
        (pa.chunked_array([array.slice(0, start), array.slice(start)]), values),
    ):
        found = _numbers(given_).tolist()
        assert len(found) == len(expected)
        assert all(math.isnan(one) if other is None else one == other for one, other in zip(found, expected, strict=True))


def test_reading_numbers_loads_no_pandas() -> None:
    """In a fresh interpreter, which has loaded nothing of it yet."""
    said = (
        "import sys, struct, pyarrow as pa; from warehouse.imported import _numbers;"  # pa.array() of a list would load it
        "bare = lambda kind, code, *n: pa.Array.from_buffers(kind, len(n), [None, pa.py_buffer(struct.pack(f'{len(n)}{code}', *n))]);"
        "lists = pa.ListArray.from_arrays(bare(pa.int32(), 'i', 0, 1, 2), bare(pa.int64(), 'q', 5, 7));"
        "print(*(_numbers(one).tolist() for one in (lists.flatten(), lists.value_lengths(), lists.is_valid())), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[5, 7] [1, 1] [1, 1] False"
