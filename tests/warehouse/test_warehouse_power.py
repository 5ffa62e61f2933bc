"""What is on the disk before anybody relies on it, by the kernel's own account (strace): the order of fsync, rename and answer.

No power is cut here, nor can a disk be made to forget; what this shows is that the program asked for what it must ask for, in time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collector_process import ROOT, start
from test_warehouse_collector import FAST, post
from warehouse_builders import BOOT, content, ping

_CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,write,pwrite64,sendto"

_SEAL = """
import os, sys
from pathlib import Path
from probes.spool import Spool
spool = Spool(Path(sys.argv[1]), agent="sin-1", boot=sys.argv[2], max_bytes=10**6, segment_bytes=10**5)
spool.append([sys.stdin.buffer.read()], measurements=1, now_ns=0)
spool.seal()
os.write(1, b"sealed")
"""


def _traced(out: Path) -> list[str]:
    """The command that writes down each call, with the files' names, beside the program; skips the test where nobody may look on."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    command = ["strace", "-D", "-f", "-y", "-qq", "-s", "40", "-e", _CALLS, "-o", str(out)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not look on here")
    return command


def test_a_segment_is_on_the_disk_before_it_counts_as_sealed(tmp_path: Path) -> None:
    """Its bytes are synced, then it gets its name, then the folder is synced; only then seal() returns."""
    spool, trace = tmp_path / "spool", tmp_path / "trace"
    command = [*_traced(trace), sys.executable, "-c", _SEAL, str(spool), BOOT]
    done = subprocess.run(command, input=content([ping(1, [1000])]), cwd=ROOT, capture_output=True, env=os.environ, check=False)
    assert done.stdout == b"sealed", done.stderr
    calls = _written(trace, '"sealed"')

    def first(pattern: str, after: int = -1) -> int:
        return next(n for n, call in enumerate(calls) if n > after and re.search(pattern, call))

    (named,) = spool.glob("*.ndjson.gz")
    rename = first(rf'rename\w*\(.*{re.escape(named.name)}"')
    temporary = re.escape(Path(re.findall(r'"([^"]+)"', calls[rename])[0]).name)
    written = max(n for n, call in enumerate(calls) if n < rename and re.search(rf"write\(\d+<[^>]*{temporary}>", call))
    synced = first(rf"fsync\(\d+<[^>]*{temporary}>\) *= 0", written)
    folder = first(rf"fsync\(\d+<{re.escape(str(spool))}>\) *= 0", rename)
    said = first(r'write\(1<[^>]*>, "sealed"')
    assert written < synced < rename < folder < said


@pytest.mark.slow
def test_the_catalog_is_on_the_disk_before_a_batch_is_answered(tmp_path: Path) -> None:
    """Whatever was written to the catalog for a batch is synced before its 200 goes out."""
    calls = _calls_of_a_batch(tmp_path)
    answered = next(n for n, call in enumerate(calls) if "HTTP/1.1 200 OK" in call)
    written = [n for n, call in enumerate(calls[:answered]) if re.search(r"write(64)?\(\d+<[^>]*catalog\.sqlite(-wal)?>", call)]
    synced = [n for n, call in enumerate(calls[:answered]) if re.search(r"sync\(\d+<[^>]*catalog\.sqlite(-wal)?>\) *= 0", call)]
    assert written
    assert max(written) < max(synced)


@pytest.mark.slow
def test_the_rows_are_on_the_disk_before_a_batch_is_answered(tmp_path: Path) -> None:
    """The files of the rows too, and the folders they are in, before the catalog that names them."""
    calls = _calls_of_a_batch(tmp_path)
    answered = next(n for n, call in enumerate(calls) if "HTTP/1.1 200 OK" in call)
    files = {found[1] for call in calls[:answered] if (found := re.search(r"write(?:64)?\(\d+<([^>]*\.parquet)>", call))}
    assert files
    named = max(n for n, call in enumerate(calls[:answered]) if re.search(r"sync\(\d+<[^>]*catalog\.sqlite(-wal)?>\) *= 0", call))
    for path in files | {str(Path(file).parent) for file in files}:
        assert any(re.search(rf"sync\(\d+<{re.escape(path)}>\) *= 0", call) for call in calls[:named]), path


def _written(trace: Path, last: str) -> list[str]:
    """The calls, once the one that comes last is among them: strace writes beside the program."""
    until = time.monotonic() + 20
    while last not in trace.read_text():
        assert time.monotonic() < until, "strace has not written the last call"
        time.sleep(0.05)
    return trace.read_text().splitlines()


def _calls_of_a_batch(tmp_path: Path) -> list[str]:
    trace = tmp_path / "trace"
    collector = start(tmp_path / "kept", tmp_path / "c.sock", FAST, prefix=_traced(trace))
    try:
        before = len(trace.read_text().splitlines())
        lines = [ping(n, [1000] * 5, at=datetime.now(UTC) - timedelta(seconds=5)) for n in range(50)]
        with collector.client() as client:
            assert client.post(**post(lines, boot=BOOT)).status_code == 200
        return _written(trace, "HTTP/1.1 200 OK")[before:]
    finally:
        collector.kill()
