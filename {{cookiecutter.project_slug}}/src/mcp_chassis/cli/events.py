"""`events`, `events --follow`, `events verify`: what servers tell of attacks, and whether the audit trail is whole."""

import argparse
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ..events.log import KINDS
from ..events.untrusted import escape_controls
from ..http.origins import is_loopback, normal_origin
from ..settings import Settings, SettingsError

_SEVERITIES = ("low", "medium", "high")
_COLORS = {"high": "31", "medium": "33", "low": "36"}  # red, yellow, cyan
_REMEMBERED = 20_000  # events, to tell new ones from those that were shown
_PAGE, _MOST = 100, 1000


class _Stopped(Exception):
    """Asking on would not help. The message says why."""


def add_event_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `events` and what follows it to the command line."""
    events = commands.add_parser("events", help="show security events of running servers; check the audit trail")
    events.set_defaults(command="events")
    events.add_argument("--follow", action="store_true", help="go on with new ones until Ctrl-C")
    events.add_argument("--url", action="append", type=explained(normal_origin), metavar="URL",
                        help="a server, such as https://mcp.example.com; may be repeated")  # fmt: skip
    events.add_argument("--kind", action="append", choices=sorted(KINDS), help="only these; may be repeated")
    events.add_argument("--severity", choices=_SEVERITIES, default="low", help="only these and worse ones")
    events.add_argument("--limit", type=_number, default=20, help="how many of the latest (default: 20)")
    events.add_argument("--every", type=_number, default=5, metavar="SECONDS", help="between two looks (default: 5)")


def show_events(options: argparse.Namespace, _: object, settings: Settings) -> int:
    """Print the latest events of all servers, oldest first, and with `--follow` those that come.

    Returns:
        the exit code: 1 if a server cannot be asked.
    """
    if settings.api_key is None:
        raise SettingsError(["API_KEY: is missing. Events are shown to callers with a credential."])
    headers = {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}
    urls: list[str] = options.url or [_own_url(settings)]
    if options.url is None:
        headers["Host"] = f"127.0.0.1:{settings.port}"  # which it answers for, whatever address it listens on
    for url in options.url or ():
        if not url.startswith("https:") and not is_loopback(urlsplit(url).hostname or ""):
            print(f"{url}: the key would be readable on the way. Use https.", file=sys.stderr)
            return 1
    try:
        with httpx2.Client(headers=headers, timeout=10, trust_env=False) as client:
            return _show([_Watched(client, url, several=len(urls) > 1) for url in urls], options)
    except _Stopped as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _own_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _show(servers: Sequence["_Watched"], options: argparse.Namespace) -> int:
    colored = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    shown: OrderedDict[str, int] = OrderedDict()
    answered, first = True, True
    while True:
        fresh = []
        for server in servers:
            page = server.ask(_MOST if first else _PAGE)
            if not first and len(page) == _PAGE and not any(_identity(event) in shown for event in page):
                page = server.ask(_MOST)  # more has happened than fits
            answered = answered and server.answers
            for event in page:
                # Servers of one fleet may tell of the same event. A flood is told of again when it has doubled.
                identity, count = _identity(event), _count(event)
                if identity not in shown or not shown[identity] <= count < 2 * shown[identity]:
                    shown[identity] = count
                    fresh.append((event, server.name))
        while len(shown) > _REMEMBERED:
            shown.popitem(last=False)
        fresh = [pair for pair in fresh if _wanted(pair[0], options)]
        fresh.sort(key=lambda pair: str(pair[0].get("timestamp")))
        for event, name in fresh[-options.limit :] if first else fresh:
            print(_line(event, name, colored=colored), flush=True)
        if not options.follow:
            if answered and not fresh:
                print("No such events.", file=sys.stderr)
            return 0 if answered else 1
        first = False
        time.sleep(max([options.every, *(server.wait for server in servers)]))


class _Watched:
    """One server that is asked for its events."""

    def __init__(self, client: httpx2.Client, url: str, *, several: bool) -> None:
        self._client = client
        self._url = url
        self.name = urlsplit(url).netloc if several else ""
        self.answers = True
        self.wait = 0
        """Seconds that it wants to be left alone."""

    def ask(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest events, or none if it does not answer now.

        Raises:
            _Stopped: if it refuses the key. Asking again would look like guessing.
        """
        self.wait = 0
        try:
            answer = self._client.get(f"{self._url}/security/events", params={"limit": limit})
            if answer.status_code in {401, 403}:
                raise _Stopped(f"{self._url}: API_KEY is refused ({answer.status_code}).")
            if answer.status_code == 429:
                self.wait = min(300, _number(answer.headers.get("Retry-After", "60")))
            events = answer.raise_for_status().json()["events"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, argparse.ArgumentTypeError) as error:
            if self.answers:
                status = f" ({error.response.status_code})" if isinstance(error, httpx2.HTTPStatusError) else ""
                print(f"{self._url}: does not answer with events{status}: {type(error).__name__}", file=sys.stderr)
            self.answers = False
            return []
        if not self.answers:
            print(f"{self._url}: answers again", file=sys.stderr)
        self.answers = True
        return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def _wanted(event: dict[str, Any], options: argparse.Namespace) -> bool:
    severity = event.get("severity")
    bad = _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)
    return bad >= _SEVERITIES.index(options.severity) and (not options.kind or event.get("event") in options.kind)


def _line(event: dict[str, Any], name: str, *, colored: bool) -> str:
    """Return an event as one line that no value in it can end, colour or forge."""
    severity = str(event.get("severity"))
    details = event.get("details")
    facts = [f"{fact}={_plain(value)}" for fact, value in details.items()] if isinstance(details, dict) else []
    kind, when, who = f"{event.get('event')!s:24}", event.get("timestamp"), event.get("identifier")
    words = [str(word) for word in (when, name, f"{severity.upper():6}", kind, who, *facts) if word]
    line = escape_controls(" ".join(words))
    return f"\x1b[{_COLORS[severity]}m{line}\x1b[0m" if colored and severity in _COLORS else line


def _plain(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _identity(event: dict[str, Any]) -> str:
    """Return what is one event: all of it, or, of one that stands for many, what they have in common."""
    details = event.get("details")
    if _count(event) > 1 and isinstance(details, dict):
        newest = {"timestamp", "count", "request_id"}
        event = {**event, "timestamp": None, "details": {name: details[name] for name in details.keys() - newest}}
    return json.dumps(event, sort_keys=True)


def _count(event: dict[str, Any]) -> int:
    details = event.get("details")
    count = details.get("count") if isinstance(details, dict) else None
    return count if isinstance(count, int) else 1


def explained(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let the command line say what is wrong with a value: argparse hides the text of a ValueError."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) > 0):
        raise argparse.ArgumentTypeError("write a whole number from 1 to 9999")
    return int(text)
