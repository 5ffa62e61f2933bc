"""The spool: durable, bounded, and a batch sent twice is the same bytes."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.segment import compress
from probes.spool import QUARANTINE, Spool
from records.errors import ConfigError, NotPermitted

BOOT = "00000000000000aa"


def line(n: int, kind: str = "ping") -> bytes:
    return json.dumps({"v": 1, "type": kind, "n": n}).encode() + b"\n"


def numbers(spool: Spool) -> list[int]:
    """The numbers in every sealed segment, oldest first, each segment deleted after reading."""
    found = []
    while (segment := spool.oldest()) is not None:
        found += [json.loads(text)["n"] for text in gzip.decompress(segment.read()).splitlines()]
        spool.done(segment)
    return found


def make(folder: Path, boot: str = BOOT, *, max_bytes: int = 10**6, segment_bytes: int = 10**4, agent: str = "sin-1") -> Spool:
    return Spool(folder, agent=agent, boot=boot, max_bytes=max_bytes, segment_bytes=segment_bytes)


def test_what_is_appended_comes_out_once_in_order(tmp_path: Path) -> None:
    """Lines come out of sealed segments once, in order, under sequence numbers from 0 without gaps."""
    with make(tmp_path, segment_bytes=100) as spool:
        for n in range(50):
            assert spool.append([line(n)], measurements=1, now_ns=n)
        assert spool.opened_at_ns is not None
        assert spool.seal() == spool.waiting > 10
        assert spool.opened_at_ns is None
        first = spool.oldest()
        assert first is not None
        assert (first.name.agent, first.name.boot, first.name.sequence) == ("sin-1", BOOT, 0)
        assert [int(path.name.split("-")[2]) for path in sorted(tmp_path.glob("*.gz"))] == list(range(spool.waiting))
        spool.release(first)
        assert numbers(spool) == list(range(50))
        assert spool.size_bytes == 0
        assert spool.seal() == 0


def test_a_segment_never_grows_past_its_bound_and_a_block_stays_whole(tmp_path: Path) -> None:
    """Lines appended together are in one segment, and no segment holds more than segment_bytes."""
    with make(tmp_path, segment_bytes=200) as spool:
        for n in range(0, 40, 4):
            spool.append([line(n + i) for i in range(4)], measurements=4, now_ns=0)
        spool.seal()
        while (segment := spool.oldest()) is not None:
            content = gzip.decompress(segment.read())
            assert len(content) <= 200
            assert content.count(b"\n") % 4 == 0
            assert segment.measurements == content.count(b"\n")
            spool.done(segment)


def test_statuses_are_not_measurements(tmp_path: Path) -> None:
    """A segment's measurement count leaves statuses out, also when it is counted again after a crash."""
    with make(tmp_path) as spool:
        spool.append([line(1), line(2)], measurements=2, now_ns=0)
        spool.append([line(3, "status")], measurements=0, now_ns=0)
    with make(tmp_path, "bb") as spool:
        segment = spool.oldest()
        assert segment is not None
        assert segment.measurements == 2


def test_a_batch_is_the_same_bytes_before_and_after_a_restart(tmp_path: Path) -> None:
    """A segment sealed but not acknowledged is sent again by the next life with the same name and the same bytes."""
    with make(tmp_path) as spool:
        spool.append([line(1)], measurements=1, now_ns=0)
        spool.seal()
        before = spool.oldest()
        assert before is not None
        body = before.read()
    with make(tmp_path, "bb") as spool:
        after = spool.oldest()
        assert after is not None
        assert (after.name, after.read()) == (before.name, body)


def test_earlier_lives_go_first_under_their_own_boot(tmp_path: Path) -> None:
    """Boot ids are random; the order of lives is kept by their number, and sequences begin at 0 in each."""
    for n, boot in enumerate(("ff", "aa", "cc")):
        with make(tmp_path, boot) as spool:
            spool.append([line(n)], measurements=1, now_ns=0)
    with make(tmp_path, "bb") as spool:
        spool.append([line(3)], measurements=1, now_ns=0)
        spool.seal()
        names = []
        while (segment := spool.oldest()) is not None:
            names.append((segment.name.boot, segment.name.sequence))
            spool.done(segment)
    assert names == [("ff", 0), ("aa", 0), ("cc", 0), ("bb", 0)]


