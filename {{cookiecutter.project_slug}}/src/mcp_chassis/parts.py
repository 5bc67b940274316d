"""The parts that a server is assembled from. The optional rooms add theirs before the server is made."""

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from starlette.routing import Route

from .auth.keys.days import KeyDays
from .auth.keys.store import KeySource, usable_keys
from .auth.verifier import Verifier
from .calls.confirmation import OpenQuestions
from .calls.record import Recorder
from .calls.running import HandleStore
from .events.file import EventFile
from .events.log import EventLog, SecurityEvent
from .events.route import SharedEvents
from .events.untrusted import add_secrets
from .limits.lockout import SharedFailures
from .limits.rate_limiter import LimiterFactory, RateLimiter
from .mcp.sdk import SubscriptionBus
from .rooms import rooms
from .settings import Settings


@dataclass(kw_only=True)
class Parts:
    """The parts of one server, with what a server without optional rooms has."""

    settings: Settings
    name: str
    version: str
    transport: Literal["http", "stdio"] = "http"

    keys: KeySource = field(init=False)
    events: EventLog = field(init=False)
    shared_events: SharedEvents | None = None
    """Those of all replicas."""
    listeners: list[Callable[[SecurityEvent], None]] = field(default_factory=list)
    """Called with every event that is logged. Must not wait."""
    recorder: Recorder = field(default_factory=Recorder)
    make_limiter: LimiterFactory = RateLimiter
    verifiers: list[Verifier] = field(default_factory=list)
    """Judge tokens that are not API keys."""
    failures: SharedFailures | None = None
    """Addresses that sent wrong credentials to other replicas."""
    revoked: Container[str] = frozenset()
    """Ids of keys that were revoked elsewhere."""
    bus: SubscriptionBus | None = None
    questions: OpenQuestions | None = None
    state_keys: tuple[bytes, ...] = ()
    handles: HandleStore | None = None
    routes: list[Route] = field(default_factory=list)
    protected: dict[str, str] = field(default_factory=dict)
    """Paths of routes that show data of all callers, with the scope that each needs."""
    public: set[str] = field(default_factory=set)
    """Paths of routes that need no credential."""
    challenge: str = 'Bearer realm="mcp"'
    base_scopes: frozenset[str] = frozenset()
    """Scopes that clients of OAuth ask for at first. Empty: those of read-only tools, once the server is made."""
    lists_all: frozenset[str] = frozenset()
    """Kinds of callers whose lists also hold what they lack scopes for. A call of it tells them which."""
    asked_for: Callable[[str], str] = str
    """Returns the name by which clients ask for a scope."""
    problems: list[Callable[[], list[str]]] = field(default_factory=list)
    """Each returns what an operator should fix now."""
    degraded: list[Callable[[], bool]] = field(default_factory=list)
    failing: Callable[[], Awaitable[list[str]]] | None = None
    """Returns the names of the team's checks that fail."""
    running: list[Callable[[], AbstractAsyncContextManager[None]]] = field(default_factory=list)
    """Entered in order before the first request, exited in reverse order after the last."""
    _file: EventFile | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        add_secrets((*self.settings.secrets, *self.settings.other_secrets))
        self.events = EventLog(listeners=self.listeners)
        if self.transport == "http" and self.settings.events_file is not None:
            self._file = EventFile(self.settings.events_file)
            self.events.restore(self._file.events())
            self.listeners.append(self._file.add)
        self.keys = usable_keys(self.settings)
        self.problems.append(self.keys.problems)
        if self.transport == "http":
            path = self._file.path if self._file is not None else None
            self.running.append(KeyDays(self.keys, self.events, path).running)
        for room in rooms().values():
            room.assemble(self)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Keep the background work of all parts running while the block runs."""
        async with AsyncExitStack() as stack:
            if self._file is not None:
                stack.callback(self._file.close)
            for enter in self.running:
                await stack.enter_async_context(enter())
            yield
