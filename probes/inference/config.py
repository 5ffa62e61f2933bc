"""Settings of the inference probe, and the request they make. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from records.errors import ConfigError

__all__ = ["Endpoint", "InferenceConfig", "parse_endpoint", "prompt_text", "request_body"]

#: Common words of one token in most vocabularies; which ones matters to nobody.
_WORDS = ("the", "time", "of", "a", "day", "and", "the", "way", "to", "the", "sea", "is", "long", "but", "we", "go", "on", "with")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """How an endpoint is asked. Every request costs its owner tokens: the defaults are small.

    prompt_tokens       about how many tokens the prompt has (words of one token each; the server reports the true number)
    max_tokens          most tokens of the answer
    timeout_ms          for the whole of it, from DNS to the last byte
    connect_timeout_ms  for DNS, TCP and TLS together, and for the list of models where it is asked for
    warm                measure over a kept connection, which pays no hand-shakes; else each request opens its own
    max_response_bytes  an answer longer than this is cut off and counts as broken
    api                 chat (/chat/completions) or completions (/completions)
    token_limit_field   how the server calls the limit of the answer: max_tokens or max_completion_tokens
    http                auto (what TLS agrees on, HTTP/1.1 without TLS), 1.1, or 2 (without TLS by prior knowledge)
    daily_requests      most requests in a day (UTC) to all targets together; 0: any number
    daily_tokens        most tokens in a day, prompts and answers, as the servers count them; 0: any number
    budget_file         where the day's count is kept over restarts; empty: in the agent beside its spool, else nowhere
    heed_retry_after    leave a target alone for as long as its 429 or 503 asks
    ca_file             PEM file of the authority that signs the endpoints' certificates; empty: the system's
    """

    prompt_tokens: int = 64
    max_tokens: int = 16
    timeout_ms: int = 30_000
    connect_timeout_ms: int = 5_000
    warm: bool = False
    max_response_bytes: int = 1_000_000
    api: str = "chat"
    token_limit_field: str = "max_tokens"  # noqa: S105  the tokens of a model, not a secret
    http: str = "auto"
    daily_requests: int = 0
    daily_tokens: int = 0
    budget_file: str = ""
    heed_retry_after: bool = True
    ca_file: str = ""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("prompt_tokens", 1, 1_000_000),
            ("max_tokens", 1, 100_000),
            ("timeout_ms", 1, 3_600_000),
            ("connect_timeout_ms", 1, 3_600_000),
            ("max_response_bytes", 1_000, 1_000_000_000),
            ("daily_requests", 0, 1_000_000_000),
            ("daily_tokens", 0, 1_000_000_000_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(f"inference {name} is {value!r}; give a whole number from {least} to {most}")
        for name, allowed in (
            ("api", ("chat", "completions")),
            ("token_limit_field", ("max_tokens", "max_completion_tokens")),
            ("http", ("auto", "1.1", "2")),
        ):
            if (chosen := getattr(self, name)) not in allowed:
                raise ConfigError(f"inference {name} is {chosen!r}; give one of {', '.join(allowed)}")
        for name in ("warm", "heed_retry_after"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"inference {name} is {getattr(self, name)!r}; give true or false")
        if 0 < self.daily_tokens < self.most_tokens:
            raise ConfigError(
                f"inference daily_tokens is {self.daily_tokens}, and one request may take {self.most_tokens} (prompt_tokens "
                "and max_tokens); give more, or 0 for no limit"
            )
        if not isinstance(self.ca_file, str):
            raise ConfigError(f"inference ca_file is {self.ca_file!r}; give the path of a PEM file")

    @property
    def most_tokens(self) -> int:
        """What one request may take from the budget of tokens."""
        return self.prompt_tokens + self.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A base URL taken apart. `url` is how results name it: without user, password, query and fragment."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port as a Host header names them; the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL as it may be stored and shown."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_endpoint(url: str) -> Endpoint:
    """A base URL such as ``https://host:8080/v1``. Raises ConfigError, which never repeats a password."""
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        raise ConfigError(f"an inference URL cannot be read ({error}); give one such as http://192.0.2.1:8080/v1") from None
    if parts.scheme not in ("http", "https") or not host:
        shown = f"{parts.scheme}://{host or ''}" if parts.scheme else url.rpartition("@")[2]
        raise ConfigError(f"inference URL {shown!r} is not http:// or https:// with a host; give one such as http://192.0.2.1:8080/v1")
    if not (host.isascii() and (host + parts.path).isprintable() and parts.path.isascii() and " " not in host + parts.path):
        raise ConfigError(f"inference URL of host {host!r} has characters that a URL cannot hold; encode them")
    return Endpoint(scheme=parts.scheme, host=host, port=port or (443 if parts.scheme == "https" else 80), path=parts.path.rstrip("/"))


def prompt_text(token_count: int, nonce: str) -> str:
    """A prompt of about `token_count` tokens. The nonce stands first, so that no server has its prefix in a cache."""
    words = [_WORDS[i % len(_WORDS)] for i in range(max(0, token_count - len(nonce) // 2))]
    return " ".join([nonce, *words])


def request_body(config: InferenceConfig, model: str, prompt: str) -> tuple[str, bytes]:
    """Path below the base URL, and the JSON body, of one streaming request."""
    body: dict[str, object] = {"model": model}
    if config.api == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    body |= {config.token_limit_field: config.max_tokens, "stream": True, "stream_options": {"include_usage": True}}
    path = "/chat/completions" if config.api == "chat" else "/completions"
    return path, json.dumps(body, separators=(",", ":")).encode()
