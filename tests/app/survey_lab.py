"""The demo world with the endpoints' own names pointed at its hosts: a DNS server, TLS servers on 443, a CA of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from inventory.load import load
from lab.namespace_lab import NamespaceLab

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ETC_NETNS = Path("/etc/netns")


@dataclass
class World:
    """A lab with servers; `ca_file` is the CA that signs the good certificates."""

    lab: NamespaceLab
    folder: Path
    ca_file: Path
    ca: trustme.CA
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, site: str, *argv: str) -> subprocess.Popen[str]:
        """Run survey_servers.py at a site and wait until it is ready."""
        command = self.lab.command(site, [sys.executable, str(HERE / "survey_servers.py"), *argv])
        log = (self.folder / f"{site.replace(':', '_')}-{argv[0]}.log").open("w+")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", Path(log.name).read_text()
        return process

    def resolve_at(self, site: str, nameserver: str) -> None:
        """Have a host ask a DNS server of the lab: `ip netns exec` puts /etc/netns/NAME/ over /etc."""
        folder = ETC_NETNS / self.lab.state.namespaces[site]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:1\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n")

    def sh(self, site: str, script: str) -> None:
        """A shell script at a host of the lab."""
        subprocess.run(self.lab.command(site, ["sh", "-ec", script]), check=True, capture_output=True, timeout=30)

    def isochrone(self, site: str, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """The command line at a host of the lab."""
        command = self.lab.command(site, [sys.executable, "-m", "app.cli", *argv])
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for name in self.lab.state.namespaces.values():
            shutil.rmtree(ETC_NETNS / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            ETC_NETNS.rmdir()  # ours only when nothing else is in it


def names_of(region: str) -> list[str]:
    """The inventory's own host names of a region, the one to prefer first."""
    return [endpoint.host for endpoint in load().endpoints_of(region)]


@contextlib.contextmanager
def world(lab: NamespaceLab, folder: Path) -> Iterator[World]:
    """See the module; the servers are the test's to start."""
    ca = trustme.CA()
    ca_file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    made = World(lab, folder, ca_file, ca)
    try:
        yield made
    finally:
        made.close()


def certificate(ca: trustme.CA, names: list[str], path: Path) -> Path:
    """A server's key and chain in one PEM file."""
    ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def write_table(table: dict[str, str], path: Path) -> Path:
    """The DNS server's names."""
    path.write_text(json.dumps(table))
    return path
