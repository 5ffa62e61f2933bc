"""HTTP/1.1 for an exchange; the framing is h11's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import h11

from probes.inference.wire import Body, End, Head, WireError, WireEvent

__all__ = ["Http1"]


class Http1:
    """See probes.inference.wire.Wire."""

    version = "1.1"
    is_uploaded = True  # the request is given out whole

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._is_heard = False

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """The whole request."""
        fields = list(headers.items())
        if body:
            fields.append(("Content-Length", str(len(body))))
        self._is_heard = False
        try:
            out = self._http.send(h11.Request(method=method, target=target, headers=fields)) or b""
            if body:
                out += self._http.send(h11.Data(data=body)) or b""
            return out + (self._http.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as error:
            raise WireError(f"the request cannot be sent: {error}") from error

    def receive(self, data: bytes) -> Iterator[WireEvent]:
        """See Wire."""
        self._is_heard = self._is_heard or bool(data)
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    yield Head(
                        event.status_code, {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
                    )
                elif isinstance(event, h11.Data):
                    if event.data:
                        yield Body(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    yield End()
                    return
                elif isinstance(event, h11.ConnectionClosed):
                    raise WireError("the server closed the connection without an answer", is_unheard=not self._is_heard)
                elif event is h11.PAUSED:
                    raise WireError("the server sent more than one answer")
        except h11.RemoteProtocolError as error:
            if not self._is_heard:
                raise WireError("the server closed the connection without an answer", is_unheard=True) from error
            raise WireError(f"broken HTTP: {error}") from error

    def to_send(self) -> bytes:
        """Nothing: an HTTP/1.1 client only speaks when it asks."""
        return b""

    def renew(self, pending: bytes) -> bool:
        """See Wire. Anything unasked-for ends the use of the connection."""
        if pending or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True
