"""The lab's inference servers: the model that is made on the spot, and the process around llama.cpp's server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import serving
from records.errors import OutsideError

pytestmark = [pytest.mark.alone, pytest.mark.waits]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, made once."""
    pytest.importorskip("xllamacpp", reason="the wheel xllamacpp is not installed")
    return serving.make_model(tmp_path_factory.mktemp("model") / "deep" / "tiny.gguf")


@pytest.fixture
def server(model: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of one test's own: (process, base URL)."""
    port = free_port()
    process = subprocess.Popen(serving.server_argv("127.0.0.1", port, model), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process.stdout:
        try:
            serving.wait_ready(f"http://127.0.0.1:{port}", 30, lambda: process.poll() is None)
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def ask(url: str, body: dict[str, object] | None = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=20) as answer:  # noqa: S310
        found: dict[str, object] = json.load(answer)
        return found


def test_model_is_small_and_the_same_for_a_seed(model: Path, tmp_path: Path) -> None:
    """Half a megabyte, byte for byte the same from the same seed, another from another, and written once."""
    assert model.stat().st_size < 1_000_000
    assert serving.make_model(tmp_path / "again.gguf").read_bytes() == model.read_bytes()
    assert serving.make_model(tmp_path / "other.gguf", seed=1).read_bytes() != model.read_bytes()
    kept = tmp_path / "kept.gguf"
    kept.write_bytes(b"mine")
    assert serving.make_model(kept).read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.gguf", "kept.gguf", "other.gguf"]  # no leftovers


def test_package_imports_nothing_heavy() -> None:
    """`import lab.serving` costs no NumPy, gguf or llama.cpp."""
    code = "import sys, lab.serving; sys.exit(any(name in sys.modules for name in ('numpy', 'gguf', 'xllamacpp')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_answers_have_as_many_tokens_as_asked_for(server: tuple[subprocess.Popen[bytes], str]) -> None:
    """The model never stops early and says one ASCII letter or blank per token, whatever the prompt and the sampling."""
    _, url = server
    for prompt in ("hello", "你好 🙂", "x" * 500):
        answer = ask(
            url + "/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}], "max_tokens": 40, "temperature": 1.5}
        )
        text = answer["choices"][0]["message"]["content"]  # type: ignore[index]
        assert answer["usage"]["completion_tokens"] == 40  # type: ignore[index]
        assert len(text) in (39, 40)  # a leading blank is dropped by the server
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz ")
    # A token is a byte: the prompt's count grows by exactly what is added to it.
    counts = []
    for prompt in ("a" * 10, "a" * 110):
        usage = ask(url + "/v1/completions", {"prompt": prompt, "max_tokens": 1})["usage"]
        counts.append(usage["prompt_tokens"])  # type: ignore[index]
    assert counts[1] - counts[0] == 100


def test_server_names_its_model_and_serves_metrics(server: tuple[subprocess.Popen[bytes], str]) -> None:
    """The model list has the name others ask for, and /metrics the queue."""
    _, url = server
    assert ask(url + "/v1/models")["data"][0]["id"] == serving.MODEL_NAME  # type: ignore[index]
    with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:  # noqa: S310
        assert b"llamacpp:requests_processing" in answer.read()


def test_server_is_quiet_idle_and_ends_on_sigterm(server: tuple[subprocess.Popen[bytes], str]) -> None:
    """It prints nothing, uses no processor time while nobody asks, and ends with status 0, open streams or not."""
    process, url = server
    ask(url + "/v1/completions", {"prompt": "x", "max_tokens": 2})

    def ticks() -> int:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1.0)
    assert ticks() - before <= 0.05 * os.sysconf("SC_CLK_TCK")
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stream:
        body = b'{"prompt":"x","max_tokens":3000,"stream":true}'
        stream.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert stream.recv(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""


def test_server_dies_with_its_parent(model: Path) -> None:
    """When the process that started it is killed, the server ends too."""
    port = free_port()
    code = (
        "import subprocess, time; from pathlib import Path; from lab import serving\n"
        f"argv = serving.server_argv('127.0.0.1', {port}, Path({str(model)!r}))\n"
        "print(bool(subprocess.Popen(argv)), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline()
        serving.wait_ready(f"http://127.0.0.1:{port}", 30)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server lives on without its parent")


def test_failures_are_said_in_one_line(model: Path, tmp_path: Path) -> None:
    """No model, no GGUF, a taken port: a line and a status, no traceback; waiting for it ends with a reason."""

    def run(address: str, port: int, path: Path) -> tuple[int, str]:
        done = subprocess.run(serving.server_argv(address, port, path), capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    status, words = run("127.0.0.1", free_port(), tmp_path / "none.gguf")
    assert (status, words.count("\n")) == (2, 1)
    assert "no model at" in words
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    status, words = run("127.0.0.1", free_port(), broken)
    assert status == 3
    assert "Traceback" not in words
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, words = run("127.0.0.1", taken.getsockname()[1], model)
        assert status == 3
        assert "Traceback" not in words
    with pytest.raises(OutsideError, match=r"not ready within 0\.3 s"):
        serving.wait_ready(f"http://127.0.0.1:{free_port()}/v1", 0.3)
    with pytest.raises(OutsideError, match="ended before it was ready"):
        serving.wait_ready(f"http://127.0.0.1:{free_port()}/v1", 5, lambda: False)
