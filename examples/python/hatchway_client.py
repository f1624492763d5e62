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


class Action:
    """What becomes of a unit."""

    START = "start"
    """It starts."""
    RESTART = "restart"
    """It ends, and starts again."""
    STOP = "stop"
    """It ends."""
    STAY = "stay"
    """It is as it was."""


class Code:
    """What went wrong, for programs; `hatchway explain CODE` says more."""

    NO_SUCH_PATH = "no-such-path"
    """Nothing is at this path."""
    NO_SUCH_METHOD = "no-such-method"
    """The path has another method."""
    BAD_REQUEST = "bad-request"
    """The request is not as it should be."""
    NOT_PERMITTED = "not-permitted"
    """The role does not suffice."""
    NO_SUCH_UNIT = "no-such-unit"
    """The instrument has no such unit."""
    NO_SUCH_RUN = "no-such-run"
    """The unit has no such run."""
    WRONG_FILE = "wrong-file"
    """An instrument or a recipe is wrong."""
    NOT_RUNNING = "not-running"
    """The unit does not run."""
    NO_TERMINAL = "no-terminal"
    """The unit has no terminal."""
    OCCUPIED = "occupied"
    """Somebody else writes to the unit's terminal."""
    FAILED = "failed"
    """Something could not be done."""
    OTHER = "other"
    """Of a newer version."""


@dataclass
class Event:
    """One event."""

    boot: str
    """Of which boot that is."""
    kind: str
    """What has happened."""
    monotonic_ns: int
    """`CLOCK_MONOTONIC`, in nanoseconds."""
    realtime_ns: int
    """`CLOCK_REALTIME`, in nanoseconds."""
    seq: int
    """Its number."""
    text: str
    """In words."""
    by: Optional[str] = None
    """Who has asked for it: `uid 1000 (ada)`."""
    run: Optional[str] = None
    """To which run of it."""
    unit: Optional[str] = None
    """To which unit."""


@dataclass
class InstrumentFile:
    """The file of an instrument, below a folder that none but root may change."""

    file: str
    """Its path, an absolute one."""


class Kind:
    """What has happened."""

    DAEMON_BEGAN = "daemon-began"
    """A daemon has begun."""
    DAEMON_ENDED = "daemon-ended"
    """A daemon ends in order; units go on."""
    APPLIED = "applied"
    """An instrument is carried out from now on."""
    ASKED = "asked"
    """Somebody has asked for something."""
    STARTING = "starting"
    """A unit is started."""
    FOUND = "found"
    """A unit that was running already is looked after again."""
    READY = "ready"
    """A unit is ready."""
    LATE = "late"
    """A unit is not ready in time."""
    HEALTH = "health"
    """A unit is well again, or is not."""
    BLOCKED = "blocked"
    """A unit waits for others."""
    STOPPING = "stopping"
    """A unit is asked to end."""
    ENDED = "ended"
    """A run of a unit has ended."""
    BACK_OFF = "back-off"
    """A unit waits before it starts again."""
    DEGRADED = "degraded"
    """A unit fails again and again, and waits for a person."""
    FAILED = "failed"
    """Something could not be done."""
    LOST = "lost"
    """Events are missing here."""
    OTHER = "other"
    """Of a newer version."""


class Phase:
    """How a unit is, in a word."""

    STARTING = "starting"
    """It runs, and is not ready yet."""
    READY = "ready"
    """It runs, and is ready."""
    LATE = "late"
    """It runs, and was not ready in time."""
    STOPPING = "stopping"
    """It is on its way to its end."""
    BLOCKED = "blocked"
    """It starts once others are ready."""
    BACK_OFF = "back-off"
    """It has failed, and starts again soon."""
    DEGRADED = "degraded"
    """It has failed again and again, and waits for a person."""
    FAILED = "failed"
    """It has failed, and nothing starts it again."""
    ENDED = "ended"
    """It has ended, and nothing starts it again."""
    STOPPED = "stopped"
    """It is not wanted."""
    DUE = "due"
    """It is about to be started."""


@dataclass
class Problem:
    """The answer of the API where something was not done."""

    code: str
    """For programs."""
    detail: str
    """What was the matter this time."""
    status: int
    """The status of HTTP."""
    title: str
    """What the code means."""
    type: str
    """`urn:hatchway:CODE`."""
    hints: Optional[list[str]] = None
    """What to do, a line each."""


@dataclass
class Said:
    """A line of a log."""

    realtime_ns: int
    """When its first byte was read: `CLOCK_REALTIME`, in nanoseconds."""
    stream: str
    """On which stream."""
    text: str
    """What was said, without the line's end."""
    missing: Optional[int] = None
    """Bytes of that stream before it that are not kept."""


@dataclass
class Step:
    """A step of what an instrument would change."""

    action: str
    """What becomes of it."""
    unit: str
    """Which unit."""
    why: Optional[str] = None
    """Why, or after what."""


