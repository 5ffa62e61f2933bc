"""Inputs that nobody meant, for everything that reads what comes from outside: a real collector, and the decoders in this process.

`make fuzz` gives a hundred thousand of them and prints what came of it; the default tests give a share (test_security_fuzz.py).

===========  =====================================================================================================
part         inputs
===========  =====================================================================================================
api          requests by the collector's own OpenAPI description, right ones and wrong ones (schemathesis), answers held to it
wire         requests as bytes on the socket, broken: cut, doubled, flipped, spliced, with other lengths
batches      batches of an enrolled agent, of lines that are broken or only strange, packed and half packed
lines        the same lines to the reader of batches in this process, made by hypothesis and by breaking good ones
gzip         bodies to the unpacker
signed       signed configurations to the agent's verifier
pushed       configurations that are signed, to the agent's reader, on top of a PoP's own file
tokens       token files
===========  =====================================================================================================

What must not happen: a status of 5xx, an answer that the description does not have, an exception that is no refusal, the collector's
end or a traceback in its log, memory that grows.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import gzip
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "warehouse"), str(Path(__file__).parent)]

import httpx  # noqa: E402
import schemathesis  # noqa: E402
from collector_process import is_ready  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: E402
from guarded import OPEN, SECRETS, GuardedCollector, bearer  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance  # noqa: E402
from warehouse_builders import NOW, content, ping, post, reading, report, request, stamped, trace, transfer, visit  # noqa: E402

from probes.config import parse_config  # noqa: E402
from probes.pushed import verified  # noqa: E402
from records.batch import BatchName  # noqa: E402
from records.errors import ConfigError  # noqa: E402
from records.pushed import CONTEXT, Pushed, Signed  # noqa: E402
from warehouse.ingest import TooLarge, Unreadable, decompress, parse  # noqa: E402
from warehouse.roster_file import RosterFile  # noqa: E402

#: Of a hundred inputs, how many go to each part.
SHARES = {"api": 3, "wire": 13, "batches": 4, "lines": 25, "gzip": 25, "signed": 15, "pushed": 8, "tokens": 7}

GOOD = [
    line
    for line in content(
        [ping(1, [1000, None]), trace(2), transfer(3, 1000), request(4, 1000), visit(5, 1000), stamped(6, [1000]), reading(7), report(NOW)]
    ).split(b"\n")
    if line
]
STRANGE: list[Any] = [
    None, True, -1, 0, 2**63, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308, "", "\0", "\x1b[2J", "\ud800", "é" * 1000, "../../etc/passwd",
    "' OR 1=1 --",     [], {}, [[]], {"": None}, "9" * 5000, "2026-99-99T99:99:99Z", "NaN", [None] * 1000,
]  # fmt: skip
KEYS = ["v", "type", "agent", "src", "dst", "samples", "hops", "rtt_ns", "at_ns", "id", "outcome", "produced", "x", ""]


@dataclass
class Part:
    """What came of one part."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fault(self, what: str) -> None:
        """Something that must not happen."""
        if len(self.faults) < 20:
            self.faults.append(what[:2000])


_OLD = [b"1", b'"', b":", b",", b"\r\n", b" "]
_NEW = [b"", b"\0", b"9" * 30, b'"', b"[", b"\n"]


def broken(rng: random.Random, data: bytes) -> bytes:
    """Bytes with one to four things done to them."""
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        low, high = min(at, other), max(at, other)
        data = rng.choice(
            [
                lambda: data[:low] + rng.randbytes(rng.randint(1, 8)) + data[low:],  # noqa: B023  called at once
                lambda: data[:low] + data[high:],  # noqa: B023
                lambda: data[:high] + data[low:],  # noqa: B023
                lambda: bytes(byte ^ (1 << rng.randrange(8)) if at == index else byte for index, byte in enumerate(data)),  # noqa: B023
                lambda: data.replace(rng.choice(_OLD), rng.choice(_NEW), 1),  # noqa: B023
                lambda: data[:low],  # noqa: B023
            ]
        )()  # fmt: skip
    return data[: 1 << 20]


