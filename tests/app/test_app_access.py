"""The sign-in's file: what is refused before anything listens, who has which role, and that nothing secret is ever said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from app.access import Access, read_access, role_of
from app.cli import root
from records.errors import ConfigError, UserError

SECRET = "s3cret-of-the-client"
GOOD = f"""
[auth]
redirect_uri = "http://127.0.0.1:8501/oauth2callback"
cookie_secret = "{"k" * 32}"
client_id = "isochrone"
client_secret = "{SECRET}"
server_metadata_url = "http://127.0.0.1:1/.well-known/openid-configuration"

[roles]
analyst = ["noc@example.net"]
reader = ["*@example.net"]
"""


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """An access file."""
    path = folder / "access.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("email", "verified", "role"),
    [
        ("noc@example.net", None, "analyst"),
        ("NOC@Example.NET", True, "analyst"),
        ("someone@example.net", True, "reader"),
        ("someone@example.net", False, None),
        ("someone@example.net.evil.org", True, None),
        ("noc@example.net\n@example.org", True, None),
        (None, True, None),
    ],
)
def test_roles_by_address(tmp_path: Path, email: str | None, verified: bool | None, role: str | None) -> None:
    """The first role that matches counts; an unverified address, a longer one, or none has no role."""
    claims = {"email": email} | ({} if verified is None else {"email_verified": verified})
    assert role_of(read_access(written(tmp_path, GOOD)), claims) == role


def test_nobody_has_a_role_where_none_is_given() -> None:
    """An empty table lets nobody in."""
    assert role_of(Access({}), {"email": "a@b"}) is None


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (GOOD, 0o640, "chmod 600"),
        (GOOD.replace("k" * 32, "short"), 0o600, "fewer than 32"),
        (GOOD.replace('client_id = "isochrone"', ""), 0o600, "lacks client_id"),
        (GOOD.partition("[roles]")[0], 0o600, "no [roles]"),
        (GOOD + 'admin = ["*@example.net"]', 0o600, "'admin'"),
        (GOOD.replace('["*@example.net"]', '"everybody"'), 0o600, "list of addresses"),
        ("[roles]", 0o600, "no [auth]"),
        ("not toml at all", 0o600, "not TOML"),
    ],
)
def test_a_bad_file_is_refused_without_a_secret(tmp_path: Path, text: str, mode: int, says: str) -> None:
    """What is wrong, in one sentence; no value of the file in it."""
    with pytest.raises(ConfigError) as caught:
        read_access(written(tmp_path, text, mode))
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("command", ["dashboard", "up"])
def test_pages_off_loopback_need_a_door(tmp_path: Path, command: str) -> None:
    """Pages that others can reach need a sign-in, or the word that they are open; nothing is started or made."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"a": "0123456789abcdef"}')
    tokens.chmod(0o600)
    words = [command, "--host", "0.0.0.0", "--warehouse", str(tmp_path / "data")]
    found = CliRunner().invoke(root, words + (["--tokens", str(tokens)] if command == "up" else []))
    assert isinstance(found.exception, UserError)
    assert "--access" in str(found.exception)
    assert "--open" in str(found.exception)
    assert not (tmp_path / "data").exists()
