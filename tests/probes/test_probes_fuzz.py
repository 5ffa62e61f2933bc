"""Whatever bytes stand in the agent's files: configuration, lists, spool, memory. Ten thousand cases each are `slow`."""

import gzip
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.config import parse_config
from probes.hosts import HostList
from probes.memory import recall
from probes.plan import make_plan
from probes.segment import DamagedSegment, is_whole_gzip, whole_lines
from probes.settings import AgentConfig
from probes.spool import QUARANTINE, Spool
from records.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "agent.toml"
#: Every line of the example, its defaults written out.
LINES = [line for line in re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text()).splitlines() if line and not line.startswith("#")]

cases = pytest.mark.parametrize(
    "count", [pytest.param(25, id="some"), pytest.param(10_000, id="ten-thousand", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)


def run(count: int, check: Callable[..., None], *strategies: st.SearchStrategy) -> None:
    settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))(given(*strategies)(check))()


texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["~nobody/x", "\0", "http://[::1", "http://h:99999/", "https://u:p@h/", "//", "10.0.0.256", "::ffff:1.2.3.4", "a" * 300, "nan"]
    ),
)
scalars = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(lambda number: repr(number).replace("e+", "e")),
    st.sampled_from(["true", "false", "1979-05-27T07:32:00Z", "[]", "[[]]", "{}", '["a", 1]', '{a = "b"}', "0", "-1", "0.1", "1e400"]),
    texts.map(json.dumps),
    st.lists(texts, max_size=3).map(json.dumps),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """The example with some lines changed, gone, doubled, moved or replaced by anything."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        what = draw(st.sampled_from(["value", "value", "value", "delete", "double", "move", "text", "key"]))
        if what == "delete" and len(lines) > 1:
            del lines[place]
        elif what == "double":
            lines.insert(draw(st.integers(0, len(lines))), lines[place])
        elif what == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
        elif what == "text":
            lines[place] = draw(st.text(max_size=40))
        elif " = " in lines[place]:
            key, _, value = lines[place].partition(" = ")
            lines[place] = f"{key} = {draw(scalars)}" if what == "value" else f"{draw(st.text('abc_', min_size=1, max_size=5))} = {value}"
    return "\n".join(lines)


@cases
def test_any_configuration_is_taken_or_refused_with_a_reason(count: int, tmp_path: Path) -> None:
    """A whole configuration whose plan keeps its caps, or a ConfigError that names the file; never anything else."""
    for name in ("allow.txt", "opt-out.txt"):
        (tmp_path / name).write_text("0.0.0.0/0\n::/0\nexample\namazonaws.com\n" if name == "allow.txt" else "")
    path = tmp_path / "agent.toml"
    taken = []

    def check(text: str) -> None:
        try:
            config: AgentConfig | None = parse_config(text, path)
        except ConfigError as error:
            config, said = None, str(error)
            assert str(path) in said or str(tmp_path) in said, said
            assert "\n" not in said.replace("\\n", "") or "TOML" in said, said
        if config is not None:
            taken.append(1)
            assert make_plan(config).packets_per_s <= config.limits.packets_per_second

    run(count, check, documents())
    assert taken, "some of the documents should be sound"


@cases
def test_any_text_is_a_list_of_hosts_or_a_mistake_with_its_line(count: int) -> None:
    """Whole files of entries near to sound ones."""
    entry = st.one_of(
        st.text("0123456789abcdef.:/*-_", max_size=20), st.text(max_size=10), st.ip_addresses().map(str), st.just("*.example")
    )

    def check(entries: list[str]) -> None:
        try:
            found = HostList.parse("\n".join(entries), "f")
        except ConfigError as error:
            assert re.match(r"f:\d+: ", str(error))  # noqa: PT017
        else:
            assert len(found) <= len("\n".join(entries).splitlines())

    run(count, check, st.lists(entry, max_size=6))


whole = json.dumps({"v": 1, "type": "ping", "id": "aa-0"}).encode() + b"\n"
pieces = st.lists(
    st.one_of(st.just(whole), st.binary(max_size=40), st.just(b"\0" * 20), st.just(b"[" * 5000 + b"\n"), st.just(b'{"type":5}\n')),
    max_size=8,
)


@cases
def test_what_is_left_of_a_segment_is_whole_lines_and_a_count(count: int) -> None:
    """The lines kept are a prefix of the file, each whole; every line of the file is kept or counted as lost."""

    def check(parts: list[bytes]) -> None:
        content = b"".join(parts)
        lines, measurements, lost = whole_lines(content)
        assert content.startswith(b"".join(lines))
        assert measurements == len(lines)
        assert all("type" in json.loads(line) for line in lines)
        assert len(lines) + lost == content.count(b"\n") + (not content.endswith(b"\n") and bool(content))

    run(count, check, pieces)


@cases
def test_only_a_whole_gzip_member_is_sent(count: int) -> None:
    """Against Python's own gzip reader, on whole members cut, flipped and lengthened, and on anything else."""

    def check(content: bytes, cut: int, flip: int, tail: bytes) -> None:
        body = bytearray(gzip.compress(content, mtime=0))
        if flip < len(body):
            body[flip] ^= 0x55
        damaged = bytes(body[: len(body) - cut] if cut else body) + tail
        try:
            is_sound = gzip.decompress(damaged) == content and gzip.compress(content, mtime=0) == damaged
        except (OSError, EOFError, ValueError, __import__("zlib").error):
            is_sound = False
        if is_sound:
            assert is_whole_gzip(damaged)
        if is_whole_gzip(damaged):
            assert gzip.decompress(damaged) == content or flip < 10, "the ten octets of the header have no checksum of their own"

    run(count, check, st.binary(max_size=300), st.integers(0, 40), st.integers(0, 400), st.sampled_from([b"", b"", b"\0", b"x" * 30]))


@cases
def test_any_folder_is_a_spool(count: int) -> None:
    """Whatever an earlier life and a failing disk left: it opens, gives only sound batches, and works; damage is counted or put aside."""
    names = st.sampled_from(
        [
            "00000001-aa-00000000.open",
            "00000001-aa-00000001.open",
            "00000002-bb-00000000-3.ndjson.gz",
            "00000009-cc-00000000-1.ndjson.gz",
            "x.tmp",
            "agent",
            "mesh.json",
            "junk",
        ]
    )
    contents = st.one_of(pieces.map(b"".join), pieces.map(lambda parts: gzip.compress(b"".join(parts), mtime=0)), st.binary(max_size=60))

    def check(files: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, content in files.items():
                (folder / file).write_bytes(b"sin-1\n" if file == "agent" else content)
            with Spool(folder, agent="sin-1", boot="ee", max_bytes=10**6, segment_bytes=10**4) as spool:
                recall(folder)
                spool.append([whole], measurements=1, now_ns=0)
                spool.seal()
                last = None
                while (segment := spool.oldest()) is not None:
                    try:
                        gzip.decompress(segment.read())
                    except DamagedSegment:
                        spool.quarantine(segment)
                    else:
                        last = segment.name.boot
                        spool.done(segment)
                assert last == "ee", "what is measured now goes out whatever was there before"
                assert spool.size_bytes == 0
            assert {path.name for path in folder.iterdir()} <= {"agent", "mesh.json", "junk", QUARANTINE}

    run(count, check, st.dictionaries(names, contents, max_size=5))
