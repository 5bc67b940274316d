"""`events` and `events --follow`: the security events of running servers, as one list."""

import argparse
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ..events.log import KINDS
from ..events.untrusted import escape_controls
from ..http.origins import is_loopback, normal_origin
from ..settings import Settings, SettingsError
from .options import Commands
from .serve import own_url
from .terminal import colored

_SEVERITIES = ("low", "medium", "high")
_COLORS = {"high": "red", "medium": "yellow", "low": "cyan"}
_MAX_REMEMBERED = 20_000  # events that were shown
_PAGE, _MAX_PAGE = 100, 1000


class _Refused(Exception):
    """A server refuses the key: to ask it again would look like guessing."""


def add_commands(commands: Commands) -> None:
    """Add the command. The audit trail adds `events verify` to it."""
    events = commands.add_parser("events", help="show security events of running servers; check the audit trail")
    events.set_defaults(run=_events)
    events.add_argument("--follow", action="store_true", help="go on with new ones until Ctrl-C")
    events.add_argument("--url", action="append", type=explained(normal_origin), metavar="URL",
                        help="a server, such as https://mcp.example.com; may be repeated")  # fmt: skip
    events.add_argument("--kind", action="append", choices=sorted(KINDS), help="only these; may be repeated")
    events.add_argument("--severity", choices=_SEVERITIES, default="low", help="minimum severity")
    events.add_argument("--limit", type=_number, default=20, help="how many of the latest (default: 20)")
    events.add_argument("--every", type=_number, default=5, metavar="SECONDS", help="polling interval (default: 5)")


def _events(options: argparse.Namespace, _: object, settings: Settings) -> int:
    """Print the latest events of all servers, oldest first, and with `--follow` those that come."""
    if settings.api_key is None:
        raise SettingsError(["API_KEY: is missing. Events are shown to callers with a credential."])
    own, host = own_url(settings)
    urls: list[str] = options.url or [own]
    for url in options.url or ():
        if not url.startswith("https:") and not is_loopback(urlsplit(url).hostname or ""):
            print(f"{url}: the key would be readable on the way. Use https.", file=sys.stderr)
            return 1
    headers = ({} if options.url else host) | {"Authorization": f"Bearer {settings.api_key.get_secret_value()}"}
    try:
        with httpx2.Client(headers=headers, timeout=10, trust_env=False) as client:
            return _show([_Server(client, url, several=len(urls) > 1) for url in urls], options)
    except _Refused as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _show(servers: Sequence["_Server"], options: argparse.Namespace) -> int:
    shown: OrderedDict[str, int] = OrderedDict()
    lines = _new_lines(servers, shown, options, _MAX_PAGE)[-options.limit :]
    while True:
        for line in lines:
            print(line, flush=True)
        if not options.follow:
            break
        time.sleep(max([options.every, *(server.wait for server in servers)]))
        lines = _new_lines(servers, shown, options, _PAGE)
    if not all(server.answers for server in servers):
        return 1
    if not lines:
        print("No such events.", file=sys.stderr)
    return 0


def _new_lines(
    servers: Sequence["_Server"], shown: OrderedDict[str, int], options: argparse.Namespace, size: int
) -> list[str]:
    """Return a line for every new event that is wanted, oldest first, and add them to `shown`, with their counts."""
    new: list[tuple[str, str]] = []
    for server in servers:
        page = server.ask(size)
        if len(page) == size == _PAGE and not any(_identity(event) in shown for event in page):
            page = server.ask(_MAX_PAGE)  # more has happened than fits
        for event in page:
            # Replicas return the same events. A flood is shown again when its count has doubled.
            identity, count = _identity(event), _count(event)
            if identity not in shown or not shown[identity] <= count < 2 * shown[identity]:
                shown[identity] = count
                if _is_wanted(event, options):
                    new.append((str(event.get("timestamp")), _line(event, server.name)))
    while len(shown) > _MAX_REMEMBERED:
        shown.popitem(last=False)
    return [line for _, line in sorted(new, key=itemgetter(0))]


class _Server:
    """One server that is asked for its events."""

    def __init__(self, client: httpx2.Client, url: str, *, several: bool) -> None:
        self._client = client
        self._url = url
        self.name = urlsplit(url).netloc if several else ""
        self.answers = True
        self.wait = 0
        """Seconds before it may be asked again."""

    def ask(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest events, or none if it does not answer now.

        Raises:
            _Refused: if it refuses the key.
        """
        self.wait = 0
        try:
            answer = self._client.get(f"{self._url}/security/events", params={"limit": limit})
            if answer.status_code in {401, 403}:
                raise _Refused(f"{self._url}: API_KEY is refused ({answer.status_code}).")
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


def _is_wanted(event: dict[str, Any], options: argparse.Namespace) -> bool:
    """An unknown severity counts as the worst."""
    least = _SEVERITIES.index(options.severity)
    return event.get("severity") not in _SEVERITIES[:least] and (not options.kind or event.get("event") in options.kind)


def _line(event: dict[str, Any], name: str) -> str:
    """Return an event as one line that no value in it can end, colour or forge."""
    severity = str(event.get("severity"))
    facts = [f"{fact}={_plain(value)}" for fact, value in _details(event).items()]
    kind, when, caller = f"{event.get('event')!s:24}", event.get("timestamp"), event.get("identifier")
    words = [str(word) for word in (when, name, f"{severity.upper():6}", kind, caller, *facts) if word]
    line = escape_controls(" ".join(words))
    return colored(line, _COLORS[severity], sys.stdout) if severity in _COLORS else line


def _plain(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _details(event: dict[str, Any]) -> dict[str, Any]:
    details = event.get("details")
    return details if isinstance(details, dict) else {}


def _count(event: dict[str, Any]) -> int:
    count = _details(event).get("count")
    return count if isinstance(count, int) else 1


def _identity(event: dict[str, Any]) -> str:
    """Return what makes it the same event: all of it, or for one that stands for many, what does not change."""
    if _count(event) > 1:
        details = {**_details(event), "count": None, "request_id": None}
        event = {**event, "timestamp": None, "details": details}
    return json.dumps(event, sort_keys=True)


def explained(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Show the text of a ValueError on the command line, which argparse hides."""

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