def strange(rng: random.Random, line: bytes) -> bytes:
    """A good line with one or two of its values, wherever they are, replaced by strange ones, or a strange key added."""
    record = json.loads(line)
    for _ in range(rng.randint(1, 2)):
        place = record
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys or [0])
            inner = place[key] if keys else None
            if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
                place = inner
                continue
            if isinstance(place, dict) and rng.random() < 0.2:
                key = rng.choice(KEYS)
            if keys or isinstance(place, dict):
                place[key] = copy.deepcopy(rng.choice(STRANGE))
            break
    return json.dumps(record).encode("utf-8", "surrogatepass")


def any_line(rng: random.Random) -> bytes:
    """Broken, strange or good."""
    line = rng.choice(GOOD)
    return rng.choice([broken, strange, strange, lambda _, good: good])(rng, line)


# -- the collector ------------------------------------------------------------------------------------------------------


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: object, value: object) -> bytes:
    """A body of lines as it is: text, or whatever stands in its place."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def api(part: Part, count: int, collector: GuardedCollector, url: str) -> None:
    """Requests by the description, to every operation, as nobody and as an agent."""
    schema = schemathesis.openapi.from_dict(json.loads((Path(__file__).parents[2] / "warehouse" / "openapi.json").read_text()))
    operations = [result.ok() for result in schema.get_all_operations()]
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    asked = [(operation, mode) for operation in operations for mode in GenerationMode if mode.is_positive or len(operation.label) > 14]
    each = max(1, count // len(asked))
    with httpx.Client(timeout=60) as client:
        for operation, mode in asked:

            @seed(part.inputs)
            @settings(max_examples=each, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode), who=st.sampled_from([None, "sin-1", "fra-1"]))
            def ask(case: Any, who: str | None) -> None:
                part.inputs += 1
                try:
                    answer = case.call(base_url=url, headers=None if who is None else bearer(who))
                except (ValueError, OSError) as error:  # what the client itself will not send
                    part.outcomes[f"not sent: {type(error).__name__}"] += 1
                    return
                part.outcomes[str(answer.status_code)] += 1
                if answer.status_code == 405 or (answer.status_code == 400 and answer.text.startswith("Invalid HTTP")):
                    return  # a method or bytes that are no request: nothing the description is about
                if answer.status_code == 404 and answer.text == "Not Found":
                    return  # a path that is none of it
                try:
                    case.validate_response(answer, checks=checks)
                except AssertionError as error:
                    part.fault(f"{case.method} {case.path} as {who}: {error}")
                except BaseExceptionGroup as group:
                    part.fault(f"{case.method} {case.path} as {who}: {[str(error) for error in group.exceptions]}")

            with contextlib.suppress(Exception) if not mode.is_positive else contextlib.nullcontext():  # nothing wrong can be made of some
                ask()
        assert client.get(f"{url}/healthz").status_code == 200


def wire(part: Part, count: int, collector: GuardedCollector, rng: random.Random) -> None:
    """Broken requests as bytes."""
    parts = post([ping(1, [1])])
    lines = [f"{name}: {value}" for name, value in {"Host": "c", **parts["headers"], **bearer("sin-1")}.items()]
    body = parts["content"]
    enrolment = json.dumps({"invitation": OPEN + "x", "agent": "a", "site": "sin", "secret_sha256": "0" * 64}).encode()
    whole = [
        ("\r\n".join(["POST /api/v1/batches HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])).encode() + body,
        f"POST /api/v1/enroll HTTP/1.1\r\nHost: c\r\nContent-Length: {len(enrolment)}\r\n\r\n".encode() + enrolment,
        b'POST /api/v1/enroll HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n1\r\n1\r\n0\r\n\r\n',
        b"GET /api/v1/agents/sin-1/config?site=sin HTTP/1.1\r\nHost: c\r\n" + f"Authorization: Bearer {SECRETS['sin-1']}\r\n\r\n".encode(),
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    ]
    for _ in range(count):
        part.inputs += 1
        sent = broken(rng, rng.choice(whole))
        said = b""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(30)
            raw.connect(str(collector.socket))
            with contextlib.suppress(OSError):
                raw.sendall(sent)
                raw.shutdown(socket.SHUT_WR)
                while piece := raw.recv(65536):
                    said += piece
                    if len(said) > 200_000:
                        break
        status = said.split(b" ", 2)[1][:3].decode("ascii", "replace") if said.startswith(b"HTTP/1.") else "nothing"
        part.outcomes[status] += 1
        if status.startswith("5"):
            part.fault(f"{status} for {sent!r}: {said[:300]!r}")


def batches(part: Part, count: int, collector: GuardedCollector, rng: random.Random) -> None:
    """Batches of ten lines each, many at a time, for an answer waits for its commit."""
    lock, local = threading.Lock(), threading.local()

    def send(number: int) -> None:
        own = random.Random(number)
        body = b"\n".join(any_line(own) for _ in range(10))
        packed = gzip.compress(body, 1)
        if own.random() < 0.05:  # a batch that is none costs the collector a transaction of its own
            packed = broken(own, packed)
        parts = post([ping(1, [1])], boot=f"fuzz{number % 97}", sequence=number)
        parts["headers"] |= bearer("sin-1")
        client = getattr(local, "client", None)
        if client is None:
            client = local.client = collector.client()
        for _ in range(20):
            try:
                answer = client.post(**{**parts, "content": packed})
            except httpx.ReadTimeout:  # a machine that is busy with other things; sent again it is the same batch
                with lock:
                    part.outcomes["timed out"] += 1
                continue
            except httpx.HTTPError as error:
                with lock:
                    part.inputs += 1
                    part.fault(f"{type(error).__name__}: {error} for {body!r}")
                return
            if answer.status_code != 429:
                break
            time.sleep(0.1)
        else:
            with lock:
                part.inputs += 1
                part.fault(f"no answer but 429 and timeouts for {body!r}")
            return
        with lock:
            part.inputs += 1
            part.outcomes[str(answer.status_code)] += 1
            if answer.status_code >= 500:
                part.fault(f"{answer.status_code} {answer.text} for {body!r}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(send, [rng.randrange(10**9) for _ in range(count)]))


# -- the decoders -------------------------------------------------------------------------------------------------------

_NAME = BatchName("sin-1", "aa", 1)
_SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC = _SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
_OWN = (
    '[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\n[collector]\nurl = "https://c:8600"\n[limits]\ntargets = 50\n'
    '[[probe]]\ntype = "inference"\ninterval_s = 600\ndaily_requests = 100\n[[target]]\nsite = "fra"\naddress = "8.8.8.8"\n'
    'inference_url = "https://8.8.8.8/v1"\napi_key_file = "key"\n'
)
_PUSHED = [
    '[[probe]]\ntype = "ping"\ninterval_s = 60\ncount = 3\n[[target]]\nsite = "nrt"\naddress = "8.8.8.7"\nmedium = "internet"\n',
    (
        '[limits]\npackets_per_second = 20\n[mesh]\nnearest = 5\nlandmarks = ["fra"]\n[[probe]]\ntype = "traceroute"\ninterval_s = 300\n'
        '[[target]]\nsite = "fra"\naddress = "8.8.8.8"\n'
    ),
    (
        '[[probe]]\ntype = "throughput"\ninterval_s = 3600\nbytes_per_day = { all = 1e9 }\nbudget_file = "b"\n[[target]]\nsite = "x"\n'
        'address = "8.8.4.4"\nthroughput_port = 5201\n'
    ),
]


def _held(part: Part, call: Callable[[], object], allowed: tuple[type[Exception], ...], what: bytes | str) -> None:
    part.inputs += 1
    try:
        call()
    except allowed as error:
        part.outcomes[f"refused: {type(error).__name__}"] += 1
    except Exception as error:  # noqa: BLE001  that is what is looked for
        part.fault(f"{type(error).__name__}: {error} for {what!r}")
    else:
        part.outcomes["taken"] += 1


def lines(part: Part, count: int, rng: random.Random) -> None:
    """Lines to the reader of batches: a fifth by hypothesis, the others good ones that were broken."""
    allowed = (Unreadable, TooLarge)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(STRANGE),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    )
    fields = sorted({key for line in GOOD for key in json.loads(line)})
    changes = st.dictionaries(st.sampled_from(fields), values, min_size=1, max_size=3)

    @seed(1)
    @settings(
        max_examples=max(1, count // 5), database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(GOOD), changes)
    def read(line: bytes, change: dict[str, Any]) -> None:
        body = json.dumps(json.loads(line) | change).encode("utf-8", "surrogatepass")
        _held(part, lambda: parse(body, _NAME, received_at=NOW), allowed, body)

    read()
    while part.inputs < count:
        body = b"\n".join(any_line(rng) for _ in range(rng.choice([1, 1, 1, 20])))
        _held(part, lambda body=body: parse(body, _NAME, received_at=NOW), allowed, body)  # type: ignore[misc]


def unpack(part: Part, count: int, rng: random.Random) -> None:
    """Bodies to the unpacker: at most its limit comes out, whatever goes in."""
    seeds = [gzip.compress(b"x" * 1000), gzip.compress(GOOD[0]) * 3, gzip.compress(b"\n" * 200_000, 9), gzip.compress(rng.randbytes(300))]
    for _ in range(count):
        body = broken(rng, rng.choice(seeds))

        def call(body: bytes = body) -> None:
            assert len(decompress(body, limit_bytes=100_000)) <= 100_000

        _held(part, call, (Unreadable, TooLarge), body)


def signed(part: Part, count: int, rng: random.Random) -> None:
    """Documents to the verifier: only what was signed, word for word, is taken."""
    payloads = [
        Pushed(generation=7, made_at=NOW, agent=agent, site=site, toml=_PUSHED[0]).payload()
        for agent, site in ((None, None), ("sin-1", None), (None, "sin"), ("fra-1", None))
    ]
    good = [Signed(payload=payload, signature=_SIGNER.sign(CONTEXT + payload)).encode() for payload in payloads]
    for _ in range(count):
        if rng.random() < 0.5:
            document = broken(rng, rng.choice(good))
            is_whole = False
        else:  # signed, and strange
            payload = broken(rng, rng.choice(payloads)) if rng.random() < 0.5 else strange(rng, rng.choice(payloads))
            with contextlib.suppress(UnicodeDecodeError):
                payload.decode()
                document = Signed(payload=payload, signature=_SIGNER.sign(CONTEXT + payload)).encode()
            is_whole = True

        def call(document: bytes = document, is_whole: bool = is_whole) -> None:
            found = verified(document, _PUBLIC, agent="sin-1", site="sin")
            assert is_whole or found.payload() in payloads, "what nobody signed was taken"

        _held(part, call, (ConfigError,), document)


def pushed(part: Part, count: int, rng: random.Random, folder: Path) -> None:
    """Signed texts to the agent's reader: taken within what its own file allows, or refused."""
    own = parse_config(_OWN, folder / "agent.toml")
    for _ in range(count):
        toml = broken(rng, rng.choice(_PUSHED).encode()).decode("utf-8", "replace")
        what = Pushed(generation=7, made_at=NOW, agent=None, site=None, toml=toml)

        def call(what: Pushed = what) -> None:
            made = parse_config(_OWN, folder / "agent.toml", what)
            assert (made.agent, made.collector, made.serve) == (own.agent, own.collector, own.serve)
            assert made.limits.packets_per_second <= own.limits.packets_per_second
            assert len(made.targets) <= own.limits.targets

        _held(part, call, (ConfigError,), toml)


