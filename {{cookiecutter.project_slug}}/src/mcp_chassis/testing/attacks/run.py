"""Walks everything that a server offers, one payload in one place at a time, and says what came of it."""

import asyncio
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NoReturn, Self

import httpx2

from ...auth.principal import STDIO, current_principal
from ...mcp.guarded_server import GuardedServer
from ...mcp.sdk import UriTemplate
from ...service import Service, unchecked_server
from .canaries import Canaries
from .payloads import ADVICE, FAMILIES, LADDERS, SQL_PAIRS, TYPES
from .samples import Name, Place, Sample, put
from .target import OtherKey, target

_META = "io.modelcontextprotocol/"
_MODERN = "2026-07-28"
_SLOW = 0.5  # seconds; an answer must also be five times slower than an ordinary one, twice
_PATIENCE = 8.0
_AT_ONCE = 8
_TURNS = 3
_VALID = "valid arguments"
_ENDED_BY_GUARD = "did not finish within"
_SINKS = frozenset({"path", "url", "shell", "code", "template", "sql", "xml"})
_FIX = {
    "secret in the answer": "answer with what was asked for only; never with os.environ or settings",
    "internal text in the answer": 'raise ToolError("your own sentence") without the text of the exception',
    "data of another caller": "keep no caller's data in globals; store and look it up by get_principal().id",
    "answer over the size limit": "bound what is returned, in pages if need be",
    "server error": "catch what the function can raise, and raise ToolError with your own sentence",
    "server ended": "never call os._exit or native code on a value; start programs with run_argv",
    "not attacked": 'say what a valid value looks like: Field(examples=["..."])',
}


@dataclass(frozen=True)
class Subject:
    """One tool, prompt, resource or resource template."""

    kind: Literal["tool", "prompt", "resource"]
    name: str
    schema: dict[str, Any] = field(hash=False, repr=False)
    at_once: int = _AT_ONCE
    confirm: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Finding:
    """What an attack achieved."""

    kind: str
    subject: Subject
    argument: str
    family: str
    payload: str
    saw: str

    @property
    def safe_way(self) -> str:
        """How to write it instead."""
        if self.kind == "hidden text in the answer":
            return ADVICE["text"]
        if self.kind == "secret in the answer" and self.family in _SINKS:
            return ADVICE[self.family]
        return _FIX.get(self.kind) or ADVICE.get(self.family, "bound what the function does with this value")

    def __str__(self) -> str:
        where = f"argument {self.argument}" if self.argument else "any call"
        return (
            f"{self.subject}, {where}: {self.kind} ({self.family}): {self.saw}\n"
            f"    payload: {self.payload}\n    safe way: {self.safe_way}"
        )


@dataclass(frozen=True)
class _Attempt:
    subject: Subject
    arguments: Any
    argument: str = ""
    family: str = _VALID
    text: str = ""


@dataclass(frozen=True)
class _Answer:
    status: int
    text: str
    size: int
    is_error: bool
    seconds: float
    state: Any


class _Stopped(Exception):
    """The server hangs or is gone: nothing more can be learnt of this subject."""


async def _listed(server: GuardedServer) -> list[Subject]:
    current_principal.set(STDIO)  # who may see everything
    found = [
        Subject("tool", name, one.tool.parameters, min(_AT_ONCE, one.policy.max_concurrency), one.policy.confirm)
        for name, one in server.guarded_tools.items()
    ]
    uris = [str(one.uri) for one in await server.list_resources()]
    uris += [one.uri_template for one in await server.list_resource_templates()]
    found += [Subject("resource", uri, _strings(UriTemplate.parse(uri).variable_names)) for uri in uris]
    prompts = await server.list_prompts()
    return found + [Subject("prompt", one.name, _strings(a.name for a in one.arguments or ())) for one in prompts]


