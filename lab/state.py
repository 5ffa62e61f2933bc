"""What a running lab leaves on disk, so that others find it and the next one can clear away what a killed one left.

Every lab has an id of six hexadecimal digits. Its state is one JSON file in its state folder, and the same file under
its id in a register that all labs of one user share; its control socket lies beside the register, where paths are
short. A lab is alive as long as the process it names has the start time it names.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import namespaces
from records.errors import NotPermitted, UserError

__all__ = [
    "MODEL",
    "REGISTER",
    "LabState",
    "clear_leftovers",
    "default_state_dir",
    "make_state_dir",
    "process_start",
    "running",
    "runtime_dir",
]

_FILE = "lab.json"
#: Names the folder of all labs to the lab's own process: in a user namespace that cannot tell any more whose it is.
REGISTER = "ISOCHRONE_LAB_REGISTER"
#: The model that the inference servers of a lab share, in its state folder.
MODEL = "model.gguf"


def runtime_dir() -> Path:
    """The folder that all labs of this user share, made if needed and closed to others.

    Raises NotPermitted when somebody else owns it.
    """
    given = os.environ.get(REGISTER)
    if given:
        return Path(given)
    uid = os.getuid()
    folder = Path("/run/isochrone") if uid == 0 and os.access("/run", os.W_OK) else Path(tempfile.gettempdir()) / f"isochrone-{uid}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != uid or not folder.is_dir() or folder.is_symlink():
        raise NotPermitted(f"{folder} belongs to somebody else; remove it, or set TMPDIR to a folder of your own")
    (folder / "labs").mkdir(exist_ok=True)
    return folder


def default_state_dir() -> Path:
    """Where the lab of `isochrone lab up` keeps its state unless told otherwise."""
    return runtime_dir() / "lab"


def make_state_dir(folder: Path) -> bool:
    """Make a state folder where there is none; returns whether it is new. Raises UserError when nothing can be kept there."""
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return is_new
    except OSError as error:
        raise UserError(f"cannot keep the lab's state in {folder}: {error.strerror}; give another --state-dir") from None


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """One lab, as others find it.

    pid, pid_start   the process that is the network, and its start time in clock ticks since boot
    user_namespace   whether it lives in a user namespace of its own, which has to be entered first
    namespaces       site id -> name of its network namespace
    inodes           numbers of those namespaces in the kernel
    topology         the topology as its document, see Topology.document
    servers          site id -> process id of its inference server
    """

    id: str
    pid: int
    pid_start: int
    state_dir: str
    user_namespace: bool
    namespaces: dict[str, str]
    inodes: list[int]
    topology: dict[str, object]
    servers: dict[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the lab's process still runs."""
        return process_start(self.pid) == self.pid_start

    @property
    def prefix(self) -> str:
        """What the names of its namespaces begin with."""
        return f"iso-{self.id}-"

    @property
    def control(self) -> Path:
        """Its control socket."""
        return runtime_dir() / f"{self.id}.sock"

    def write(self) -> None:
        """Write the state file and the register's copy."""
        text = json.dumps(asdict(self))
        for path in (runtime_dir() / "labs" / self.id, Path(self.state_dir) / _FILE):
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.new")
            new.write_text(text)
            new.replace(path)

    def remove(self) -> None:
        """Remove both files and the socket."""
        state_file = Path(self.state_dir) / _FILE
        paths = [runtime_dir() / "labs" / self.id, self.control]
        kept = _load(state_file)
        if kept is not None and kept.id == self.id:
            paths.append(state_file)
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()

    def clear(self) -> None:
        """End every process in its namespaces and remove them, its files and its socket; the lab's process is gone."""
        present = {name: namespaces.inode(name) for name in namespaces.existing(self.prefix)}
        inodes = {number for number in present.values() if number is not None}
        if self.user_namespace:
            # The names died with the mount namespace. The numbers are known, but may be a living lab's by now.
            inodes = set(self.inodes).difference(*(other.inodes for other in _registered() if other.alive))
        namespaces.end_processes(inodes)
        namespaces.delete(present)
        self.remove()

    @classmethod
    def read(cls, state_dir: Path) -> LabState | None:
        """The state in a state folder; None when there is none."""
        return _load(state_dir / _FILE)


def _load(path: Path) -> LabState | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    try:
        values = json.loads(text)
        return LabState(**{name: values[name] for name in values if name in LabState.__slots__})
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not the state of a lab ({error}); remove it") from None


def _registered() -> Iterator[LabState]:
    for entry in sorted((runtime_dir() / "labs").iterdir()):
        if not entry.name.endswith(".new"):
            # What another version has written is left to it.
            with contextlib.suppress(UserError):
                state = _load(entry)
                if state is not None:
                    yield state


def running() -> list[LabState]:
    """Every lab of this user that is alive, in the order of their ids."""
    return [state for state in _registered() if state.alive]


def clear_leftovers() -> list[str]:
    """Clear away every registered lab whose process is gone; returns their ids."""
    dead = [state for state in _registered() if not state.alive]
    for state in dead:
        state.clear()
    return [state.id for state in dead]
