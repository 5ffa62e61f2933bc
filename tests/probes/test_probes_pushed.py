"""Pushed configurations: signed, newest only, whole or not at all, and never wider than the PoP's own file."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from probes.config import load_config, parse_config
from probes.pushed import PushedFile, pin, verified
from probes.settings import AgentConfig
from probes.steering import Steering
from records.errors import ConfigError, NotPermitted
from records.pushed import CONTEXT, Pushed, Signed

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)

OWN = """
[agent]
id = "sin-1"
site = "sin"
spool_dir = "spool"
[collector]
url = "http+unix:///nowhere/c.sock"
token_file = "token"
[limits]
packets_per_second = 50
targets = 100
[policy]
allow_file = "allow.txt"
opt_out_file = "opt-out.txt"
pushed_types = ["ping", "traceroute", "inference"]
[[probe]]
type = "ping"
interval_s = 30
[[probe]]
type = "inference"
interval_s = 600
daily_requests = 100
ca_file = "ours.pem"
[[target]]
site = "fra"
address = "8.8.8.8"
inference_url = "https://8.8.8.8/v1"
api_key_file = "key"
"""
ALLOW = "8.8.8.0/24\n1.1.1.1\n"
OPT_OUT = "8.8.8.99\n"

PING = '[[probe]]\ntype = "ping"\ninterval_s = 60\n'
TEN_THOUSAND = "".join(f'[[target]]\nsite = "s{n}"\naddress = "8.8.8.{n % 90}"\n' for n in range(10_000))
FRA_ELSEWHERE = '[[target]]\nsite = "fra"\naddress = "8.8.8.8"\ninference_url = "https://8.8.8.7/v1"\napi_key_file = "key"\n'
NRT = '[[target]]\nsite = "nrt"\naddress = "8.8.8.7"\n'


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def pushed(toml: str, generation: int = 7, agent: str | None = None, site: str | None = None) -> Pushed:
    return Pushed(generation=generation, made_at=AT, agent=agent, site=site, toml=toml)


def signed(what: Pushed, key: Ed25519PrivateKey = SIGNER) -> bytes:
    return Signed(payload=what.payload(), signature=key.sign(CONTEXT + what.payload())).encode()


@pytest.fixture
def pop(tmp_path: Path) -> Path:
    """A PoP's own file with its lists."""
    (tmp_path / "allow.txt").write_text(ALLOW)
    (tmp_path / "opt-out.txt").write_text(OPT_OUT)
    (tmp_path / "spool").mkdir()
    (tmp_path / "agent.toml").write_text(OWN)
    pin(tmp_path / "token.config-key", public(SIGNER))
    return tmp_path / "agent.toml"


def test_what_is_signed_is_what_is_read() -> None:
    """Verified by OpenSSL's Ed25519 over the stated bytes; both forms of addressing; the document comes back whole."""
    what = pushed(PING + NRT, site="sin")
    assert verified(signed(what), public(SIGNER), agent="sin-1", site="sin") == what
    assert Signed.of(signed(what)).encode() == signed(what)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (signed(pushed(PING), OTHER), "not signed with the key"),
        (signed(pushed(PING)).replace(b"interval_s = 60", b"interval_s = 61"), "not signed with the key"),
        (signed(pushed(PING)).replace(b'\\"generation\\": 7', b'\\"generation\\": 8'), "not signed with the key"),
        (signed(pushed(PING, agent="fra-1")), "is for agent fra-1"),
        (signed(pushed(PING, site="fra")), "is for site fra"),
        (Signed(payload=b"{}", signature=SIGNER.sign(CONTEXT + b"{}")).encode(), "generation must be"),
        (Signed(payload=b"{}", signature=SIGNER.sign(b"{}")).encode(), "not signed with the key"),  # a signature for something else
        (json.dumps({"algorithm": "none", "payload": "{}", "signature": ""}).encode(), "algorithm ed25519"),
        (b"[" * 100_000, "no JSON object"),
        (b"", "no JSON object"),
        (b'{"algorithm": "ed25519", "payload": "\\ud800", "signature": ""}', "damaged"),
        (b"x" * 3_000_000, "larger than"),
    ],
)
def test_what_nobody_signed_for_this_agent_is_refused(document: bytes, said: str) -> None:
    """Another key, a changed byte, another agent's, something else that was signed, no document at all."""
    with pytest.raises(ConfigError, match=said):
        verified(document, public(SIGNER), agent="sin-1", site="sin")