@given(cut=st.integers(0, 400), garbage=st.sampled_from([b"", b"\0" * 64, b"\0" * 10 + b"\n" + b"\0" * 20, b'{"v":1,', b"[]\n"]))
@settings(max_examples=60, deadline=None)
def test_a_torn_tail_costs_only_what_is_torn(tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes) -> None:
    """An open file cut at any byte, or ending in zeros, gives all its whole lines before the damage; the rest is counted."""
    folder = tmp_path_factory.mktemp("spool")
    content = b"".join(line(n) for n in range(12))[:cut] + garbage
    (folder / f"00000001-{BOOT}-00000000.open").write_bytes(content)
    whole = 0
    for piece in content.split(b"\n")[:-1]:
        try:
            whole += json.loads(piece)["n"] == whole
        except (ValueError, TypeError):
            break
    with make(folder, "bb") as spool:
        assert numbers(spool) == list(range(whole))
        damaged = content[len(b"".join(line(n) for n in range(whole))) :]
        assert spool.torn_lines == spool.dropped_measurements == damaged.count(b"\n") + (not damaged.endswith(b"\n") and bool(damaged))
    assert not list(folder.glob("*.open"))


def test_a_crash_between_sealing_and_deleting_doubles_nothing(tmp_path: Path) -> None:
    """When both the sealed and the open file of a segment are there, the sealed one counts and the open one goes."""
    with make(tmp_path) as spool:
        spool.append([line(1)], measurements=1, now_ns=0)
        content = (tmp_path / f"00000001-{BOOT}-00000000.open").read_bytes()
        spool.seal()
    (tmp_path / f"00000001-{BOOT}-00000000.open").write_bytes(content)
    (tmp_path / f"00000001-{BOOT}-00000001-1.ndjson.tmp").write_bytes(b"half a")
    with make(tmp_path, "bb") as spool:
        assert numbers(spool) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]


@given(blocks=st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=80), max_bytes=st.integers(50, 1500))
@settings(max_examples=60, deadline=None)
def test_the_folder_stays_within_its_bound_and_every_drop_is_counted(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, bool]], max_bytes: int
) -> None:
    """For any appends: the size is at most the bound, what is left is the newest, and left + dropped = appended."""
    folder = tmp_path_factory.mktemp("spool")
    with make(folder, max_bytes=max_bytes, segment_bytes=200) as spool:
        n = 0
        for count, is_sealed in blocks:
            spool.append([line(n + i) for i in range(count)], measurements=count, now_ns=0)
            n += count
            assert spool.size_bytes <= max_bytes
            on_disk = sum(path.stat().st_size for path in folder.iterdir() if path.name != "agent")
            assert on_disk == spool.size_bytes
            if is_sealed:
                spool.seal()
        spool.seal()
        left = numbers(spool)
        assert left == sorted(left)
        assert len(left) + spool.dropped_measurements == n


