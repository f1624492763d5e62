"""Shows the units of an instrument, and then each change; begins again when the daemon does.

    python3 watch_units.py [SOCKET]
"""

import sys
import time

from hatchway_client import SOCKET, Client, Phase, ProblemError


def show(client: Client) -> None:
    for unit in client.list_units():
        mark = "ok " if unit.phase in (Phase.READY, Phase.STOPPED) else "!! "
        print(f"{mark}{unit.name:<20} {unit.phase:<10} {unit.why or ''}".rstrip(), flush=True)


def main() -> int:
    client = Client(sys.argv[1] if len(sys.argv) > 1 else SOCKET)
    since = None
    while True:
        try:
            show(client)
            for event in client.follow_events(since):
                print(f"{event.seq:>6} {event.unit or '-':<20} {event.kind}: {event.text}", flush=True)
                since = event.seq
        except ProblemError as problem:
            print(f"{problem} (`hatchway explain {problem.code}`)", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"the daemon does not answer: {error}", file=sys.stderr, flush=True)
        # It has ended, was upgraded, or is not there yet.
        time.sleep(1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        pass
