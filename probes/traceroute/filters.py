"""Socket filters of traceroute in classic BPF (linux/filter.h): what the raw sockets and the evidence let in. Pure.

Instructions are written with the name of the line to jump to, and `assemble` counts; see probes/ping/filters.py for why
every raw socket needs a filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from probes.ping.filters import Instruction

__all__ = ["NOTHING", "error_filter", "evidence_filter", "segment_filter"]

_LD_B, _LD_H, _LD_B_X, _LD_H_X = 0x30, 0x28, 0x50, 0x48
_LDX_IHL = 0xB1
_AND, _LSH, _RSH, _ADD_X, _TAX = 0x54, 0x64, 0x74, 0x0C, 0x07
_JEQ, _JA, _RET = 0x15, 0x05, 0x06

#: Code, constant, and for _JEQ the labels to go to when equal and when not; None: the next line.
_Line = tuple[int, int, str | None, str | None]
_TAKE, _DROP = "take", "drop"


def _do(code: int, constant: int = 0) -> _Line:
    return code, constant, None, None


def _if(value: int, then: str | None = None, otherwise: str | None = None) -> _Line:
    return _JEQ, value, then, otherwise


def _assemble(lines: Sequence[_Line | str]) -> tuple[Instruction, ...]:
    """A string is a label of the line after it; `take` and `drop` are added at the end.

    Conditional jumps reach 255 lines: whatever is farther goes by a line of its own, which `_one_of` makes.
    """
    whole = [*lines, _TAKE, _do(_RET, 0xFFFF), _DROP, _do(_RET, 0)]
    places: dict[str, int] = {}
    code: list[_Line] = []
    for line in whole:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    out = []
    for at, (operation, constant, then, otherwise) in enumerate(code):
        if operation == _JA:
            assert then is not None
            out.append((operation, 0, 0, places[then] - at - 1))
            continue
        jumps = [0 if label is None else places[label] - at - 1 for label in (then, otherwise)]
        out.append((operation, jumps[0], jumps[1], constant))
    return tuple(out)


def _go(label: str) -> _Line:
    return _JA, 0, label, None


def _one_of(values: Iterable[int], name: str) -> list[_Line | str]:
    """Take the packet when the accumulator is one of the values; otherwise go on behind."""
    lines: list[_Line | str] = []
    for value in values:
        after = f"{name}:{value}"
        lines += [_if(value, None, after), _go(_TAKE), after]
    return lines


#: Lets nothing in.
NOTHING = _assemble([_go(_DROP)])


def error_filter(version: int, protocol: int, ports: Iterable[int]) -> tuple[Instruction, ...]:
    """For a raw ICMP socket: let in errors that quote a packet of the protocol (6 TCP, 17 UDP) sent from one of our ports.

    A raw IPv4 socket's packets begin with the IP header, a raw ICMPv6 socket's with the ICMPv6 header; its quoted
    header is 40 octets long, for our probe packets bear no extension headers.
    """
    head: list[_Line | str]
    quote: list[_Line | str]
    if version == 4:
        head = [_do(_LDX_IHL), _do(_LD_B_X, 0), _if(3, "quote"), _if(11, "quote"), _if(12, "quote")]
        quote = [_do(_LD_B_X, 8 + 9), _if(protocol, "ours"), _go(_DROP), "ours", *_skip_header(8), _do(_LD_H_X, 8)]
    else:
        head = [_do(_LD_B, 0), _if(1, "quote"), _if(2, "quote"), _if(3, "quote"), _if(4, "quote")]
        quote = [_do(_LD_B, 8 + 6), _if(protocol, "ours"), _go(_DROP), "ours", _do(_LD_H, 48)]
    return _assemble([*head, _go(_DROP), "quote", *quote, *_one_of(ports, "port"), _go(_DROP)])


def _skip_header(at: int) -> list[_Line]:
    """Add the length of the IPv4 header `at` octets behind X to X."""
    return [_do(_LD_B_X, at), _do(_AND, 15), _do(_LSH, 2), _do(_ADD_X), _do(_TAX)]


def segment_filter(version: int, ports: Iterable[int]) -> tuple[Instruction, ...]:
    """For a raw TCP socket: let in segments to one of our ports. Raw IPv4 begins with the IP header, IPv6 with TCP's."""
    load = [_do(_LDX_IHL), _do(_LD_H_X, 2)] if version == 4 else [_do(_LD_H, 2)]
    return _assemble([*load, *_one_of(ports, "port"), _go(_DROP)])


def evidence_filter(protocol: int, marks: Iterable[int]) -> tuple[Instruction, ...]:
    """For a packet socket whose packets begin with the IP header: ICMP of both versions, and datagrams or segments of ours.

    protocol  17 or 6: those from or to one of the ports `marks` are let in; any other number: ICMP only
    """
    ports = list(marks) if protocol in {6, 17} else []
    return _assemble(
        [
            *(_do(_LD_B, 0), _do(_RSH, 4), _if(6, "v6"), _if(4, "v4"), _go(_DROP)),
            *("v4", _do(_LD_B, 9), _if(1, None, "v4-other"), _go(_TAKE)),
            *("v4-other", _if(protocol, "v4-ports"), _go(_DROP), "v4-ports", _do(_LDX_IHL)),
            *(_do(_LD_H_X, 0), *_one_of(ports, "v4-from"), _do(_LD_H_X, 2), *_one_of(ports, "v4-to"), _go(_DROP)),
            *("v6", _do(_LD_B, 6), _if(58, None, "v6-other"), _go(_TAKE)),
            *("v6-other", _if(protocol, "v6-ports"), _go(_DROP), "v6-ports"),
            *(_do(_LD_H, 40), *_one_of(ports, "v6-from"), _do(_LD_H, 42), *_one_of(ports, "v6-to"), _go(_DROP)),
        ]
    )
