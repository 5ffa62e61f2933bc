"""The http probe without a network: the life of a visit, answers to the byte, URLs, and whose failure it was."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.http.config import HttpConfig, WebEndpoint, parse_url
from probes.http.failure import Failure, broken, not_connected, not_resolved, timed_out
from probes.http.session import Answer, Visit
from records.errors import ConfigError
from records.measurement import HttpResult

HEADER = {
    "id": "b-1",
    "agent": "a",
    "src": "sin",
    "dst": "fra",
    "medium": "internet",
    "target": "https://192.0.2.1/",
    "started_at_ns": 1,
    "engine": "test/1",
}
REFUSED = not_connected("192.0.2.1", errno.ECONNREFUSED, is_local=False)


def answer(reads: list[bytes], *, method: str = "GET", limit: int = 100_000) -> Answer:
    """Feed reads at 1, 2, 3, ... ns."""
    made = Answer(method=method, path="/", headers={"Host": "x"}, max_bytes=limit)
    for now_ns, data in enumerate(reads, 1):
        made.receive(data, now_ns)
    return made


def test_a_visit_times_each_phase_from_its_own_start() -> None:
    """dns 10, tcp 20, tls 30, then a request: first byte 7 and last byte 9 after its upload began; gaps belong to none."""
    visit = Visit(1000)
    for phase, began, ended in (("dns", 1000, 1010), ("tcp", 1100, 1120), ("tls", 1200, 1230)):
        visit.begin(phase, began)
        visit.end(ended)
    made = Answer(method="GET", path="/", headers={"Host": "x"}, max_bytes=1000)
    visit.ask(made, 1300)
    visit.uploaded(1301)
    assert visit.receive(b"HTTP/1.1 204 No Content\r\n", 1307)
    assert not visit.receive(b"\r\n", 1309)
    said = visit.report()
    assert (said["dns_ns"], said["tcp_ns"], said["tls_ns"]) == (10, 20, 30)
    assert (said["upload_ns"], said["ttfb_ns"], said["e2e_ns"], said["total_ns"]) == (1, 7, 9, 309)
    assert (said["outcome"], said["http_status"], said["response_bytes"], said["is_cut_off"]) == ("ok", 204, 27, False)


def test_a_phase_that_starts_again_forgets_what_followed() -> None:
    """A second connection after a refused certificate: its own times count, the look-up's stay."""
    visit = Visit(0)
    visit.begin("dns", 0)
    visit.end(5)
    visit.begin("tcp", 10)
    visit.end(11)
    visit.begin("tls", 12)
    visit.begin("tcp", 50)
    visit.end(53)
    visit.begin("tls", 60)
    visit.end(64)
    said = visit.report()
    assert (said["dns_ns"], said["tcp_ns"], said["tls_ns"], said["total_ns"]) == (5, 3, 4, 64)


def test_a_failure_ends_the_visit_and_keeps_what_was_measured() -> None:
    """TLS failed: the TCP time stays, TLS has none, and the first reason is the reason."""
    visit = Visit(0)
    visit.begin("tcp", 0)
    visit.end(4)
    visit.begin("tls", 5)
    visit.fail(Failure(outcome="tls_failed", phase="tls", source="target", error="handshake failure"), 9)
    visit.fail(REFUSED, 10)
    said = visit.report()
    assert (said["tcp_ns"], said["tls_ns"], said["error"], said["failed_phase"]) == (4, None, "handshake failure", "tls")


def test_a_visit_under_way_has_no_report() -> None:
    """Neither ended nor failed: asking for the report, or for a later phase, is a fault of the caller."""
    visit = Visit(0)
    visit.begin("tcp", 0)
    with pytest.raises(RuntimeError, match="still under way"):
        visit.report()
    with pytest.raises(RuntimeError, match="tls begins while tcp"):
        visit.begin("tls", 1)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("reads", "method", "status", "problem"),
    [
        ([OK], "GET", 200, None),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK], "GET", 200, None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"], "HEAD", 200, None),
        ([b"HTTP/1.0 404 Not Found\r\n\r\nuntil the end", b""], "GET", 404, None),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"], "GET", 200, None),
        ([b""], "GET", None, "closed the connection without an answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b""], "GET", 200, "broken HTTP"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n", b""], "GET", None, "broken HTTP"),
        ([b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000], "GET", None, "broken HTTP"),
    ],
    ids=["length", "early-hints", "head", "until-close", "chunked", "closed", "cut-off", "ssh", "endless-header"],
)
def test_answers(reads: list[bytes], method: str, status: int | None, problem: str | None) -> None:
    """Whatever h11 reads counts; whatever it refuses is the server's failure, told in one sentence."""
    made = answer(reads, method=method)
    assert made.is_finished
    assert made.status == status
    assert made.problem is None if problem is None else problem in (made.problem or "")


