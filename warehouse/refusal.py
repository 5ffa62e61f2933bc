"""A request that the collector answers with an error."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

__all__ = ["Refusal"]


class Refusal(Exception):
    """What it is answered with; `outcome` is the word it is counted by."""

    def __init__(self, status: int, outcome: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.outcome, self.detail, self.headers = status, outcome, detail, headers

    def response(self) -> Response:
        """The answer."""
        return JSONResponse({"error": self.detail, "code": self.outcome}, self.status, self.headers)