def test_the_segment_in_flight_is_not_dropped(tmp_path: Path) -> None:
    """The bound passes over the segment being sent, else a batch could be stored and counted as lost."""
    with make(tmp_path, max_bytes=700, segment_bytes=100) as spool:
        spool.append([line(0)], measurements=1, now_ns=0)
        spool.seal()
        held = spool.oldest()
        assert held is not None
        for n in range(1, 60):
            spool.append([line(n)], measurements=1, now_ns=0)
            spool.seal_full()
        assert held.path.exists()
        assert spool.dropped_measurements > 0
        assert spool.oldest() != held, "it is not given out twice"
        spool.release(held)
        assert spool.oldest() == held, "but again after it was released, and first"
        spool.release(held)
        spool.append([line(99)] * 2, measurements=2, now_ns=0)


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    """When the disk takes only part of a write, that block is taken back and counted, and what came before is whole."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from probes.spool import Spool
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file may not grow past 1000 bytes: EFBIG, as ENOSPC cuts a write short
        spool = Spool(Path(sys.argv[1]), agent="sin-1", boot="aa", max_bytes=10**6, segment_bytes=10**5)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        kept = sum(spool.append([b'{"v":1,"type":"ping","n":%d}\\n' % n], measurements=1, now_ns=0) for n in range(60))
        print(kept, spool.dropped_measurements)
    """)
    out = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30)
    kept, dropped = map(int, out.stdout.split())
    assert 0 < kept < 60
    assert kept + dropped == 60
    with make(tmp_path, "bb") as spool:
        assert spool.torn_lines == 0
        assert len(numbers(spool)) == kept
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_disk_with_room_for_a_name_and_no_line_leaves_no_empty_batch(tmp_path: Path) -> None:
    """The segment was opened, and its first line did not fit: there is nothing to send."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from probes.spool import Spool
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        spool = Spool(Path(sys.argv[1]), agent="sin-1", boot="aa", max_bytes=10**6, segment_bytes=10**5)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, 10**6))
        kept = spool.append([b'{"v":1,"type":"ping","n":1}\\n'], measurements=1, now_ns=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))
        print(kept, spool.seal(), spool.waiting, spool.dropped_measurements, len(list(Path(sys.argv[1]).glob("*.open"))))
    """)
    out = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30)
    assert out.stdout.split() == ["False", "0", "0", "1", "0"]


