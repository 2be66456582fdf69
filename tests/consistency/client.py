"""A client that asks each time over a new connection, so that any worker may answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any

PATIENCE = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    body: dict[str, Any]
    stamps: dict[str, Any]  # when it began, how many loads it took, who gave it
    cookie: str  # the session it sets, if it does


class Refused(Exception):
    """An answer came, and it is no 200."""


class Client:
    """Asks one server. Threads may share it; it remembers nothing."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, cookie: str = "", **headers: str) -> Answer:
        return self._ask("GET", path, cookie, headers)

    def post(self, path: str, cookie: str = "", **headers: str) -> Answer:
        return self._ask("POST", path, cookie, headers)

    def log_in(self, user_id: int) -> str:
        """The session cookie of somebody who just logged in."""
        return self.post(f"/login/{user_id}").cookie

    def _ask(self, method: str, path: str, cookie: str, headers: dict[str, str]) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Cookie": cookie} if cookie else {}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers={**sent, "Connection": "close"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Refused(f"{method} {path}: {response.status} {content[:200]!r}")
        set_cookie = SimpleCookie(response.headers.get("Set-Cookie", ""))
        session = set_cookie.get("session")
        return Answer(
            json.loads(content),
            json.loads(response.headers["X-Stamps"]),
            f"session={session.coded_value}" if session else "",
        )
