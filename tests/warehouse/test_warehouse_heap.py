"""Free memory goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

#: A hundred MB in pieces of 20 kB, all free again but each hundredth: what is free lies below what is in use.
PROGRAM = """
from pathlib import Path
from warehouse.heap import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

pieces = [bytes([n % 7 + 1]) * 20_000 for n in range(5_000)]
kept = pieces[99::100]
del pieces
before_mb = resident_mb()
print(give_back(), before_mb - resident_mb(), sum(map(len, kept)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_is_free_between_what_is_in_use_goes_back() -> None:
    """Of a hundred MB, of which one is in use, at least half is not resident any more."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    said, less_mb, in_use = done.stdout.split()
    assert (said, int(in_use)) == ("True", 1_000_000)
    assert float(less_mb) > 50