def test_what_is_measured_can_be_pushed(pop: Path) -> None:
    """Probes and targets take the place of the file's own; everything else is as the file says."""
    config = parse_config(OWN, pop, pushed(PING + NRT + "[limits]\npackets_per_second = 20\ntraceroutes_at_once = 1000\n"))
    own = load_config(pop)
    assert [target.site for target in config.targets] == ["nrt"]
    assert [(probe.type, probe.interval_ns) for probe in config.probes] == [("ping", 60 * 10**9)]
    assert (config.generation, own.generation) == (7, None)
    assert (config.agent, config.collector, config.serve) == (own.agent, own.collector, own.serve)
    # Of every limit the lesser: 20 < 50, and 1000 is more than what holds without a word (8).
    assert (config.limits.packets_per_second, config.limits.traceroutes_at_once, config.limits.targets) == (20, 8, 100)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[agent]\nid = "fra-1"\n', r"\[agent\] is for the PoP's own file"),
        ("[agent]\nallow_private_targets = true\n", r"\[agent\] is for"),
        ('[collector]\nurl = "https://evil.example"\n', r"\[collector\] is for"),
        ('[policy]\nallow_file = "/dev/null"\n', r"\[policy\] is for"),
        ("[serve]\nthroughput_port = 5201\n", r"\[serve\] is for"),
        ("[limits]\npackets_per_second = 0\n", "packets_per_second is 0"),
        (PING + '[[target]]\nsite = "x"\naddress = "9.9.9.9"\n', "9.9.9.9 is not on the list of policy.allow_file"),
        (PING + '[[target]]\nsite = "x"\naddress = "10.0.0.1"\n', "10.0.0.1 is private"),
        (PING + '[[target]]\nsite = "x"\naddress = "169.254.169.254"\n', "is link-local"),
        (PING + '[[target]]\nsite = "x"\naddress = "::ffff:127.0.0.1"\n', "is loopback"),
        (PING + '[[target]]\nsite = "x"\naddress = "224.0.0.1"\n', "is multicast"),
        (PING + TEN_THOUSAND, "10000 .*limits.targets allows 100"),
        ('[[probe]]\ntype = "ping"\ninterval_s = 0.1\ncount = 50\n' + NRT, "packets_per_second"),
        ('[[probe]]\ntype = "throughput"\ninterval_s = 60\n' + NRT, "not among policy.pushed_types"),
        (PING + NRT + 'api_key_file = "/etc/shadow"\n', "api_key_file: files and variables"),
        (PING + NRT + 'api_key_env = "AWS_SECRET_ACCESS_KEY"\n', "api_key_env: files and variables"),
        # The key of the own file's target is not sent elsewhere.
        (PING + FRA_ELSEWHERE, "files and variables"),
        ('[[probe]]\ntype = "inference"\ninterval_s = 600\nca_file = "theirs.pem"\n', "ca_file: files and variables"),
        ('[[probe]]\ntype = "inference"\ninterval_s = 600\n' * 2, "no more"),
        ("[[probe]\n", "not valid TOML"),
        ("x = " + "[" * 50_000, "not valid TOML"),
        ("n = " + "9" * 5_000, "not valid TOML"),
        ("#" + "x" * 1_100_000, "larger than"),
        (PING + NRT + 'colour = "red"\n', "unknown key 'colour'"),
    ],
)  # fmt: skip
def test_what_the_pop_forbids_cannot_be_pushed(pop: Path, toml: str, said: str) -> None:
    """Whoever signed it: where it sends, whom it may measure, how much, and its secrets are the PoP's own to say."""
    with pytest.raises(ConfigError, match=said):
        parse_config(OWN, pop, pushed(toml))


def test_who_opted_out_stays_out(pop: Path) -> None:
    """A pushed target that opted out is left out, and the others go on."""
    config = parse_config(OWN, pop, pushed(PING + NRT + '[[target]]\nsite = "no"\naddress = "8.8.8.99"\n'))
    assert [target.site for target in config.targets] == ["nrt"]
    assert [target.site for target, _ in config.opted_out] == ["no"]


def test_a_target_with_its_key_and_a_budget_can_be_pushed_as_the_file_has_them(pop: Path) -> None:
    """The very same target keeps its key; of a budget the lesser holds, and it cannot be left out."""
    fra = OWN[OWN.index("[[target]]") :]
    for budget, holds in (("", 100), ("daily_requests = 0\n", 100), ("daily_requests = 500\n", 100), ("daily_requests = 40\n", 40)):
        config = parse_config(OWN, pop, pushed(f'[[probe]]\ntype = "inference"\ninterval_s = 900\nca_file = "ours.pem"\n{budget}{fra}'))
        assert config.targets[0].api_key_file == str(pop.parent / "key")
        assert config.probes[0].config.daily_requests == holds  # type: ignore[attr-defined]


class Run:
    """What a daemon does with a configuration: goes on with it, unless it cannot."""

    def __init__(self, config: AgentConfig) -> None:
        self.config, self.cannot = config, False

    async def change(self, config: AgentConfig) -> None:
        if self.cannot:
            raise NotPermitted("ping cannot start: no socket")
        self.config = config


