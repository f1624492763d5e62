"""Hatchway's API for Python: one file, of the standard library alone.

Written by `hatchway generate python-client` from the description of the API; a change by hand is lost.

    from hatchway_client import Client
    for unit in Client().list_units():
        print(unit.name, unit.phase)

Who asks is known by the kernel; `[roles]` of the instrument says what they may. What is not done is a `ProblemError`,
whose code `hatchway explain CODE` describes. A daemon that does not run is an `OSError`.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, fields
from typing import Any, Iterator, Optional
from urllib.parse import quote, urlencode

SOCKET = "/run/hatchway/api.sock"


class ProblemError(Exception):
    """Something was not done (RFC 9457)."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or "it was not done")
        self.code: str = problem.get("code", "failed")
        self.status: int = problem.get("status", 0)
        self.hints: list[str] = problem.get("hints", [])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Base:
    """What all operations do."""

    def __init__(self, socket_path: str = SOCKET, timeout: float = 30.0) -> None:
        self._path = socket_path
        self._timeout = timeout

    def _ask(self, method: str, path: str, query: dict[str, Any], body: Any = None) -> bytes:
        connection = _Connection(self._path, self._timeout)
        try:
            answer = self._send(connection, method, path, query, body, "application/json")
            return answer.read()
        finally:
            connection.close()

    def _json(self, method: str, path: str, query: dict[str, Any], body: Any = None) -> Any:
        return json.loads(self._ask(method, path, query, body))

    def _follow(self, path: str, query: dict[str, Any]) -> Iterator[Any]:
        """Each thing of a stream (Server-Sent Events), until the other end closes it."""
        connection = _Connection(self._path, None)
        try:
            answer = self._send(connection, "GET", path, query, None, "text/event-stream")
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])
        finally:
            connection.close()

    def _send(
        self, connection: _Connection, method: str, path: str, query: dict[str, Any], body: Any, accept: str
    ) -> http.client.HTTPResponse:
        words = urlencode({name: value for name, value in query.items() if value is not None})
        headers = {"Accept": accept, "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        connection.request(method, f"{path}?{words}" if words else path, text, headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            said = answer.read()
            try:
                problem = json.loads(said)
            except ValueError:
                problem = {"status": answer.status, "detail": said.decode("utf-8", "replace")}
            raise ProblemError(problem)
        return answer


def _known(kind: Any, data: dict[str, Any]) -> dict[str, Any]:
    """A newer daemon may say more than this file knows."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