@dataclass
class UnitStatus:
    """How a unit is."""

    name: str
    """Its name."""
    phase: str
    """How it is, in a word."""
    began_ns: Optional[int] = None
    """When that began, in nanoseconds of `CLOCK_REALTIME`."""
    record: Optional[Any] = None
    """How that ended, as `exit.json` has it."""
    run: Optional[str] = None
    """Its last run."""
    terminal: Optional[bool] = None
    """It has a terminal of its own, to which one can come."""
    waits_for: Optional[list[str]] = None
    """The units that have to be ready before it."""
    why: Optional[str] = None
    """Why it is so."""


class Which:
    """One of a unit's streams."""

    OUT = "out"
    """Standard output."""
    ERR = "err"
    """Standard error."""
    REMARK = "remark"
    """Words of Hatchway's own."""


class Client(_Base):
    """The daemon at a socket."""

    def get_metrics(self) -> str:
        """Numbers for Prometheus."""
        return self._ask("GET", "/metrics", {}).decode()

    def list_events(self, since: Optional[int] = None) -> list[Event]:
        """What has happened since an event; as a stream for who accepts `text/event-stream`."""
        return [Event(**_known(Event, one)) for one in self._json("GET", "/v1/events", {"since": since})]

    def follow_events(self, since: Optional[int] = None) -> Iterator[Event]:
        """What has happened since an event; as a stream for who accepts `text/event-stream`: what comes, too."""
        for one in self._follow("/v1/events", {"since": since}):
            yield Event(**_known(Event, one))

    def apply_instrument(self, file: str) -> list[Step]:
        """Carries an instrument out from now on; the answer is what it changes."""
        return [Step(**_known(Step, one)) for one in self._json("POST", "/v1/instrument", {}, {"file": file})]

    def get_openapi(self) -> Any:
        """This description."""
        return self._json("GET", "/v1/openapi.json", {})

    def plan_instrument(self, file: str) -> list[Step]:
        """What an instrument would change."""
        return [Step(**_known(Step, one)) for one in self._json("POST", "/v1/plan", {}, {"file": file})]

    def list_units(self) -> list[UnitStatus]:
        """All units, each after those that it waits for."""
        return [UnitStatus(**_known(UnitStatus, one)) for one in self._json("GET", "/v1/units", {})]

    def get_unit(self, unit: str) -> UnitStatus:
        """One unit."""
        return UnitStatus(**_known(UnitStatus, self._json("GET", f"/v1/units/{quote(unit, safe='')}", {})))

    def kill_unit(self, unit: str) -> UnitStatus:
        """Ends a unit at once, and wants it to stay so."""
        return UnitStatus(**_known(UnitStatus, self._json("POST", f"/v1/units/{quote(unit, safe='')}/kill", {})))

    def list_logs(self, unit: str, lines: Optional[int] = None, run: Optional[str] = None, since_ns: Optional[int] = None, stream: Optional[str] = None) -> list[Said]:
        """What a unit has said; as a stream that follows it for who accepts `text/event-stream`."""
        return [Said(**_known(Said, one)) for one in self._json("GET", f"/v1/units/{quote(unit, safe='')}/logs", {"lines": lines, "run": run, "since_ns": since_ns, "stream": stream})]

    def follow_logs(self, unit: str, lines: Optional[int] = None, run: Optional[str] = None, since_ns: Optional[int] = None, stream: Optional[str] = None) -> Iterator[Said]:
        """What a unit has said; as a stream that follows it for who accepts `text/event-stream`: what comes, too."""
        for one in self._follow(f"/v1/units/{quote(unit, safe='')}/logs", {"lines": lines, "run": run, "since_ns": since_ns, "stream": stream}):
            yield Said(**_known(Said, one))

    def resize_unit(self, unit: str, cols: int, rows: int) -> UnitStatus:
        """Gives a unit's terminal another size."""
        return UnitStatus(**_known(UnitStatus, self._json("POST", f"/v1/units/{quote(unit, safe='')}/resize", {"cols": cols, "rows": rows})))

    def restart_unit(self, unit: str) -> UnitStatus:
        """Ends the run that there is, and begins another."""
        return UnitStatus(**_known(UnitStatus, self._json("POST", f"/v1/units/{quote(unit, safe='')}/restart", {})))

    def start_unit(self, unit: str) -> UnitStatus:
        """Wants a unit to run; one that has failed too often is tried again."""
        return UnitStatus(**_known(UnitStatus, self._json("POST", f"/v1/units/{quote(unit, safe='')}/start", {})))

    def stop_unit(self, unit: str) -> UnitStatus:
        """Asks a unit to end, and wants it to stay so until the machine starts anew."""
        return UnitStatus(**_known(UnitStatus, self._json("POST", f"/v1/units/{quote(unit, safe='')}/stop", {})))