def test_killed_again_and_again_nothing_durable_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """A process appending, syncing, sealing and acknowledging is SIGKILLed 12 times at odd moments.

    Every number it called durable is afterwards acknowledged or in the spool, exactly once.
    """
    script = textwrap.dedent("""
        import gzip, json, os, random, secrets, sys
        from pathlib import Path
        from probes.spool import Spool
        folder, start, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
        rng = random.Random(seed)
        acked = os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        spool = Spool(folder, agent="sin-1", boot=secrets.token_hex(8), max_bytes=10**8, segment_bytes=2000)
        n = start
        while True:
            for _ in range(rng.randrange(1, 20)):
                spool.append([b'{"v":1,"type":"ping","n":%d}\\n' % n], measurements=1, now_ns=0)
                n += 1
            spool.sync()
            sys.stdout.write(f"{n}\\n"); sys.stdout.flush()
            if rng.random() < 0.3:
                spool.seal()
            if rng.random() < 0.3 and (segment := spool.oldest()):
                # The collector: stores by name, so that a batch sent again after a crash is stored once.
                body = gzip.decompress(segment.read()).split()
                record = [segment.name.boot, segment.name.sequence, [json.loads(x)["n"] for x in body]]
                os.write(acked, json.dumps(record).encode() + b"\\n")
                spool.done(segment)
    """)
    spool_dir, acked_file = tmp_path / "spool", tmp_path / "acked"
    durable, start = set(), 0
    for turn in range(12):
        command = [sys.executable, "-c", script, str(spool_dir), str(start), str(turn), str(acked_file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            last = start
            for _ in range(3 + turn * 4):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            for rest in process.stdout.read().split("\n")[:-1]:
                last = int(rest)
        durable |= set(range(start, last))
        start = last + 1000  # numbers written but not called durable may survive or not
    stored: dict[tuple[str, int], list[int]] = {}
    for text in acked_file.read_bytes().splitlines():
        boot, sequence, values = json.loads(text)
        assert stored.setdefault((boot, sequence), values) == values, "a batch was sent twice with other content"
    with make(spool_dir, "dd") as spool:
        while (segment := spool.oldest()) is not None:
            values = [json.loads(text)["n"] for text in gzip.decompress(segment.read()).splitlines()]
            assert stored.setdefault((segment.name.boot, segment.name.sequence), values) == values
            spool.done(segment)
        assert spool.torn_lines == 0, "whole writes only: a killed process tears nothing"
    times = Counter(n for values in stored.values() for n in values)
    assert set(times) >= durable
    assert max(times.values()) == 1


def test_closing_while_another_thread_seals_ends_both_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed while the first of fifty segments is being sealed: that one is finished, the others are left to the next start."""
    begun = threading.Event()

    def slowly(lines: bytes) -> bytes:
        begun.set()
        time.sleep(0.1)
        return compress(lines)

    monkeypatch.setattr("probes.spool.compress", slowly)
    spool = make(tmp_path, segment_bytes=100)
    for n in range(150):
        assert spool.append([line(n)], measurements=1, now_ns=n)

    with ThreadPoolExecutor(1) as thread:
        sealing = thread.submit(spool.seal_full)
        assert begun.wait(10)
        spool.close()
        left = len(list(tmp_path.glob("*.open")))
        assert len(list(tmp_path.glob("*.ndjson.gz"))) == 1, "what was begun is there when it is closed"
        assert sealing.result(10) == 1
    assert len(list(tmp_path.glob("*.open"))) == left > 10
    monkeypatch.undo()
    with make(tmp_path, "00000000000000bb") as again:
        assert numbers(again) == list(range(150))


def test_two_agents_cannot_share_a_spool(tmp_path: Path) -> None:
    """A second process on the same folder, and another agent's id, are refused with the way out."""
    with make(tmp_path), pytest.raises(ConfigError, match=r"in use.*agent\.spool_dir"):
        make(tmp_path, "bb")
    with pytest.raises(ConfigError, match="belongs to agent 'sin-1'"):
        make(tmp_path, agent="fra-1")
    make(tmp_path, "cc").close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A spool inside a file: a clear message, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotPermitted, match=r"cannot be used.*spool_dir"):
        make(tmp_path / "file" / "spool")


def test_a_quarantined_batch_is_kept_aside_and_not_sent(tmp_path: Path) -> None:
    """Its file moves to the quarantine folder and the spool goes on with the next one."""
    with make(tmp_path) as spool:
        for n in range(2):
            spool.append([line(n)], measurements=1, now_ns=0)
            spool.seal()
        segment = spool.oldest()
        assert segment is not None
        kept = spool.quarantine(segment)
        assert kept.parent.name == QUARANTINE
        assert gzip.decompress(kept.read_bytes()) == line(0)
        assert numbers(spool) == [1]


def test_a_segment_whose_file_vanished_is_counted(tmp_path: Path) -> None:
    """Someone deleted a file under us: the measurements are counted as dropped and the next batch goes on."""
    with make(tmp_path) as spool:
        spool.append([line(0)], measurements=1, now_ns=0)
        spool.seal()
        segment = spool.oldest()
        assert segment is not None
        segment.path.unlink()
        with pytest.raises(FileNotFoundError):
            segment.read()
        spool.lose(segment)
        assert spool.dropped_measurements == 1
        assert spool.oldest() is None


def test_the_folder_is_private(tmp_path: Path) -> None:
    """Targets and timings are nobody else's business: 0700 and 0600."""
    folder = tmp_path / "spool"
    with make(folder) as spool:
        spool.append([line(0)], measurements=1, now_ns=0)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
        spool.seal()
        os.sync()


def test_lines_of_two_settings_of_the_clock_are_in_two_segments(tmp_path: Path) -> None:
    """A clock that was set, by more than slewing does, opens another segment; each says by which it was dated, until its process ends."""
    offsets = [5 * 10**18, 5 * 10**18 + 10**9, 5 * 10**18 + 3_600 * 10**9, 5 * 10**18 + 3_600 * 10**9 - 10**9, 5 * 10**18]
    with make(tmp_path) as spool:
        for n, offset in enumerate(offsets):
            assert spool.append([line(n)], measurements=1, now_ns=n, wall_offset_ns=offset)
        assert spool.has_full
        spool.seal()
        segments = [spool.oldest() for _ in range(3)]
        assert [segment and (segment.wall_offset_ns, segment.measurements) for segment in segments] == [
            (offsets[0], 2),
            (offsets[2], 2),
            (offsets[4], 1),
        ]
    with make(tmp_path, "bb") as spool:
        left = [*iter(spool.oldest, None)]
        assert [(segment.wall_offset_ns, segment.measurements) for segment in left] == [(None, 2), (None, 2), (None, 1)]
