"""The http probe against real servers on loopback: TLS 1.2 and 1.3, resumed, badly certified, silent, broken; and the resolver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from probes import resolve
from probes.http import HttpConfig, HttpProbe
from probes.model import Target, Vantage
from probes.resolve import Addresses, ResolveFailed, Resolver
from records.errors import ConfigError
from records.measurement import HttpResult

pytestmark = [pytest.mark.alone, pytest.mark.waits]

ANSWER = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    """A CA, and the file of its certificate."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, str(path)


@contextlib.contextmanager
def serving(handle: Callable[[socket.socket], None], context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """A server on a port of loopback that hands each connection (after TLS, with a context) to `handle` in a thread."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                if context is None:
                    handle(connection)
                else:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        handle(secure)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def forbid(connection: socket.socket) -> None:
    """An HTTP server that refuses everybody who asks; who only connects asks nothing."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        if not (more := connection.recv(4096)):
            return
        heard += more
    connection.sendall(ANSWER)


def silent(connection: socket.socket) -> None:
    """Takes everything and says nothing."""
    while connection.recv(4096):
        pass


def mail(connection: socket.socket) -> None:
    """Speaks another protocol, then ends."""
    connection.sendall(b"220 mail.example ESMTP\r\n")
    connection.shutdown(socket.SHUT_WR)
    silent(connection)


def context_of(ca: trustme.CA, *names: str, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = most
    context.set_alpn_protocols(["http/1.1"])
    ca.issue_cert(*names).configure_cert(context)
    return context


def measure(url: str, **settings: object) -> tuple[HttpResult, ...]:
    async def once() -> tuple[HttpResult, ...]:
        probe = HttpProbe(HttpConfig(**{"timeout_ms": 2000, **settings}))  # type: ignore[arg-type]
        await probe.open()
        try:
            made = await probe.once(Target(site="x", address="127.0.0.1", http_url=url), Vantage(agent="a", site="s", boot="b"))
        finally:
            await probe.close()
        assert all(isinstance(line, HttpResult) for line in made)
        return made  # type: ignore[return-value]

    return asyncio.run(once())


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("protocol", ["tls", "https"])
def test_tls_in_full_and_resumed(ca: tuple[trustme.CA, str], version: str, protocol: str) -> None:
    """The second connection resumes the session of the first and looks nothing up; both are split by phase."""
    most = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    # Without a request the ticket of TLS 1.3 still comes: the server sends it on its own.
    with serving(forbid, context_of(ca[0], "localhost", most=most)) as port:
        first, second = measure(f"{protocol}://localhost:{port}", ca_file=ca[1])
    for one in (first, second):
        assert (one.outcome, one.tls_version, one.tls_alpn, one.tls_verified) == ("ok", version, "http/1.1", True)
        assert one.address == "127.0.0.1"
        assert None not in (one.tcp_ns, one.tcp_rtt_ns, one.tls_ns)
        assert one.http_status == (403 if protocol == "https" else None)
    assert (first.tls_resumed, second.tls_resumed) == (None, True)
    assert first.dns_ns is not None
    assert second.dns_ns is None


def test_a_bad_certificate_is_said_and_timed_all_the_same(ca: tuple[trustme.CA, str]) -> None:
    """Unknown authority, and a name that is not the certificate's: the reason is kept, the phases are there, resumption too."""
    with serving(forbid, context_of(trustme.CA(), "localhost")) as port:
        first, second = measure(f"https://localhost:{port}/", ca_file=ca[1])
    assert (first.outcome, first.tls_verified, first.http_status) == ("ok", False, 403)
    assert "issuer" in (first.tls_error or "")
    assert (second.tls_resumed, second.tls_verified, second.tls_error) == (True, False, first.tls_error)
    with serving(forbid, context_of(ca[0], "other.example")) as port:
        wrong_name = measure(f"tls://localhost:{port}", ca_file=ca[1], resume=False)[0]
    assert "Hostname mismatch" in (wrong_name.tls_error or "")
    assert wrong_name.tls_ns is not None


def test_plain_http_and_tcp() -> None:
    """Without TLS there is no TLS time; tcp alone asks for nothing; one connection each."""
    with serving(forbid) as port:
        (http,) = measure(f"http://127.0.0.1:{port}/x")
        (tcp,) = measure(f"tcp://127.0.0.1:{port}")
    assert (http.http_status, http.response_bytes, http.tls_ns, http.dns_ns) == (403, len(ANSWER), None, None)
    assert (tcp.outcome, tcp.http_status, tcp.upload_ns) == ("ok", None, None)
    assert tcp.tcp_rtt_ns is not None


def test_the_rtt_is_the_kernels_while_the_loop_is_blocked() -> None:
    """The user-space time contains a stall of 50 ms that happens during the hand-shake; the kernel's RTT does not."""

    async def blocked() -> HttpResult:
        probe = HttpProbe(HttpConfig())
        await probe.open()
        with serving(silent) as port:
            asyncio.get_running_loop().call_soon(time.sleep, 0.05)
            target = Target(site="x", address="127.0.0.1", http_url=f"tcp://127.0.0.1:{port}")
            (made,) = await probe.once(target, Vantage(agent="a", site="s", boot="b"))
        await probe.close()
        assert isinstance(made, HttpResult)
        return made

    made = asyncio.run(blocked())
    assert made.tcp_ns is not None
    assert made.tcp_rtt_ns is not None
    assert made.tcp_ns >= 45_000_000 > made.tcp_rtt_ns


def test_the_first_byte_is_timed_by_the_kernel_while_the_loop_is_blocked() -> None:
    """The answer is there when the loop is blocked for 60 ms; none of them is in its time."""

    async def blocked() -> tuple[HttpResult, int]:
        probe = HttpProbe(HttpConfig(resume=False))
        await probe.open()
        answered = threading.Event()

        def answer(connection: socket.socket) -> None:
            forbid(connection)
            answered.set()
            silent(connection)

        with serving(answer) as port:
            target = Target(site="x", address="127.0.0.1", http_url=f"http://127.0.0.1:{port}/")
            began_ns = time.monotonic_ns()
            asking = asyncio.ensure_future(probe.once(target, Vantage(agent="a", site="s", boot="b")))
            while not answered.is_set() and not asking.done():  # noqa: ASYNC110  a thread sets it
                await asyncio.sleep(0)
            time.sleep(0.06)  # noqa: ASYNC251  this is the blocking
            (made,) = await asking
        took_ns = time.monotonic_ns() - began_ns
        await probe.close()
        assert isinstance(made, HttpResult)
        return made, took_ns

    for _ in range(5):  # the loop may have read the answer before the server's thread said that it had sent it
        made, took_ns = asyncio.run(blocked())
        assert (made.ts_source, made.http_status) == ("kernel_rx", 403)
        assert made.ttfb_ns is not None
        if made.ttfb_ns <= took_ns - 55_000_000:
            break
    assert made.ttfb_ns <= took_ns - 55_000_000


@pytest.mark.parametrize("protocol", ["tcp", "tls", "http", "https"])
def test_every_phase_over_ipv6(ca: tuple[trustme.CA, str], protocol: str) -> None:
    """An IPv6 address needs no look-up; every phase that is asked for has its time, and no other."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().strip():
        pytest.skip("this host has no IPv6 loopback")
    context = context_of(ca[0], "::1") if protocol in ("tls", "https") else None
    with serving(forbid, context, host="::1") as port:
        (made,) = measure(f"{protocol}://[::1]:{port}", ca_file=ca[1], resume=False)
    assert (made.outcome, made.error, made.address, made.dns_ns, made.tcp_retransmits) == ("ok", None, "::1", None, 0)
    assert None not in (made.tcp_ns, made.tcp_rtt_ns)
    assert (made.tls_ns is not None) == (made.tls_version is not None) == (protocol in ("tls", "https"))
    phases = (made.upload_ns, made.ttfb_ns, made.e2e_ns, made.http_status)
    assert (None not in phases) if protocol in ("http", "https") else phases == (None,) * 4
    parts = sum(part or 0 for part in (made.tcp_ns, made.tls_ns, made.e2e_ns))
    assert made.total_ns is not None
    assert parts <= made.total_ns


@pytest.mark.parametrize(
    ("handle", "protocol", "outcome", "phase", "source"),
    [
        (silent, "tls", "timeout", "tls", "target"),
        (silent, "http", "timeout", "http", "target"),
        (lambda connection: connection.close(), "tls", "reset", "tls", "target"),
        (mail, "tls", "tls_failed", "tls", "target"),
        (mail, "http", "protocol_error", "http", "target"),
    ],
    ids=["silent-tls", "silent-http", "closes", "no-tls", "no-http"],
)
def test_what_servers_do_wrong(handle: Callable[[socket.socket], None], protocol: str, outcome: str, phase: str, source: str) -> None:
    """Each is a result with its phase and source; what was measured before it stays."""
    with serving(handle) as port:
        made = measure(f"{protocol}://127.0.0.1:{port}", timeout_ms=500 if outcome == "timeout" else 10_000)[0]
    assert (made.outcome, made.failed_phase, made.failure_source) == (outcome, phase, source)
    assert made.tcp_rtt_ns is not None
    assert made.ttfb_ns is None or made.ttfb_ns >= 0  # also of one that speaks before it is asked


def test_a_port_where_nobody_listens(unused_port: int) -> None:
    """Refused by the target, with no RTT: the kernel has no sample."""
    (made,) = measure(f"tls://127.0.0.1:{unused_port}")
    assert (made.outcome, made.failure_source, made.tcp_rtt_ns, made.tcp_ns) == ("refused", "target", None, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace without any route")
def test_a_host_without_a_route() -> None:
    """connect(2) refuses at once: nothing left, so it is the agent's failure, not the path's."""
    script = "import sys; sys.path[:0] = sys.argv[1:]; import test_probes_http_real as t; print(t.measure('tcp://192.0.2.1:80')[0])"
    here = Path(__file__).parent
    command = ["unshare", "--net", sys.executable, "-c", script, str(here), str(here.parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "outcome='agent_failed', failed_phase='tcp', failure_source='agent'" in done.stdout
    assert "network is unreachable" in done.stdout


@pytest.mark.parametrize(
    ("family", "address", "outcome"), [("auto", "127.0.0.1", "ok"), ("ipv4", "127.0.0.1", "ok"), ("ipv6", "::1", "refused")]
)
def test_the_other_family_is_tried_where_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, family: str, address: str, outcome: str
) -> None:
    """A name with an IPv6 and an IPv4 address, served over IPv4 only: whichever answers is measured, unless one is asked for."""
    with serving(forbid) as port:
        both = ((socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET, ("127.0.0.2", port)))
        monkeypatch.setattr(resolve, "_look_up", lambda *_: Addresses(both, 1_000))
        (made,) = measure(f"http://both.example:{port}/", family=family)
    assert (made.outcome, made.address, made.dns_ns) == (outcome, address, 1_000)


def test_a_wrong_ca_file(tmp_path: Path) -> None:
    """No such file: one clear error before anything is measured."""
    with pytest.raises(ConfigError, match="ca_file"):
        measure("tls://127.0.0.1:1", ca_file=str(tmp_path / "none.pem"))


def test_a_resolver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phase ends at its time-out though the look-up goes on; the thread is a daemon, so the process may end too."""
    free = threading.Event()

    def stuck(host: str, port: int) -> Addresses:
        free.wait(5)
        return Addresses((), None)

    monkeypatch.setattr(resolve, "_look_up", stuck)
    try:
        (made,) = measure("https://slow.example/", timeout_ms=100)
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "resolver")
    finally:
        free.set()
    assert (made.outcome, made.failed_phase, made.failure_source) == ("timeout", "dns", "resolver")


def test_many_names_at_once_are_looked_up_in_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more threads than allowed, every answer reaches its asker, an error is named."""
    seen: set[int] = set()

    def slow(host: str, port: int) -> Addresses | ResolveFailed:
        seen.add(threading.get_ident())
        time.sleep(0.002)
        return ResolveFailed("EAI_NONAME", 1) if host == "n7" else Addresses(((socket.AF_INET, (host, port)),), 5)

    monkeypatch.setattr(resolve, "_look_up", slow)

    async def ask() -> list[Addresses | BaseException]:
        resolver = Resolver(threads=3)
        try:
            return await asyncio.gather(*(resolver.resolve(f"n{i}", i) for i in range(40)), return_exceptions=True)
        finally:
            resolver.close()

    answers = asyncio.run(ask())
    assert len(seen) <= 3
    assert isinstance(answers[7], ResolveFailed)
    assert answers[7].eai == "EAI_NONAME"
    assert [a.found[0][1] for i, a in enumerate(answers) if i != 7 and isinstance(a, Addresses)] == [
        (f"n{i}", i) for i in range(40) if i != 7
    ]


def descriptors() -> set[str]:
    # The one that the listing itself had is gone by the time it is looked at.
    return {path.name for path in list(Path("/proc/self/fd").iterdir()) if path.is_symlink()}


def test_no_socket_is_left_open(ca: tuple[trustme.CA, str]) -> None:
    """After good, bad and refused visits the process has the descriptors it had."""
    with serving(forbid, context_of(trustme.CA(), "localhost")) as port:
        measure(f"https://localhost:{port}/", ca_file=ca[1])
        before = descriptors()
        for url in (f"https://localhost:{port}/", f"tcp://127.0.0.1:{port}", "tcp://127.0.0.1:1"):
            measure(url, ca_file=ca[1])
        deadline = time.monotonic() + 5
        while descriptors() - before and time.monotonic() < deadline:
            time.sleep(0.01)  # the server's own side
        assert descriptors() - before == set()
