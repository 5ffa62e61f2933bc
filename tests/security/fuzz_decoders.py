"""What is given to the decoders in this process: batches, bodies, signed and pushed configurations, token files."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fuzz_inputs import GOOD, KEYS, STRANGE, Part, any_line, broken, strange
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from warehouse_builders import NOW

from probes.config import parse_config
from probes.pushed import verified
from records.batch import BatchName
from records.errors import ConfigError
from records.pushed import CONTEXT, Pushed, Signed
from warehouse.ingest import TooLarge, Unreadable, decompress, parse
from warehouse.roster_file import RosterFile

__all__ = ["lines", "pushed", "signed", "tokens", "unpack"]

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

    @seed(rng.randrange(1 << 32))
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
