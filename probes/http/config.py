"""Settings of the http probe, and the URL it measures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from records.errors import ConfigError
from records.measurement import HttpProtocol

__all__ = ["PORTS", "HttpConfig", "WebEndpoint", "parse_url"]

Family = Literal["auto", "ipv4", "ipv6"]

#: The port of a protocol that has one of its own.
PORTS: dict[str, int] = {"http": 80, "https": 443, "tls": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """How an endpoint is measured. One measurement is one connection, two with `resume`.

    resume              after a connection with TLS open another one that offers its session
    method              GET or HEAD
    timeout_ms          a phase (look-up, TCP to one address, TLS, request) that takes longer has failed
    max_response_bytes  the answer is read up to here and no further
    family              auto (as the resolver orders them), ipv4 or ipv6
    ca_file             PEM file of the authority that signs the endpoints' certificates; empty: the system's
    contact             whom the endpoint's owner may ask, shown in the User-Agent, such as noc@example.net
    """

    resume: bool = True
    method: str = "GET"
    timeout_ms: int = 3_000
    max_response_bytes: int = 65_536
    family: str = "auto"
    ca_file: str = ""
    contact: str = ""

    def __post_init__(self) -> None:
        for name, least, most in (("timeout_ms", 1, 60_000), ("max_response_bytes", 1, 100_000_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(f"http {name} is {value!r}; give a whole number from {least} to {most}")
        for name, allowed in (("method", ("GET", "HEAD")), ("family", get_args(Family))):
            if (chosen := getattr(self, name)) not in allowed:
                raise ConfigError(f"http {name} is {chosen!r}; give one of {', '.join(allowed)}")
        if not (self.contact.isascii() and self.contact.isprintable()) or len(self.contact) > 200 or set(self.contact) & set("()\\"):
            raise ConfigError(
                f"http contact is {self.contact!r}; give at most 200 plain characters without brackets, as in noc@example.net"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebEndpoint:
    """What a URL says: how far to go, whither, and what to ask for there.

    path  with its query; empty for tcp and tls, which ask for nothing
    """

    protocol: HttpProtocol
    host: str
    port: int
    path: str = ""

    @property
    def has_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.protocol in ("tls", "https")

    @property
    def has_request(self) -> bool:
        """Whether a request is made."""
        return self.protocol in ("http", "https")

    @property
    def authority(self) -> str:
        """Host and port as a URL and a Host header name them; the protocol's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS.get(self.protocol) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As it is stored and shown; it holds no user, password or fragment."""
        return f"{self.protocol}://{self.authority}{self.path}"


def parse_url(url: str) -> WebEndpoint:
    """An endpoint from ``https://host/path``, ``http://``, ``tls://host`` or ``tcp://host:port``; a bare host means https.

    Raises ConfigError, which never repeats a password.

    >>> parse_url("tcp://[2001:db8::1]:179"), parse_url("example.net").url
    (WebEndpoint(protocol='tcp', host='2001:db8::1', port=179, path=''), 'https://example.net/')
    """
    example = "give one such as https://host/path, http://host:8080/, tls://host:443 or tcp://host:22"
    text = url if "://" in url else f"https://{url}"
    shown = text.rpartition("@")[2]
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ConfigError(f"URL {shown!r} cannot be read ({error}); {example}") from None
    if parts.scheme not in get_args(HttpProtocol) or not host:
        raise ConfigError(f"URL {shown!r} has no protocol of {', '.join(get_args(HttpProtocol))}, or no host; {example}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"the URL of host {host!r} carries a user name or password; leave them out, nothing is signed in to")
    if not ((host + parts.path + parts.query).isascii() and (host + parts.path + parts.query).isprintable()) or " " in text:
        raise ConfigError(f"URL {shown!r} has characters that a URL cannot hold; encode them (a name as punycode, the rest with %)")
    port = port if port is not None else PORTS.get(parts.scheme)
    if port is None or port == 0:
        raise ConfigError(f"URL {shown!r} has no port, and {parts.scheme} has none of its own; {example}")
    protocol = cast("HttpProtocol", parts.scheme)
    path = ""
    if protocol in ("http", "https"):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    elif parts.path.strip("/") or parts.query:
        raise ConfigError(f"URL {shown!r} has a path, and {protocol} asks for nothing; leave it out or write http:// or https://")
    return WebEndpoint(protocol=protocol, host=host, port=port, path=path)
