"""Attacks everything that a server offers, with one payload in one argument at a time, and reports the findings."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Self

import httpx2

from ...auth.keys.format import new_id, new_key
from ...cli.terminal import table
from ...service import Service
from ..running import _TLS
from .canaries import Canaries, new_mark
from .findings import Finding
from .payloads import FAMILIES, LADDERS, SQL_PAIRS, TYPES
from .samples import Name, Place, Sample, put
from .subjects import Fixture, Subject, subjects
from .target import target
from .wire import TIMEOUT_SECONDS, VALID, Answer, Attempt, Stopped, ask

__all__ = ["Campaign", "Finding", "Subject", "attack_tools", "subjects"]

_SLOW_SECONDS = 0.5  # an answer must also be five times slower than an ordinary one, twice
_SAMPLES = 3
_MAX_CONCURRENCY = 8  # attempts at the same time
_BAR_WIDTH = 30


class Campaign:
    """A server of a service with its canaries, to be attacked subject by subject."""

    def __init__(self, service: Service, fixture: str = "") -> None:
        self._service = service
        self.fixture = Fixture(fixture, project=service.project)
        self.subjects = subjects(service)
        self.calls: dict[Subject, tuple[int, int]] = {}
        """How many calls of a subject succeeded, and how many there were."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.canaries = stack.enter_context(Canaries())
            self._server = stack.enter_context(ExitStack())
            self.other_key = new_key(new_id())
            self.attempts: dict[str, Attempt] = {}
            self.start()
            # The other principal puts its data wherever it can, before the first attack.
            for subject in self.subjects:
                asyncio.run(_Attack(self, subject).leave(self.canaries.other))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the server, or restart it after an attack that it did not survive."""
        self._server.close()
        started = target(self.canaries.work, self.other_key, self.canaries.environment, self._service, self.fixture)
        self.server = self._server.enter_context(started).running
        self.canaries.secrets.add(self.server.key)

    def attack(self, subject: Subject) -> list[Finding]:
        """Attack one subject and return the findings, one for each kind, argument and family.

        One of them is that nothing is proved, because no call got through.
        """
        attack = _Attack(self, subject)
        findings = asyncio.run(attack.run())
        self.calls[subject] = attack.succeeded, attack.made
        return findings


class _Attack:
    """All attempts at one subject."""

    def __init__(self, campaign: Campaign, subject: Subject) -> None:
        self._subject, self._campaign = subject, campaign
        self._canaries = campaign.canaries
        given = campaign.fixture.samples.get(subject.name) or (None,) * _SAMPLES
        self._samples = [Sample(subject.schema, variant, one) for variant, one in enumerate(given)]
        self.succeeded = self.made = 0
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self._own = new_mark()
        self._is_shared = False
        self._usual_seconds = 0.0

    async def leave(self, mark: str) -> None:
        """Call the subject as the other principal, with its mark in every text."""
        sample = self._samples[0]
        arguments = sample.value
        for place in sample.places:
            if place.fits(mark) and not isinstance(place.path[-1], Name):
                arguments = put(arguments, place.path, mark)
        async with self._connected(self._campaign.other_key):
            await self._ask(Attempt(self._subject, arguments))

    async def run(self) -> list[Finding]:
        await self.leave(self._own)
        async with self._connected(self._campaign.server.key):
            await self._ordinary_calls()
            places = {(one.path, repr(one.schema)): (sample, one) for sample in self._samples for one in sample.places}
            for sample, place in places.values():
                await self._attack(sample, place)
        await asyncio.sleep(0.1)  # a command may still be running
        self._collect(None)
        if not self.succeeded and self._subject.name not in self._campaign.fixture.unproved:
            self._note("not proved", Attempt(self._subject, None), f"no call got through, of {self.made}")
        return list(self._findings.values())

    @asynccontextmanager
    async def _connected(self, key: str) -> AsyncIterator[None]:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}
        async with httpx2.AsyncClient(
            base_url=self._campaign.server.url, headers=headers, verify=_TLS, trust_env=False, timeout=TIMEOUT_SECONDS
        ) as self._client:
            try:
                yield
            except Stopped:
                await asyncio.to_thread(self._campaign.start)

    async def _ordinary_calls(self) -> None:
        """Make valid calls: they show the usual time, and some tools need no attack to leak."""
        times = []
        for sample in self._samples:
            for place in dict.fromkeys(sample.unguessed):
                self._note("not attacked", Attempt(self._subject, None, place), "no value for its pattern is known")
            attempt = Attempt(self._subject, sample.value)
            answer = await self._ask(attempt)
            times.append(answer.seconds)
            self._is_shared = self._is_shared or self._canaries.other in answer.text
            self._judge(attempt, answer)
        self._usual_seconds = min(times)
        self._canaries.plant_links()

    async def _attack(self, sample: Sample, place: Place) -> None:
        for family, payloads in FAMILIES.items():
            attempts = self._attempts(sample, place, family, payloads)
            # URLs one after the other: not every connection names its attempt.
            step = 1 if family == "url" else len(attempts)
            for start in range(0, len(attempts), step):
                await self._try(attempts[start : start + step])
        if self._subject.kind == "tool":
            changed = [(put(sample.value, place.path, value), repr(value)) for value in TYPES]
            await self._try([Attempt(self._subject, one, str(place), "types", text) for one, text in changed])
        if place.schema["type"] == "string":
            for four in SQL_PAIRS:
                if not self._has_found(place, "sql"):
                    await self._compare(self._attempts(sample, place, "sql", four))
            for family, steps in LADDERS:
                if not self._has_found(place, family):
                    await self._climb(self._attempts(sample, place, family, steps, always_first=False))

    def _has_found(self, place: Place, family: str) -> bool:
        return any((one.argument, one.family) == (str(place), family) for one in self._findings.values())

    def _attempts(
        self, sample: Sample, place: Place, family: str, payloads: Iterable[str], *, always_first: bool = True
    ) -> list[Attempt]:
        """Return the attempts that the schema lets through, and always the first: schemas are attacked, too."""
        attempts: list[Attempt] = []
        valid, argument = str(sample.at(place)), str(place.path[-1])
        for payload in payloads:
            token = f"canary{secrets.token_hex(6)}"
            text = self._canaries.filled(payload, token=token, valid=valid, argument=argument)
            if place.fits(text) or (always_first and not attempts):
                arguments = put(sample.value, place.path, text)
                attempts.append(Attempt(self._subject, arguments, str(place), family, text))
                self._campaign.attempts[token] = attempts[-1]
        return attempts

    async def _try(self, attempts: list[Attempt]) -> None:
        limit = asyncio.Semaphore(min(_MAX_CONCURRENCY, self._subject.max_concurrency))

        async def one(attempt: Attempt) -> None:
            async with limit:
                self._judge(attempt, await self._ask(attempt))

        try:
            async with asyncio.TaskGroup() as group:
                for attempt in attempts:
                    group.create_task(one(attempt))
        except* Stopped as stopped:
            raise stopped.exceptions[0] from None
        self._collect(attempts[0])

    async def _compare(self, attempts: list[Attempt]) -> None:
        """Find out whether a database evaluates the conditions, from the answers alone."""
        if len(attempts) == 4:
            answers = [await self._ask(attempt) for attempt in attempts]
            said = [answer.text.replace(one.payload, "") for answer, one in zip(answers, attempts, strict=True)]
            if said[0] == said[1] != said[2] == said[3]:
                self._note("attack succeeded", attempts[0], "true and false conditions are answered differently")

    async def _climb(self, attempts: list[Attempt]) -> None:
        """Send longer and longer payloads until one is slow twice."""
        limit = max(_SLOW_SECONDS, 5 * self._usual_seconds)
        for attempt in attempts:
            answer = await self._ask(attempt)
            if answer.seconds > limit and (again := await self._ask(attempt)).seconds > limit:
                slow = f"{len(attempt.payload)} characters took {min(answer.seconds, again.seconds):.1f} s"
                self._note("slow answer", attempt, f"{slow}, an ordinary call {self._usual_seconds:.2f} s")
                return

    async def _ask(self, attempt: Attempt) -> Answer:
        self.made += 1
        try:
            answer = await ask(self._client, attempt)
        except Stopped as stopped:
            kind, evidence = stopped.args
            self._note(kind, attempt, evidence)
            raise
        self.succeeded += not answer.is_error and answer.state is None
        return answer

    def _judge(self, attempt: Attempt, answer: Answer) -> None:
        for kind, evidence in self._canaries.leaks(answer.text, is_error=answer.is_error).items():
            self._note(kind, attempt, evidence)
        if self._own in answer.text or (self._canaries.other in answer.text and not self._is_shared):
            self._note("data of another caller", attempt, "what another principal had sent is in the answer")
        if answer.size > 1.1 * self._campaign.server.settings.max_result_bytes + 4096:
            self._note("answer over the size limit", attempt, f"{answer.size} bytes")

    def _collect(self, attempt: Attempt | None) -> None:
        for token, evidence in self._canaries.touched().items():
            by = self._campaign.attempts.get(token) or attempt or Attempt(self._subject, None)
            self._note("attack succeeded", by, evidence)

    def _note(self, kind: str, by: Attempt, evidence: str) -> None:
        shown = ascii(by.payload if len(by.payload) <= 100 else f"{by.payload[:97]}...")
        found = Finding(kind, by.subject, by.argument, by.family, shown, evidence)
        if (kind, "", VALID) not in self._findings:  # a finding in every call needs no payload
            self._findings.setdefault((kind, by.argument, by.family), found)


def attack_tools(service: Service, fixture: str = "", *, allow_unproved: bool = False) -> int:
    """Attack everything that `service` offers, print the findings and return the exit code."""
    found: dict[Subject, list[Finding]] = {}
    with Campaign(service, fixture) as campaign:
        for number, subject in enumerate(campaign.subjects):
            _progress(number, len(campaign.subjects), str(subject))
            found[subject] = campaign.attack(subject)
        _progress(len(campaign.subjects), len(campaign.subjects), "")
    rows = [("SUBJECT", "CALLS THAT SUCCEEDED", "FINDINGS")]
    for one, some in found.items():
        rows.append((str(one), "{} of {}".format(*campaign.calls.get(one, (0, 0))), str(len(some)) if some else "-"))
    print(table(rows))
    failed = [one for some in found.values() for one in some if one.kind != "not proved" or not allow_unproved]
    for finding in failed:
        print(f"\n{finding}")
    return 1 if failed else 0


def _progress(done: int, of: int, what: str) -> None:
    if sys.stderr.isatty():
        bar = "#" * (_BAR_WIDTH * done // max(of, 1))
        end = "\n" if done == of else ""
        print(f"\r\x1b[2K[{bar:<{_BAR_WIDTH}}] {done}/{of} {what}", end=end, file=sys.stderr, flush=True)