def tokens(part: Part, count: int, rng: random.Random, folder: Path) -> None:
    """Token files: read or refused, and no secret of theirs in what is said."""
    now = datetime.now(UTC)
    good = json.dumps(
        {
            "version": 2,
            "min_agent_version": "0.2.0",
            "agents": {"sin-1": {"site": "sin", "sha256": "0" * 64, "enrolled_at": now.isoformat()}, "fra": "a-token-in-clear-0123456789"},
            "invitations": {"1" * 64: {"site": "fra", "agent": None, "expires_at": (now + timedelta(days=1)).isoformat()}},
        }
    ).encode()
    path = folder / "tokens.json"
    path.touch(mode=0o600)
    for _ in range(count):
        text = broken(rng, good) if rng.random() < 0.5 else strange(rng, good)
        path.write_bytes(text)

        def call() -> None:
            said = ""
            try:
                RosterFile(path).read()
            except ConfigError as error:
                said = str(error)
                raise
            finally:
                assert "a-token-in-clear-0123456789" not in said, "a secret is in the message"

        _held(part, call, (ConfigError,), text)


# -- all of it ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[GuardedCollector, str]]:
    """A collector of its own process on a socket and on loopback, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = GuardedCollector(folder)
    made.fill()
    argv = made.argv(port=port)
    argv[2] = argv[2].replace("host=None", 'host="127.0.0.1"')
    with (folder / "log").open("w") as log:
        made.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        assert is_ready(made.process), made.log
        try:
            yield made, f"http://127.0.0.1:{port}"
        finally:
            if made.process.poll() is not None:
                sys.stderr.write(f"the collector ended with status {made.process.returncode}:\n{made.log[-4000:]}\n")
            made.process.terminate()
            made.process.wait(60)


def own_rss_bytes() -> int:
    """Memory of this process, once what is not used was given back."""
    gc.collect()
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def fuzz(inputs: int, folder: Path, say: Callable[[str], object], *, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Give so many inputs in all. A tenth of each part goes first, so that memory is looked at when all is warm."""
    found = {name: Part() for name in SHARES if only is None or name in only}
    memory: dict[str, list[int]] = {"collector": [], "decoders": []}
    (folder / "decoders").mkdir()
    with running(folder) as (collector, url):
        planned = 0
        for is_warm in (False, True):
            for name, part in found.items():
                count = round(inputs * SHARES[name] / 100)
                count = count - count // 10 if is_warm else max(1, count // 10)
                if name == "gzip":  # of some operations there are fewer requests than asked for
                    count += planned - sum(part.inputs for part in found.values())
                planned += count
                rng, began, before = random.Random(f"{name} {is_warm}"), time.monotonic(), part.inputs
                made = Part()
                if name == "api":
                    api(made, count, collector, url)
                elif name in {"wire", "batches"}:
                    {"wire": wire, "batches": batches}[name](made, count, collector, rng)
                elif name in {"pushed", "tokens"}:
                    {"pushed": pushed, "tokens": tokens}[name](made, count, rng, folder / "decoders")
                else:
                    {"lines": lines, "gzip": unpack, "signed": signed}[name](made, count, rng)
                part.inputs = before + made.inputs
                part.outcomes += made.outcomes
                part.faults += made.faults
                part.seconds += time.monotonic() - began
                if is_warm or made.faults:
                    say(f"{name}: {part.inputs} inputs in {part.seconds:.0f} s, {len(part.faults)} faults, {dict(part.outcomes)}")
            memory["collector"].append(collector.rss_bytes())
            memory["decoders"].append(own_rss_bytes())
        assert collector.process is not None
        is_alive = collector.process.poll() is None
        tracebacks = collector.log.count("Traceback")
    return {
        "inputs": sum(part.inputs for part in found.values()),
        "seconds": round(sum(part.seconds for part in found.values()), 1),
        "faults": [fault for part in found.values() for fault in part.faults],
        "parts": {
            name: {"inputs": part.inputs, "outcomes": dict(part.outcomes), "seconds": round(part.seconds, 1)}
            for name, part in found.items()
        },
        "is_alive": is_alive,
        "tracebacks": tracebacks,
        "log": collector.log[-2000:] if tracebacks else "",
        "rss_mb": {name: [round(size / 1e6, 1) for size in sizes] for name, sizes in memory.items()},
    }


def main() -> int:
    """Print what came of it; 1 when something came that must not."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--only", choices=list(SHARES), action="append", help="these parts of them; may be repeated")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(chosen.inputs, Path(folder), lambda line: sys.stderr.write(f"{line}\n"), only=chosen.only)
    if chosen.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(
            f"{found['inputs']} inputs in {found['seconds']} s: {len(found['faults'])} faults, {found['tracebacks']} tracebacks\n"
        )
        for name, sizes in found["rss_mb"].items():
            sys.stdout.write(f"memory of the {name}: {sizes[0]} MB after a tenth, {sizes[1]} MB at the end\n")
        sys.stdout.writelines(f"FAULT {fault}\n" for fault in found["faults"])
    return 1 if found["faults"] or found["tracebacks"] or not found["is_alive"] else 0


if __name__ == "__main__":
    sys.exit(main())
