"""Settings, URLs and requests of the inference probe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.inference import InferenceConfig
from probes.inference.config import parse_endpoint, prompt_text, request_body
from records.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "shown", "authority"),
    [
        ("http://10.0.0.1:8080/v1", "http://10.0.0.1:8080/v1", "10.0.0.1:8080"),
        ("https://api.example.com/v1/", "https://api.example.com/v1", "api.example.com"),
        ("https://me:secret@api.example.com:443/v1?key=secret#x", "https://api.example.com/v1", "api.example.com"),
        ("http://[2001:db8::1]:8080/v1", "http://[2001:db8::1]:8080/v1", "[2001:db8::1]:8080"),
        ("http://host", "http://host", "host"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str, authority: str) -> None:
    """What is stored of a URL is scheme, host, port and path."""
    endpoint = parse_endpoint(url)
    assert (endpoint.url, endpoint.authority) == (shown, authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://x/v1",
        "http://",
        "http://u:secret@",
        "http://h:99999/",
        "http://a b/",
        "http://[::1/",
        "http://h/a b\r\nX: y",
    ],
)
def test_unusable_urls_are_config_errors(url: str) -> None:
    """A URL that cannot be used says so, without repeating a password."""
    with pytest.raises(ConfigError) as refused:
        parse_endpoint(url)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_url_is_an_endpoint_or_a_config_error(url: str) -> None:
    """No text crashes the URL parser, and an accepted one makes a header that h11 sends."""
    try:
        endpoint = parse_endpoint(url)
    except ConfigError:
        return
    assert endpoint.authority.isascii()
    assert "\n" not in endpoint.path


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_tokens": 0},
        {"max_tokens": 10**9},
        {"timeout_ms": -1},
        {"timeout_ms": True},
        {"api": "grpc"},
        {"token_limit_field": "n"},
        {"warm": "yes"},
        {"max_response_bytes": 1},
    ],
)
def test_settings_out_of_range_name_the_setting(wrong: dict[str, object]) -> None:
    """A wrong setting is a ConfigError that names it, its value and what is allowed."""
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*give"):
        InferenceConfig(**wrong)  # type: ignore[arg-type]


def test_request_asks_for_a_stream_with_counts() -> None:
    """Both APIs ask to stream, with the server's counts at the end, and keep the token limit."""
    path, body = request_body(InferenceConfig(max_tokens=7), "m", "hello")
    assert path == "/chat/completions"
    asked = json.loads(body)
    assert asked == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    path, body = request_body(InferenceConfig(api="completions", token_limit_field="max_completion_tokens", max_tokens=7), "m", "hello")
    assert path == "/completions"
    assert {"prompt": "hello", "max_completion_tokens": 7}.items() <= json.loads(body).items()


def test_prompts_differ_from_their_first_word() -> None:
    """The nonce comes first, so that no prefix of one prompt is in a server's cache for the next."""
    assert prompt_text(64, "aaaa").split()[0] == "aaaa"
    assert len(prompt_text(64, "0123456789abcdef").split()) == 1 + 64 - 8
