"""A real collector of its own process with a token file, configurations and a warehouse, and what its guests hold."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from records.pushed import Pushed
from warehouse.publications import Publications, make_key, sign
from warehouse.roster import Roster, digest
from warehouse.roster_file import RosterFile

ROOT = Path(__file__).parents[2]
SECRETS = {"sin-1": "secret-of-sin-1-0123456789", "fra-1": "secret-of-fra-1-0123456789", "mallory-1": "secret-of-mallory-1-012345"}
OPEN, USED, EXPIRED = "invitation-open-0123456789", "invitation-used-0123456789", "invitation-late-0123456789"

_CODE = """
import json, sys
from pathlib import Path
from warehouse.collector import serve
from warehouse.publications import Publications
from warehouse.roster_file import RosterFile
folder = Path(sys.argv[1])
serve(folder / "kept", host=None, uds=folder / "c.sock", token_file=RosterFile(folder / "tokens.json"),
      publications=Publications(folder / "configs"), commit_interval_s=0.05,
      on_ready=lambda: print("ready", flush=True), **json.loads(sys.argv[2]))
"""


@dataclass
class GuardedCollector:
    """Its folder, and its process once it runs."""

    folder: Path
    process: subprocess.Popen[str] | None = None

    @property
    def socket(self) -> Path:
        """It listens there."""
        return self.folder / "c.sock"

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def argv(self, **options: object) -> list[str]:
        """How it is started."""
        return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_CODE}", str(self.folder), json.dumps(options)]

    def fill(self) -> None:
        """Write who is known and what is published."""
        now = datetime.now(UTC)
        day = timedelta(days=1)
        roster = Roster()
        for agent, secret in SECRETS.items():
            invitation = f"invitation-of-{agent}-0123456789"
            roster = roster.invited(digest(invitation), site=agent[:3], agent=None, expires_at=now + day, now=now)
            roster = roster.enrolled(invitation, agent=agent, site=agent[:3], secret_digest=digest(secret), now=now)
        roster = roster.revoked("mallory-1", now)
        for invitation, expires_at in ((OPEN, now + day), (EXPIRED, now - timedelta(seconds=1))):
            roster = roster.invited(digest(invitation), site="sin", agent=None, expires_at=expires_at, now=now)
        roster = roster.invited(digest(USED), site="sin", agent=None, expires_at=now + day, now=now)
        roster = roster.enrolled(USED, agent="used-1", site="sin", secret_digest=digest("secret-of-used-1-0123456789"), now=now)
        RosterFile(self.folder / "tokens.json").change(lambda _: roster, is_new_allowed=True)
        publications = Publications(self.folder / "configs")
        publications.put_key(make_key(self.folder / "signing.key"))
        pushed = Pushed(generation=1, made_at=now, agent="sin-1", site=None, toml="")
        publications.put(sign(pushed, self.folder / "signing.key")[0])

    def client(self) -> httpx.Client:
        """A client of it, without any secret."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket), verify=False), base_url="http://collector", timeout=60)

    def rss_bytes(self) -> int:
        """Memory that it holds."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def bearer(agent: str) -> dict[str, str]:
    """The header of an agent."""
    return {"Authorization": f"Bearer {SECRETS[agent]}"}
