"""`events` and `events --follow`: the security events of running servers, as one list."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2

from ..events.console import facts
from ..events.log import KINDS
from ..events.untrusted import escape_controls
from ..http.origins import is_loopback, normal_origin
from ..settings import Settings, SettingsError
from .serve import own_url
from .terminal import HTTP_OPTIONS, Commands, colored

_SEVERITIES = ("low", "medium", "high")
_COLORS = {"high": "red", "medium": "yellow", "low": "cyan"}
_PAGE = 1000  # events; a server keeps no more


class _Refused(Exception):
    """A server refuses the key: to ask it again would look like guessing."""


def add_commands(commands: Commands) -> None:
    """Add the command. The audit trail adds `events verify` to it."""
    events = commands.add_parser("events", parents=[HTTP_OPTIONS], help="show security events of running servers")
    events.set_defaults(run=_events)
    events.add_argument("--follow", action="store_true", help="go on with new ones until Ctrl-C")
    text = "a server, such as https://mcp.example.com; may be repeated"
    events.add_argument("--url", action="append", type=explained(normal_origin), metavar="URL", help=text)
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
            return _show(client, urls, options)
    except _Refused as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _show(client: httpx2.Client, urls: list[str], options: argparse.Namespace) -> int:
    pages: dict[str, dict[str, dict[str, Any]]] = {url: {} for url in urls}  # the last of each server, by identity
    unavailable: set[str] = set()
    limit = options.limit
    while True:
        shown = {identity for page in pages.values() for identity in page}
        for url in urls:
            if (page := _page(client, url, unavailable)) is not None:
                pages[url] = page
        # Replicas return the same events. A flood is shown again, with its count, while it grows.
        new: dict[str, tuple[dict[str, Any], str]] = {}
        for url, events in pages.items():
            name = urlsplit(url).netloc if urls[1:] else ""
            new |= {
                one: (event, name) for one, event in events.items() if one not in shown and _is_wanted(event, options)
            }
        lines = [_line(*found) for found in sorted(new.values(), key=lambda found: str(found[0].get("timestamp")))]
        for line in lines[-limit:]:
            print(line, flush=True)
        if not options.follow:
            break
        limit = _PAGE
        time.sleep(options.every)
    if unavailable:
        return 1
    if not lines:
        print("No such events.", file=sys.stderr)
    return 0


def _page(client: httpx2.Client, url: str, unavailable: set[str]) -> dict[str, dict[str, Any]] | None:
    """Return the events of one server by what identifies them; None if it does not answer, which is said once."""
    try:
        answer = client.get(f"{url}/security/events", params={"limit": _PAGE})
        if answer.status_code in {401, 403}:
            raise _Refused(f"{url}: API_KEY is refused ({answer.status_code}).")
        events = [event for event in answer.raise_for_status().json()["events"] if isinstance(event, dict)]
    except httpx2.HTTPStatusError as error:
        text = f"does not answer with events ({error.response.status_code})."
    except httpx2.TransportError:
        text = "does not answer. Is the server running there? --host, --port or --url name another."
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        text = "does not answer with events. Is it a server of this template?"
    else:
        if url in unavailable:
            print(f"{url}: answers again", file=sys.stderr)
        unavailable.discard(url)
        return {json.dumps(event, sort_keys=True): event for event in events}
    if url not in unavailable:
        print(f"{url}: {text}", file=sys.stderr)
    unavailable.add(url)
    return None


def _is_wanted(event: dict[str, Any], options: argparse.Namespace) -> bool:
    """An unknown severity counts as the worst."""
    least = _SEVERITIES.index(options.severity)
    return event.get("severity") not in _SEVERITIES[:least] and (not options.kind or event.get("event") in options.kind)


def _line(event: dict[str, Any], name: str) -> str:
    """Return an event as one line that no value in it can end, colour or forge."""
    severity, details = str(event.get("severity")), event.get("details")
    shown = facts(details) if isinstance(details, dict) else ""
    kind, when, caller = f"{event.get('event')!s:24}", event.get("timestamp"), event.get("identifier")
    words = (when, name, f"{severity.upper():6}", kind, caller, shown)
    line = escape_controls(" ".join(str(word) for word in words if word))
    return colored(line, _COLORS[severity], sys.stdout) if severity in _COLORS else line


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
