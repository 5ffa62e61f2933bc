"""Who may send: the token file and what the collector makes of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from pathlib import Path

import httpx

from app.tokens import new_tokens
from records.batch import encode_line
from records.measurement import PingResult, PingSample
from warehouse.collector import make_app
from warehouse.roster_file import RosterFile


def batch(src: str) -> bytes:
    result = PingResult(
        id="b-0",
        agent="sin",
        src=src,
        dst="fra",
        medium="internet",
        target="192.0.2.1",
        started_at_ns=time.time_ns(),
        engine="test/1",
        method="icmp",
        timeout_ns=10**9,
        samples=(PingSample(sequence=0, outcome="timeout", sent_at_ns=time.time_ns()),),
    )
    return gzip.compress(encode_line(result))


def test_fresh_tokens_are_ours_alone_and_come_back_with_their_sites(tmp_path: Path) -> None:
    """Written with mode 0600 whatever the umask, all different, each bound to its site."""
    before = os.umask(0)
    try:
        made = new_tokens({"sin": "sin", "fra-2": "fra"}, tmp_path / "tokens.json")
    finally:
        os.umask(before)
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    read = RosterFile(tmp_path / "tokens.json").read().agents
    assert {name: agent.token for name, agent in read.items()} == made
    assert len(set(made.values())) == 2
    assert {name: agent.site for name, agent in read.items()} == {"sin": "sin", "fra-2": "fra"}


def test_a_token_alone_binds_no_site(tmp_path: Path) -> None:
    """A bare token names its agent; it may then measure from any site."""
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"sin": "0123456789abcdef"}))
    path.chmod(0o600)
    assert RosterFile(path).read().site_of("sin") is None


def test_an_agent_may_send_only_under_its_token_and_from_its_site(tmp_path: Path) -> None:
    """200 for its own, 401 without or with a wrong token, 403 for another agent's name or another site."""
    made = new_tokens({"sin": "sin", "fra": "fra"}, tmp_path / "tokens.json")
    app = make_app(tmp_path / "w", tokens=None, token_file=RosterFile(tmp_path / "tokens.json"), commit_interval_s=0.05)

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://collector") as client:

            async def post(token: str | None, src: str, sequence: int) -> int:
                headers = {"Isochrone-Agent": "sin", "Isochrone-Boot": "b", "Isochrone-Sequence": str(sequence), "Content-Encoding": "gzip"}
                if token is not None:
                    headers["Authorization"] = f"Bearer {token}"
                return (await client.post("/api/v1/batches", content=batch(src), headers=headers)).status_code

            return [
                await post(made["sin"], "sin", 0),
                await post(None, "sin", 1),
                await post("x" * 32, "sin", 2),
                await post(made["fra"], "sin", 3),
                await post(made["sin"], "nrt", 4),
            ]

    assert asyncio.run(statuses()) == [200, 401, 401, 403, 403]
