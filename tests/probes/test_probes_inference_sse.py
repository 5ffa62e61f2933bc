"""Event streams as bytes: what real servers send, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.inference.sse import ServerEvent, SseOverflow, SseParser

#: name -> (bytes, the data of the events by the WHATWG rules, worked out by hand)
GOLDEN = {
    "plain": (b'data: {"a":1}\n\ndata: [DONE]\n\n', ['{"a":1}', "[DONE]"]),
    "crlf": (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
    "cr": (b"data: one\r\rdata: two\r\r", ["one", "two"]),
    "comments_and_keep_alive": (b": ping\n\n:\n\ndata: x\n: in between\n\n", ["x"]),
    "no_space_after_colon": (b"data:x\n\n", ["x"]),
    "only_one_space_is_taken": (b"data:  x\n\n", [" x"]),
    "several_data_lines": (b"data: a\ndata: b\n\n", ["a\nb"]),
    "field_without_colon": (b"data\n\n", [""]),
    "other_fields": (b"id: 7\nretry: 10\nevent: message\ndata: x\n\n", ["x"]),
    "blank_lines_alone": (b"\n\n\n", []),
    "byte_order_mark": (b"\xef\xbb\xbfdata: x\n\n", ["x"]),
    "utf8": ("data: 你好 🙂\n\n".encode(), ["你好 🙂"]),
    "broken_utf8": (b"data: \xff\n\n", ["\ufffd"]),
    "last_blank_line_missing": (b"data: [DONE]", ["[DONE]"]),
}


def parse(parts: list[bytes]) -> list[str]:
    parser = SseParser()
    events = [event for part in parts for event in parser.feed(part)]
    return [event.data for event in events + parser.finish()]


@pytest.mark.parametrize("name", GOLDEN)
def test_events_are_read_whole_and_byte_by_byte(name: str) -> None:
    """Every transcript gives the same events whole and cut after every byte."""
    raw, expected = GOLDEN[name]
    assert parse([raw]) == expected
    assert parse([raw[i : i + 1] for i in range(len(raw))]) == expected


def test_event_type_is_kept_for_one_event() -> None:
    """An event field names its own event only."""
    parser = SseParser()
    assert parser.feed(b"event: error\ndata: x\n\ndata: y\n\n") == [ServerEvent("error", "x"), ServerEvent("message", "y")]


def test_events_come_with_the_read_that_completes_them() -> None:
    """An event is not out before its blank line is in: its time is that of the read that ends it."""
    parser = SseParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [ServerEvent("message", "x")]
    assert parser.feed(b"data: y\r\n\r") == [ServerEvent("message", "y")]
    assert parser.feed(b"\n") == []


def test_endless_lines_and_events_are_refused() -> None:
    """A line or an event past the limit raises instead of filling the memory."""
    with pytest.raises(SseOverflow, match="line"):
        SseParser(max_event_bytes=100).feed(b"x" * 101)
    with pytest.raises(SseOverflow, match="event"):
        SseParser(max_event_bytes=100).feed(b"data: 0123456789\n" * 11)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_cut_anywhere_give_the_same_events(raw: bytes, cuts: list[int]) -> None:
    """No bytes crash the parser, and where reads end changes nothing."""
    at = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    assert parse([raw[a:b] for a, b in itertools.pairwise(at)]) == parse([raw])


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), min_size=1, max_size=20), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_server_writes_is_what_is_read(texts: list[str], end: str) -> None:
    """Events written by the rules come back the same, with every line ending."""
    raw = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    assert parse([raw]) == texts