def test_reading_stops_at_the_limit() -> None:
    """An answer of any length is an answer; what came after the limit was not read."""
    made = answer([b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 60, b"y" * 5], limit=100)
    assert (made.is_finished, made.is_cut_off, made.problem, made.bytes, made.last_byte_ns) == (True, True, None, 104, 1)
    assert "no HTTP status" in (answer([b"HTTP/1.1 200 OK\r\nA: " + b"x" * 90], limit=100).problem or "")


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(["GET", "HEAD"]))
@settings(max_examples=500)
def test_any_bytes_are_an_answer_or_a_reason(reads: list[bytes], method: str) -> None:
    """Nothing a server can send raises; at its close the answer is finished, with a status or a problem."""
    made = answer([*reads, b""], method=method)
    assert made.is_finished
    assert made.status is not None or made.problem is not None


@given(st.integers(200, 599), st.binary(max_size=300), st.data())
@settings(max_examples=200)
def test_where_an_answer_is_split_does_not_matter(status: int, body: bytes, data: st.DataObject) -> None:
    """The same bytes in other reads: the same status and size, no problem."""
    whole = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + (b"" if status in (204, 304) else body)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    made = answer([part for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if (part := whole[a:b])])
    assert (made.is_finished, made.status, made.problem, made.bytes) == (True, status, None, len(whole))


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("example.net", WebEndpoint(protocol="https", host="example.net", port=443, path="/")),
        ("https://Example.NET:8443/a?b=c#d", WebEndpoint(protocol="https", host="example.net", port=8443, path="/a?b=c")),
        ("http://192.0.2.1", WebEndpoint(protocol="http", host="192.0.2.1", port=80, path="/")),
        ("tls://[2001:db8::1]", WebEndpoint(protocol="tls", host="2001:db8::1", port=443)),
        ("tcp://example.net:22/", WebEndpoint(protocol="tcp", host="example.net", port=22)),
    ],
)
def test_urls(url: str, endpoint: WebEndpoint) -> None:
    """What a URL means; as it is stored it means the same."""
    assert parse_url(url) == endpoint
    assert parse_url(endpoint.url) == endpoint


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("tcp://example.net", "has no port"),
        ("ftp://example.net/", "no protocol of tcp, tls, http, https"),
        ("https://", "or no host"),
        ("https://u:geheim@example.net/", "user name or password"),
        ("tls://example.net/path", "asks for nothing"),
        ("https://example.net:99999/", "cannot be read"),
        ("https://example.net:0/", "has no port"),
        ("https://ex ample.net/", "characters that a URL cannot hold"),
    ],
)
def test_urls_that_are_refused(url: str, said: str) -> None:
    """One clear message; a password is never repeated."""
    with pytest.raises(ConfigError, match=said) as refused:
        parse_url(url)
    assert "geheim" not in str(refused.value)


@given(st.text(max_size=40) | st.from_regex(r"(tcp|tls|https?)://[^ ]{0,30}", fullmatch=True))
@settings(max_examples=500)
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """No other exception, and what is taken comes back from its own URL."""
    try:
        endpoint = parse_url(text)
    except ConfigError:
        return
    assert parse_url(endpoint.url) == endpoint


@pytest.mark.parametrize("wrong", [{"timeout_ms": 0}, {"timeout_ms": True}, {"method": "POST"}, {"family": "6"}, {"contact": "a\nb"}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    """Out of range, not on the list, or a header of its own: refused by name."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HttpConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failure", "outcome", "source"),
    [
        (not_resolved("x", "EAI_NONAME"), "no_such_name", "resolver"),
        (not_resolved("x", "EAI_AGAIN"), "resolver_failed", "resolver"),
        (not_resolved("x", "EAI_MEMORY"), "agent_failed", "agent"),
        (not_connected("x", errno.ECONNREFUSED, is_local=False), "refused", "target"),
        (not_connected("x", errno.ECONNREFUSED, is_local=True), "refused", "target"),  # loopback answers inside connect(2)
        (not_connected("x", errno.ENETUNREACH, is_local=True), "agent_failed", "agent"),
        (not_connected("x", errno.ENETUNREACH, is_local=False), "unreachable", "path"),
        (not_connected("x", errno.EHOSTUNREACH, is_local=False), "unreachable", "path"),
        (not_connected("x", errno.EACCES, is_local=False), "unreachable", "path"),
        (not_connected("x", errno.ETIMEDOUT, is_local=False), "timeout", "path"),
        (not_connected("x", errno.EMFILE, is_local=True), "agent_failed", "agent"),
        (timed_out("dns", "x", 1, is_unacknowledged=None), "timeout", "resolver"),
        (timed_out("tcp", "x", 1, is_unacknowledged=None), "timeout", "path"),
        (timed_out("tls", "x", 1, is_unacknowledged=True), "timeout", "path"),
        (timed_out("tls", "x", 1, is_unacknowledged=False), "timeout", "target"),
        (timed_out("http", "x", 1, is_unacknowledged=False), "timeout", "target"),
        (broken("tls", "x", errno.ECONNRESET), "reset", "target"),
        (broken("http", "x", errno.EHOSTUNREACH), "unreachable", "path"),
    ],
)
def test_whose_failure_it_was(failure: Failure, outcome: str, source: str) -> None:
    """The table of probes/http/failure.py, and a result can be written with each."""
    assert (failure.outcome, failure.source) == (outcome, source)
    HttpResult(
        **HEADER,
        protocol="https",
        outcome=failure.outcome,
        failed_phase=failure.phase,
        failure_source=failure.source,
        error=failure.error,
    )