def _strings(names: Iterable[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def subjects(service: Service) -> list[Subject]:
    """Return everything that can be attacked."""
    return asyncio.run(_listed(unchecked_server(service)))


class Campaign:
    """A server with its canaries, to be attacked subject by subject.

    Args:
        service: what is attacked.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.subjects = subjects(service)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.canaries = stack.enter_context(Canaries())
            self._server = stack.enter_context(ExitStack())
            self.other_key = OtherKey()
            self.attempts: dict[str, _Attempt] = {}
            self.start()
            # The other principal leaves its data wherever it can, before the first attack.
            for subject in self.subjects:
                asyncio.run(_Attack(self, subject).leave(self.canaries.other))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the server, or start it afresh after an attack that it did not survive."""
        self._server.close()
        started = target(self.canaries.work, self.other_key, self.canaries.environment, self._service)
        self.server = self._server.enter_context(started).running
        self.canaries.secrets.add(self.server.key)

    def attack(self, subject: Subject) -> list[Finding]:
        """Attack one subject and return what was found, one finding for each kind, argument and family."""
        return asyncio.run(_Attack(self, subject).run())


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Attack:
    """All attempts at one subject."""

    def __init__(self, campaign: Campaign, subject: Subject) -> None:
        self._subject, self._campaign = subject, campaign
        self._canaries = campaign.canaries
        self._samples = [Sample(subject.schema, turn) for turn in range(_TURNS)]
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self._own = secrets.token_hex(8).translate(str.maketrans("0123456789", "ghjkmnpqrs"))
        self._shared = False
        self._usual = 0.0

    async def leave(self, mark: str) -> None:
        """Call the subject as the other principal, with its mark in every text."""
        sample = self._samples[0]
        arguments = sample.value
        for place in sample.places:
            if place.fits(mark) and not isinstance(place.path[-1], Name):
                arguments = put(arguments, place.path, mark)
        async with self._connected(self._campaign.other_key.text):
            await self._ask(_Attempt(self._subject, arguments))

    async def run(self) -> list[Finding]:
        """Attack."""
        await self.leave(self._own)
        async with self._connected(self._campaign.server.key):
            await self._ordinary_calls()
            for place, sample in self._places():
                await self._attack(sample, place)
        await asyncio.sleep(0.1)  # a command may have been left to run
        self._collect(None)
        return list(self._findings.values())

    @asynccontextmanager
    async def _connected(self, key: str) -> AsyncIterator[None]:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(
            base_url=self._campaign.server.url, headers=headers, verify=_tls(), trust_env=False, timeout=_PATIENCE
        ) as self._client:
            try:
                yield
            except _Stopped:
                await asyncio.to_thread(self._campaign.start)

    async def _ordinary_calls(self) -> None:
        """Make valid calls: they show what is usual, and some tools need no attack to leak."""
        times = []
        for sample in self._samples:
            for place in dict.fromkeys(sample.unguessed):
                self._note("not attacked", _Attempt(self._subject, None, place), "no value for its pattern is known")
            attempt = _Attempt(self._subject, sample.value)
            answer = await self._ask(attempt)
            times.append(answer.seconds)
            self._shared = self._shared or self._canaries.other in answer.text
            self._judge(attempt, answer)
        self._usual = min(times)
        self._canaries.plant_links()

    def _places(self) -> list[tuple[Place, Sample]]:
        found = {(one.path, repr(one.schema)): (one, sample) for sample in self._samples for one in sample.places}
        return list(found.values())

    async def _attack(self, sample: Sample, place: Place) -> None:
        for family, payloads in FAMILIES.items():
            attempts = self._attempts(sample, place, family, payloads)
            # URLs one after the other: not every connection says whose it is.
            step = 1 if family == "url" else len(attempts)
            for start in range(0, len(attempts), step):
                await self._try(attempts[start : start + step])
        if self._subject.kind == "tool":
            changed = [(put(sample.value, place.path, value), repr(value)) for value in TYPES]
            await self._try([_Attempt(self._subject, one, str(place), "types", text) for one, text in changed])
        if place.schema["type"] == "string":
            for four in SQL_PAIRS:
                if not self._found(place, "sql"):
                    await self._compare(self._attempts(sample, place, "sql", four))
            for family, steps in LADDERS:
                if not self._found(place, family):
                    await self._climb(self._attempts(sample, place, family, steps, whole=False))

    async def _try(self, attempts: list[_Attempt]) -> None:
        gate = asyncio.Semaphore(self._subject.at_once)

        async def one(attempt: _Attempt) -> None:
            async with gate:
                self._judge(attempt, await self._ask(attempt))

        try:
            async with asyncio.TaskGroup() as group:
                for attempt in attempts:
                    group.create_task(one(attempt))
        except* _Stopped:
            raise _Stopped from None
        self._collect(attempts[0])

    def _found(self, place: Place, family: str) -> bool:
        return any((one.argument, one.family) == (str(place), family) for one in self._findings.values())

    def _attempts(
        self, sample: Sample, place: Place, family: str, payloads: Iterable[str], *, whole: bool = True
    ) -> list[_Attempt]:
        """Return the attempts that the schema lets through, and always the first: schemas are attacked, too."""
        attempts: list[_Attempt] = []
        valid, argument = str(sample.at(place)), str(place.path[-1])
        for payload in payloads:
            token = f"canary{secrets.token_hex(6)}"
            text = self._canaries.filled(payload, token=token, valid=valid, argument=argument)
            if place.fits(text) or (whole and not attempts):
                arguments = put(sample.value, place.path, text)
                attempts.append(_Attempt(self._subject, arguments, str(place), family, text))
                self._campaign.attempts[token] = attempts[-1]
        return attempts

    async def _compare(self, attempts: list[_Attempt]) -> None:
        """Find out whether a database tells what is true from what is not, by answers alone."""
        if len(attempts) == 4:
            answers = [await self._ask(attempt) for attempt in attempts]
            said = [answer.text.replace(one.text, "") for answer, one in zip(answers, attempts, strict=True)]
            if said[0] == said[1] != said[2] == said[3]:
                self._note("attack succeeded", attempts[0], "true and false conditions are answered differently")

    async def _climb(self, attempts: list[_Attempt]) -> None:
        limit = max(_SLOW, 5 * self._usual)
        for attempt in attempts:
            answer = await self._ask(attempt)
            if answer.seconds > limit and (again := await self._ask(attempt)).seconds > limit:
                saw = f"{len(attempt.text)} characters took {min(answer.seconds, again.seconds):.1f} s"
                self._note("slow answer", attempt, f"{saw}, an ordinary call {self._usual:.2f} s")
                return

    async def _ask(self, attempt: _Attempt) -> _Answer:
        """Send one call, with the consent that a destructive tool asks for.

        Raises:
            _Stopped: if the server does not answer, or says that it is broken.
        """
        method, params = self._call(attempt)
        headers = {"Content-Type": "application/json"}
        if attempt.subject.confirm:
            params["_meta"] = {
                f"{_META}protocolVersion": _MODERN,
                f"{_META}clientInfo": {"name": "attack", "version": "1"},
                f"{_META}clientCapabilities": {"elicitation": {"form": {}}},
            }
            headers |= {"MCP-Protocol-Version": _MODERN, "Mcp-Method": method, "Mcp-Name": attempt.subject.name}
        started = time.perf_counter()
        for _ in range(2):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
            try:
                response = await self._client.post("/mcp", content=body, headers=headers)
            except httpx2.HTTPError as error:
                if isinstance(error, httpx2.TimeoutException):
                    self._stop("slow answer", attempt, f"no answer in {_PATIENCE:g} s")
                self._stop("server ended", attempt, "the server ended the connection")
            answer = _read(response, time.perf_counter() - started)
            if answer.state is None:
                break
            accept = {"action": "accept", "content": {"confirm": True}}
            params |= {"inputResponses": {"confirm": accept}, "requestState": answer.state}
        if answer.status >= 500:  # nothing may be served any more
            self._stop("server error", attempt, f"HTTP {answer.status}")
        if answer.is_error and _ENDED_BY_GUARD in answer.text:
            self._stop("slow answer", attempt, "the guard had to end the call at its deadline")
        return answer

    def _stop(self, kind: str, attempt: _Attempt, saw: str) -> NoReturn:
        self._note(kind, attempt, saw)
        raise _Stopped

    def _call(self, attempt: _Attempt) -> tuple[str, dict[str, Any]]:
        subject, arguments = attempt.subject, attempt.arguments
        if subject.kind == "tool":
            return "tools/call", {"name": subject.name, "arguments": arguments}
        if subject.kind == "prompt":
            return "prompts/get", {"name": subject.name, "arguments": arguments}
        readable = {name: value.encode(errors="replace").decode() for name, value in arguments.items()}
        return "resources/read", {"uri": UriTemplate.parse(subject.name).expand(readable)}

    def _judge(self, attempt: _Attempt, answer: _Answer) -> None:
        for kind, saw in self._canaries.leaks(answer.text, is_error=answer.is_error).items():
            self._note(kind, attempt, saw)
        if self._own in answer.text or (self._canaries.other in answer.text and not self._shared):
            self._note("data of another caller", attempt, "what another principal had sent is in the answer")
        if answer.size > 1.1 * self._campaign.server.settings.max_result_bytes + 4096:
            self._note("answer over the size limit", attempt, f"{answer.size} bytes")

    def _collect(self, attempt: _Attempt | None) -> None:
        for token, saw in self._canaries.touched().items():
            by = self._campaign.attempts.get(token) or attempt or _Attempt(self._subject, None)
            self._note("attack succeeded", by, saw)

    def _note(self, kind: str, by: _Attempt, saw: str) -> None:
        shown = ascii(by.text if len(by.text) <= 100 else f"{by.text[:97]}...")
        found = Finding(kind, by.subject, by.argument, by.family, shown, saw)
        if (kind, "", _VALID) not in self._findings:  # what every call does is no merit of a payload
            self._findings.setdefault((kind, by.argument, by.family), found)


def _read(response: httpx2.Response, seconds: float) -> _Answer:
    try:
        document = response.json()
    except ValueError:
        document = response.text
    result = document.get("result") if isinstance(document, dict) else None
    is_error = not isinstance(result, dict) or result.get("isError") is True
    state = result.get("requestState") if isinstance(result, dict) else None
    return _Answer(response.status_code, _texts(document), len(response.content), is_error, seconds, state)


def _texts(value: Any) -> str:
    """Return every name and text in a JSON document, a line each."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return "\n".join(map(_texts, value))
    return value if isinstance(value, str) else ""
