"""A configuration that the collector hands on: who signed it, what of it an agent takes, and the last good one on disk.

What the PoP's own file says is law here. A pushed configuration says what is measured and how often, and nothing else:

- it may hold ``[mesh]``, ``[[probe]]`` and ``[[target]]``, each of which takes the place of the own file's, and ``[limits]``, where the
  lesser of the two holds, key by key;
- whom the agent may measure (policy, private addresses), where it sends and what it serves are the own file's;
- it names no file and no environment variable but those that the own file names for the same target or probe type: no secret of the
  PoP can be sent where the PoP did not send it;
- where the own file has a budget for a probe type, the lesser holds too, and there are no more ``[[probe]]`` of it than there.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from probes.segment import fsync_folder
from probes.settings import LimitSettings
from probes.strict import build
from records.errors import ConfigError, OutsideError
from records.pushed import MAX_PUSHED_BYTES, Pushed, Signed

__all__ = ["PushedFile", "key_text", "merged", "pin", "verified"]

_TABLES = ("limits", "mesh", "probe", "target")
_LOCAL_KEYS = ("_file", "_dir", "_env")
_FILE, _GENERATION_FILE = "config.json", "config-generation.json"
#: What bounds the spending of a probe type: numbers (0: no bound), or numbers by cloud.
_BUDGETS = ("bytes_per_day", "usd_per_day", "daily_requests", "daily_tokens", "max_bytes", "estimate_max_bytes")
#: What belongs to a budget and comes with it.
_OF_BUDGETS = ("budget_file", "egress_usd_per_gb")


def key_text(text: str) -> str:
    """A public key as it is kept: PEM of an Ed25519 key. Raises ConfigError."""
    _key(text)
    return text.strip() + "\n"


def verified(document: bytes, key: str, *, agent: str, site: str) -> Pushed:
    """What a signed document says, once it is known to be signed with `key` and to be for this agent. Raises ConfigError."""
    from cryptography.exceptions import InvalidSignature  # an agent that takes no configuration does without

    signed = Signed.of(document)
    try:
        _key(key).verify(signed.signature, signed.message())
    except InvalidSignature:
        raise ConfigError("it is not signed with the key that was pinned at enrolment") from None
    pushed = Pushed.of(signed.payload)
    if not pushed.is_for(agent, site):
        raise ConfigError(f"generation {pushed.generation} is for {pushed.audience}, and this is agent {agent} at site {site}")
    return pushed


def _key(text: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("the key of pushed configurations is no PEM of an Ed25519 public key")
    return key


def merged(own: Mapping[str, object], pushed: Pushed) -> dict[str, object]:
    """The tables that hold: of the own file and of what was pushed. Raises ConfigError when that says what it must not."""
    if len(pushed.toml.encode("utf-8", "surrogatepass")) > MAX_PUSHED_BYTES:
        raise ConfigError(f"it is larger than {MAX_PUSHED_BYTES} bytes")
    try:
        theirs = tomllib.loads(pushed.toml)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and integers too long to read
        raise ConfigError(f"it is not valid TOML: {error}") from None
    types = _own_types(own)
    for entry in _entries(theirs.get("probe")):
        if types is not None and entry.get("type") not in types:
            raise ConfigError(f"[[probe]] {entry.get('type')!r} is not among policy.pushed_types of the PoP's own file: {', '.join(types)}")
    for name in theirs:
        if name not in _TABLES:
            raise ConfigError(f"[{name}] is for the PoP's own file to say; {', '.join(_TABLES)} can be pushed")
    _check_local(theirs, own)
    made = dict(own) | {name: table for name, table in theirs.items() if name != "limits"}
    if "limits" in theirs:
        made["limits"] = _lesser(own.get("limits", {}), theirs["limits"])
    if "probe" in theirs:
        made["probe"] = _within_budgets(theirs["probe"], _entries(own.get("probe")))
    return made


def _within_budgets(theirs: object, own: Sequence[Mapping[str, object]]) -> object:
    """The pushed probes, none of which may spend more than the own file lets its type."""
    if not isinstance(theirs, list):
        return theirs  # refused by whoever reads it
    made: list[object] = []
    for entry in theirs:
        mine = [known for known in own if isinstance(entry, dict) and known.get("type") == entry.get("type")]
        bounded = [known for known in mine if any(known.get(key) for key in _BUDGETS)]
        if not bounded:
            made.append(entry)
            continue
        if sum(isinstance(other, dict) and other.get("type") == entry["type"] for other in theirs) > len(mine):
            raise ConfigError(f"the PoP's own file has budgets for {entry['type']}: no more [[probe]] of it than there can be pushed")
        first = bounded[0]
        kept = {key: first[key] for key in _OF_BUDGETS if key in first}
        made.append(entry | {key: _tighter(entry.get(key), first[key]) for key in _BUDGETS if first.get(key)} | kept)
    return made


def _tighter(theirs: object, own: object) -> object:
    """The lesser of two budgets, cloud by cloud; what is no budget is left to whoever reads it."""
    if isinstance(own, dict) and isinstance(theirs, dict | None):
        return (theirs or {}) | {cloud: _tighter((theirs or {}).get(cloud), value) for cloud, value in own.items()}
    if isinstance(theirs, int | float) and isinstance(own, int | float) and theirs > 0:
        return min(theirs, own)
    return own if theirs is None or theirs == 0 else theirs


def _own_types(own: Mapping[str, object]) -> list[str] | None:
    """The probe types that may be pushed; None: all."""
    policy = own.get("policy")
    types = policy.get("pushed_types") if isinstance(policy, dict) else None
    return [str(name) for name in types] if isinstance(types, list) else None


def _lesser(own: object, theirs: object) -> dict[str, object]:
    """Of every limit the lesser."""
    limits = []
    for table in (own, theirs):
        if not isinstance(table, dict):
            raise ConfigError("limits must be a table, [limits]")
        limits.append(asdict(build(LimitSettings, table, where="[limits]", folder=Path("/"))))
    named = {field.name for field in fields(LimitSettings) if isinstance(theirs, dict) and field.name in theirs}
    return limits[0] | {name: min(limits[0][name], limits[1][name]) for name in named}


def _check_local(theirs: Mapping[str, object], own: Mapping[str, object]) -> None:
    """Raise ConfigError for what names a file or a variable of this host that the own file does not name in the same place."""
    mine = {name: list(_entries(own.get(name))) for name in ("probe", "target")}
    for name in _TABLES:
        for entry in _entries(theirs.get(name)):
            local = {key: value for key, value in entry.items() if key.endswith(_LOCAL_KEYS)}
            if local and not any(_is_same_place(name, entry, known, local) for known in mine.get(name, [])):
                said = ", ".join(sorted(local))
                raise ConfigError(f"[{name}] names {said}: files and variables are for the PoP's own file to say, for the same {name}")


def _is_same_place(name: str, entry: Mapping[str, object], known: Mapping[str, object], local: Mapping[str, object]) -> bool:
    if name == "probe":
        return entry.get("type") == known.get("type") and all(known.get(key) == value for key, value in local.items())
    return {**entry, "medium": entry.get("medium", "internet")} == {**known, "medium": known.get("medium", "internet")}


def _entries(value: object) -> Sequence[Mapping[str, object]]:
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, dict)]


class PushedFile:
    """The last good configuration, as it was signed, in the spool's folder: it holds again after a restart, and older ones do not.

    How new it is stands in a file of its own too: what damages the one does not open the way for an older one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._generation_path = folder / _GENERATION_FILE

    def read(self) -> bytes | None:
        """What was kept; None where there is nothing. Raises ConfigError when it cannot be read."""
        return _content(self.path, 2 * MAX_PUSHED_BYTES + 1)

    def generation(self, key: str) -> int:
        """The newest generation that was taken by this key; 0 where there was none. Raises ConfigError where that cannot be told."""
        content = _content(self._generation_path, 1000)
        if content is None:
            return 0
        try:
            kept = json.loads(content)
            signer, generation = kept["key"], kept["generation"]
        except (ValueError, RecursionError, KeyError, TypeError):
            signer = generation = None
        if not isinstance(signer, str) or not isinstance(generation, int):
            raise ConfigError(f"{self._generation_path} is damaged")
        return generation if signer == _signer(key) else 0  # another key counts anew

    def write(self, document: bytes, generation: int, key: str) -> None:
        """Keep it, whole or not at all, and before it how new it is; both on disk when it returns. Raises OutsideError."""
        self.remember(generation, key)
        _replace(self.path, document, 0o600, "the pushed configuration")

    def remember(self, generation: int, key: str) -> None:
        """Keep how new the newest is; on disk when it returns. Raises OutsideError."""
        newest = json.dumps({"generation": generation, "key": _signer(key)}).encode()
        _replace(self._generation_path, newest, 0o600, "the generation of the pushed configuration")


def _content(path: Path, most_bytes: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _signer(key: str) -> str:
    """A key's own 32 bytes in hexadecimal: however its file is written, it is the same one."""
    made: bytes = _key(key).public_bytes_raw()
    return made.hex()


def pin(path: Path, key: str) -> None:
    """Keep the key that pushed configurations are signed with, in place of another one. Raises ConfigError and OutsideError."""
    _replace(path, key_text(key).encode("ascii"), 0o644, "the key of pushed configurations")


def _replace(path: Path, content: bytes, mode: int, what: str) -> None:
    """Write a file whole or not at all; on disk when it returns."""
    draft: Path | None = None
    try:
        fd, name = tempfile.mkstemp(suffix=".tmp", dir=path.parent)  # which a spool clears away
        draft = Path(name)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise OutsideError(f"{what} cannot be kept in {path}: {error.strerror}") from error
