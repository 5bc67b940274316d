"""`check`: whether this server can start as it is configured, and what should be changed."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from pydantic import SecretBytes, SecretStr

from ..approval.lint import approval_problems, unconfirmed
from ..auth.keys.records import SOON
from ..auth.keys.store import KeySource, usable_keys
from ..http.origins import is_loopback
from ..limits.client_address import holds_most_addresses
from ..rooms import OFFERS, Finding, needs_key, rooms
from ..service import Service, unchecked_server
from ..settings import (
    EXIT_CONFIG,
    TRUSTS_ANYONE,
    Settings,
    all_fields,
    misspelled,
    read_env_file,
    secret_files,
    team_fields,
)
from ..state import StartError
from .chassis import differences, summary
from .file_rights import READ_OR_WRITE, too_open
from .terminal import HTTP_OPTIONS, Commands, colored

_QUARTER = timedelta(days=90)  # as docs/runbook.md has keys rotated
_COLORS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


def add_commands(commands: Commands) -> None:
    """Add the command."""
    check = commands.add_parser("check", parents=[HTTP_OPTIONS], help="report on settings, tools, keys and exposure")
    check.add_argument("--start", action="store_true", help="also open what the tools share, check it, and close it")
    check.set_defaults(run=_check, report=_report)


def _check(options: argparse.Namespace, service: Service, settings: Settings) -> int:
    """Print the report. Return 0, or if something fails 1, or 78 where the server would not start."""
    found = [*_findings(service, settings, datetime.now(UTC)), *(_start(service, settings) if options.start else ())]
    print_findings(found)
    failed = any(finding.level == "FAIL" for finding in found)
    return EXIT_CONFIG if failed and settings.environment == "production" else int(failed)


def _report(problems: list[str]) -> None:
    print_findings([Finding("FAIL", "settings", problem) for problem in problems])


def print_findings(found: list[Finding]) -> None:
    """Print the report."""
    for finding in found:
        level = colored(finding.level.ljust(4), _COLORS[finding.level], sys.stdout)
        print(f"{level}  {finding.about:<15} {finding.text}")


def _findings(service: Service, settings: Settings, now: datetime) -> Iterator[Finding]:
    keys = usable_keys(settings)
    yield Finding("OK", "settings", f"usable; it would listen on {settings.host}:{settings.port}")
    for about, name, how in (
        ("authentication", "enable_auth", "by api-key" if needs_key(settings) else "by oauth"),
        ("rate limit", "enable_rate_limit", f"{settings.max_requests_per_minute} a minute"),
        ("request log", "enable_request_logging", settings.log_level),
    ):
        off = f"OFF. Set {name.upper()}=true, unless something in front of the server does it."
        yield Finding("OK", about, f"on, {how}") if getattr(settings, name) else Finding("WARN", about, off)
    yield from _exposure(settings)
    yield from _own(service, settings)
    yield from _strays(settings)
    yield from _files(service, settings)
    yield from _old_keys(keys, settings, now)
    for room in rooms().values():
        yield from room.findings(service, settings)
    if changed := differences():
        text = f"{changed[0].rstrip('.')}, of {len(changed)} that differ. `chassis verify` shows all."
        yield Finding("WARN", "chassis", text)
    else:
        yield Finding("OK", "chassis", summary())
    yield from _tools(service, settings)


def _exposure(settings: Settings) -> Iterator[Finding]:
    """What matters when other machines can reach the server."""
    if holds_most_addresses(settings.trusted_proxies):
        yield Finding("WARN", "proxies", f"TRUSTED_PROXIES {TRUSTS_ANYONE} In production it is refused.")
    if settings.public_url is None and is_loopback(settings.host):
        yield Finding("OK", "exposure", f"this machine only, as {settings.environment}")
        return
    parts = urlsplit(settings.public_url or "")
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        yield Finding("OK", "TLS", f"clients of this machine use {settings.public_url}, without TLS")
    elif parts.scheme == "https":
        yield Finding("OK", "TLS", f"clients use {settings.public_url}; something in front must hold the certificate")
    else:
        text = f"PUBLIC_URL is {settings.public_url}: keys cross the network readable. Use https."
        yield Finding("WARN", "TLS", text)
    if not settings.trusted_proxies:
        text = "TRUSTED_PROXIES is empty: behind a proxy all clients are one address. Name its network."
        yield Finding("WARN", "proxies", text)
    if settings.environment != "production":
        yield Finding("WARN", "environment", "development. Set ENVIRONMENT=production: unapproved tools are refused.")
    for origin in settings.trusted_origins:
        if urlsplit(origin).scheme == "http" and not is_loopback(urlsplit(origin).hostname or ""):
            yield Finding("WARN", "origins", f"Anyone on that network can impersonate {origin}. Use https.")


def _own(service: Service, settings: Settings) -> Iterator[Finding]:
    for name in team_fields(service.settings):
        value = getattr(settings, name)
        shown = "(secret)" if isinstance(value, SecretBytes | SecretStr) else str(value)
        source = "" if name in settings.model_fields_set else ", the default"
        yield Finding("OK", "own settings", f"{name.upper()} is {shown}{source}")


def _strays(settings: Settings) -> Iterator[Finding]:
    """What is set and nothing reads, although it looks as if it were meant."""
    yield from (Finding("WARN", place, sentence) for place, sentence in misspelled(settings))
    traces = sorted(name for name in {*os.environ, *read_env_file(settings.env_file)} if name.startswith("OTEL_"))
    if traces and "tracing" not in rooms():
        add = next(offer.command for offer in OFFERS if offer.package == "tracing")
        text = f"{traces[0]} is set, and nothing is traced. This project was made without tracing. To add it: {add}"
        yield Finding("WARN", "tracing", text)


def _start(service: Service, settings: Settings) -> Iterator[Finding]:
    """Whether what the tools share can be opened, works, and can be closed."""
    state = service.state(settings)

    async def failing() -> list[str]:
        async with state.running():
            return await state.failing()

    try:
        names = asyncio.run(failing())
    except StartError as error:
        yield Finding("FAIL", "start", str(error))
        return
    yield from (Finding("FAIL", "start", f"the check {name} fails, the log says why") for name in names)
    if not names:
        yield Finding("OK", "start", "what the tools share was opened, checked and closed")


def _files(service: Service, settings: Settings) -> Iterator[Finding]:
    """The rights of the files that hold secrets."""
    files = [(".env", settings.env_file), ("keys file", settings.keys_file), ("events", settings.events_file)]
    known = all_fields(service.settings)
    files += [("secrets", path) for path in sorted(secret_files()) if path.name.lower() in known]
    for about, path in files:
        for problem in too_open(path, READ_OR_WRITE) if path is not None else ():
            yield Finding("WARN", about, problem)


def _old_keys(keys: KeySource, settings: Settings, now: datetime) -> Iterator[Finding]:
    """Of the valid keys, those that are old or expire soon."""
    if settings.api_key is not None and settings.env_file is not None and settings.env_file.is_file():
        age = now - datetime.fromtimestamp(settings.env_file.stat().st_mtime, UTC)
        if age > _QUARTER:
            text = f'unchanged for {age.days} days, and the key in it too. See "Key rotation" in docs/runbook.md.'
            yield Finding("WARN", "key age", text)
    for record in keys.records().values():
        key, remedy, age = f"{record.id} ({record.name})", f"Run: keys rotate {record.id}", now - record.created
        if record.state(now) != "valid":
            continue
        if record.expires is not None and record.expires - now < SOON:
            yield Finding("WARN", "key age", f"{key} ends in {(record.expires - now).days} days. {remedy}")
        elif age > _QUARTER:
            yield Finding("WARN", "key age", f"{key} is {age.days} days old. {remedy}")


def _tools(service: Service, settings: Settings) -> Iterator[Finding]:
    server = unchecked_server(service)
    tools = server.guarded_tools
    if problems := approval_problems(tools, settings.tools_lock, server.other_texts):
        text = f"{problems[0].rstrip('.')}. `tools check` shows all of it."
        yield Finding("FAIL" if settings.environment == "production" else "WARN", "tools", text)
    else:
        yield Finding("OK", "tools", f"{len(tools)} as approved in {settings.tools_lock}")
    for name, guarded in tools.items():
        yield from (Finding("WARN", "tools", f"{name}: {warning}.") for warning in unconfirmed(guarded.policy))
