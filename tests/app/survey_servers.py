"""What the survey's tests run at hosts of the lab: a TLS web server, and a DNS server that knows the names it is given.

survey_servers.py web CERTIFICATE.pem       TLS on port 443; answers any request with 403
survey_servers.py dns TABLE.json            UDP port 53; {"name": "address"}; any other name does not exist
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import sys
from pathlib import Path

ANSWER = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def say(line: str) -> None:
    """One line to whoever started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def web(certificate: str) -> None:
    """Serve until killed; what asked is noted on standard output."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            say(head.decode("latin-1").replace("\r\n", "|"))
            writer.write(ANSWER)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.start_server(serve, "0.0.0.0", 443, ssl=context, backlog=512)
    say("ready")
    await server.serve_forever()


def answer(query: bytes, table: dict[str, str]) -> bytes:
    """The response to a query of one question (RFC 1035): an A record, no data for another type, or NXDOMAIN."""
    end, labels = 12, []
    while query[end]:
        labels.append(query[end + 1 : end + 1 + query[end]].decode().lower())
        end += 1 + query[end]
    question = query[12 : end + 5]
    kind = struct.unpack_from("!H", query, end + 1)[0]
    address = table.get(".".join(labels))
    records = b""
    if address is not None and kind == 1:
        records = struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
    flags = 0x8180 | (3 if address is None else 0)
    return query[:2] + struct.pack("!5H", flags, 1, 1 if records else 0, 0, 0) + question + records


def dns(table: dict[str, str]) -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 53))
        say("ready")
        while True:
            query, who = sock.recvfrom(4096)
            sock.sendto(answer(query, table), who)


if __name__ == "__main__":
    if sys.argv[1] == "web":
        asyncio.run(web(sys.argv[2]))
    else:
        dns(json.loads(Path(sys.argv[2]).read_text()))