def take(steering: Steering, run: Run, what: bytes) -> None:
    asyncio.run(steering.take(what, public(SIGNER), run.config, run.change))


def test_the_last_good_one_survives_and_older_ones_are_refused(pop: Path) -> None:
    """Generation 7 runs; 8 does not check, 9 cannot start, 6 is a replay: 7 goes on, also in the next life; 10 is taken."""
    own = load_config(pop)
    steering, run = Steering(own), Run(own)
    take(steering, run, signed(pushed(PING + NRT)))
    assert (run.config.generation, steering.refused) == (7, None)
    take(steering, run, signed(pushed("[agent]\n", 8)))
    assert run.config.generation == 7
    assert steering.refused is not None
    assert steering.refused.startswith("generation 8: [agent] is for the PoP's own file")
    run.cannot = True
    take(steering, run, signed(pushed(PING + NRT, 9)))
    assert (run.config.generation, steering.refused) == (7, "generation 9: ping cannot start: no socket")
    run.cannot = False
    take(steering, run, signed(pushed(PING + NRT, 6)))
    assert run.config.generation == 7
    assert "generation 6: it is older than 7" in str(steering.refused)
    following = Steering(own)
    run = Run(following.resume(own))
    assert run.config.generation == 7
    assert [target.site for target in run.config.targets] == ["nrt"]
    take(following, run, signed(pushed(PING + NRT, 6)))
    assert "it is older than 7" in str(following.refused), "a restart is no way to an older one"
    take(following, run, signed(pushed("", 10)))
    assert (run.config.generation, [target.site for target in run.config.targets]) == (10, ["fra"]), "an empty one takes it back"
    assert following.refused is None


def test_the_own_file_wins_over_what_was_kept(pop: Path) -> None:
    """Forbidden since then, damaged on disk, signed with a key that is pinned no more: the own file alone, and it says so."""
    own = load_config(pop)
    steering, run = Steering(own), Run(own)
    take(steering, run, signed(pushed(PING + NRT)))
    (pop.parent / "allow.txt").write_text("8.8.8.8\n")
    again = Steering(own)
    config = again.resume(own)
    assert (config.generation, [target.site for target in config.targets]) == (None, ["fra"])
    assert "8.8.8.7 is not on the list" in str(again.refused)
    (pop.parent / "allow.txt").write_text(ALLOW)
    assert steering.load().generation == 7
    kept = PushedFile(own.agent.spool_dir)
    whole = kept.read()
    assert whole is not None
    for damaged in (whole[:-20], whole.replace(b"60", b"61"), b"", b"\0" * 100):
        kept.path.write_bytes(damaged)
        again = Steering(own)
        run = Run(again.resume(own))
        assert run.config.generation is None
        take(again, run, signed(pushed(PING, 6)))
        assert "generation 6: it is older than 7" in str(again.refused), "damage opens no way to an older one"
        take(again, run, whole)
        assert (run.config.generation, kept.read()) == (7, whole), "the same one is taken again"
    kept.path.unlink()
    again = Steering(own)
    again.resume(own)
    take(again, run := Run(own), signed(pushed(PING, 6)))
    assert (run.config.generation, kept.read()) == (None, None)
    take(again, run, whole)
    pin(pop.parent / "token.config-key", public(OTHER))
    assert Steering(own).resume(own).generation is None


def test_how_new_the_newest_was_has_a_file_of_its_own(pop: Path) -> None:
    """On disk before the configuration; made or mended from that where it is not there or damaged; and each key counts for itself."""
    own = load_config(pop)
    file = own.agent.spool_dir / "config-generation.json"
    kept = PushedFile(own.agent.spool_dir)
    kept.path.mkdir()  # nothing can take its place: the configuration cannot be kept
    take(Steering(own), run := Run(own), signed(pushed(PING + NRT)))
    assert (run.config.generation, kept.generation(public(SIGNER))) == (7, 7)
    kept.path.rmdir()
    take(Steering(own), Run(own), signed(pushed(PING + NRT)))
    for content in (None, b"", b"[]", b'{"generation": "8"}', b"[" * 900, b"\0" * 40):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        again = Steering(own)
        assert again.resume(own).generation == 7
        take(again, Run(own), signed(pushed(PING, 6)))
        assert "it is older than 7" in str(again.refused)
        assert kept.generation(public(SIGNER)) == 7, "mended"
    take(Steering(own), Run(own), signed(pushed(PING, 8)))
    assert kept.generation(public(SIGNER).replace("\n", "\r\n")) == 8
    pin(pop.parent / "token.config-key", public(OTHER))
    again = Steering(own)
    run = Run(again.resume(own))
    asyncio.run(again.take(signed(pushed(PING, 1), OTHER), public(OTHER), run.config, run.change))
    assert (run.config.generation, kept.generation(public(OTHER)), kept.generation(public(SIGNER))) == (1, 1, 0), "a new key begins anew"
