"""The HTTP application: the layers of a request in one list, top to bottom, and the routes below them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import SubscriptionsListenRequestParams
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Match, Route
from starlette.types import Scope

from .audit_trail.trail import AuditTrail
from .auth.credentials import Credentials, make_credentials
from .auth.oauth.resource_metadata import ResourceMetadata
from .auth.principal import ANONYMOUS, current_principal
from .calls.confirmation import LIFETIME
from .events.log import EventLog
from .events.route import events_route
from .events.untrusted import add_secrets
from .http.health import Health
from .limits.lockout import FailedAttempts
from .limits.rate_limiter import LimiterFactory, RateLimiter
from .mcp.endpoint import McpEndpoint, SessionManager
from .mcp.guarded_server import GuardedServer
from .mcp.streams import ListenStreams
from .middleware.authentication import AuthenticationLayer
from .middleware.authorization import AuthorizationLayer
from .middleware.blocked_clients import BlockedClientsLayer
from .middleware.cors import CorsLayer
from .middleware.errors import EXCEPTION_HANDLERS
from .middleware.host_and_origin import HostAndOriginLayer
from .middleware.rate_limit import RateLimitLayer
from .middleware.request_body import RequestBodyLayer
from .middleware.request_context import RequestContextLayer
from .middleware.scopes import ScopeLayer
from .middleware.security_headers import SecurityHeadersLayer
from .replicas.connection import SharedRedis
from .replicas.fleet import Fleet
from .service import Service, build_server
from .settings import Settings
from .telemetry.metrics import metrics_route
from .telemetry.monitoring import make_trail, recording

PROBES = frozenset({"/livez", "/readyz"})
EVENTS, METRICS = "/security/events", "/metrics"
PAGE_SCOPES = {EVENTS: "events:read", METRICS: "metrics:read"}
"""Pages that tell of all callers, and what it takes to read them."""
# What a browser may send and read across origins: the headers of MCP 2026-07-28 and of the revisions before it.
_CORS_REQUEST = (
    *("accept", "authorization", "content-type", "last-event-id", "x-request-id"),
    *("mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name"),
)
_CORS_RESPONSE = (
    *("mcp-protocol-version", "mcp-session-id", "www-authenticate", "x-request-id"),
    *("retry-after", "ratelimit", "ratelimit-policy"),
)


class ExactRoute(Route):
    """A route without parameters that serves its path and nothing else: Starlette's pattern accepts a final newline,
    so that `/security/events%0a` would be another path to the layers and the same one to the router.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether this is the path."""
        return super().matches(scope) if scope["path"] == self.path else (Match.NONE, {})


def create_app(settings: Settings, served: Service | MCPServer) -> Starlette:
    """Return the application that uvicorn serves.

    `app.state.health` tells the owner of the sockets what to fill in, `app.state.stop_streams()` ends open streams
    with a proper result, before a shutdown waits for them.

    Args:
        settings: what is on and how much of it.
        served: the team's service, or any other MCP server, which then stands behind the same layers.
    """
    add_secrets(settings.secrets)
    redis = shared_redis(settings, served.name)
    fleet = Fleet(redis, question_lifetime=LIFETIME) if redis is not None else None
    if isinstance(served, Service):
        mcp: MCPServer = build_server(
            served, EventLog(), settings, fleet=fleet, make_limiter=_limiters(settings, fleet)
        )
    else:
        mcp = served
    guarded = mcp if isinstance(mcp, GuardedServer) else None
    events = guarded.events if guarded is not None else EventLog()
    mcp.streamable_http_app()  # makes the SDK's own manager, through which its low-level server is reached
    manager = SessionManager(
        mcp.session_manager.app,
        stateless=True,
        max_request_body_size=settings.max_body_bytes,
        # Our own layer judges Host and Origin, exactly and on every route.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    trail = make_trail(settings, served.name)
    credentials = make_credentials(settings, fleet.revocations if fleet is not None else ())
    if fleet is not None:
        fleet.revocations.own, events.forward = credentials.revoked, fleet.events.add
    health = Health(
        version=mcp.version or "",
        environment=settings.environment,
        is_known=_is_known,
        problems=lambda: [
            *credentials.problems(),
            *(fleet.redis.problems() if fleet is not None else ()),
            *(trail.problems() if trail is not None else ()),
        ],
        degraded=lambda: fleet is not None and fleet.redis.away,
    )
    streams = _own_streams(settings, guarded, manager)
    metadata = _resource_metadata(settings, guarded)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with recording(settings, trail, service=served.name, version=mcp.version or ""):
            async with fleet.running() if fleet is not None else nullcontext(), manager.run():
                health.ready = True
                try:
                    yield
                finally:
                    health.ready = False
                    events.flush()

    routes = [
        # GET and DELETE belong to sessions, and this server keeps none: 405 says so (Streamable HTTP, 2025-11-25).
        ExactRoute(settings.mcp_endpoint, McpEndpoint(manager), methods=["POST"]),
        ExactRoute(settings.health_endpoint, health.health),
        ExactRoute("/livez", health.live),
        ExactRoute("/readyz", health.readiness),
        ExactRoute(EVENTS, events_route(events, fleet.events if fleet is not None else None)),
        *([ExactRoute(METRICS, metrics_route)] if settings.metrics_port is None else ()),
        *(metadata.routes() if metadata is not None else ()),
    ]
    app = Starlette(
        routes=routes,
        middleware=_layers(
            settings,
            events,
            credentials,
            metadata,
            guarded,
            fleet=fleet,
            trail=trail,
            routes=frozenset(route.path for route in routes),
        ),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would be built from the Host header
    app.state.health = health
    app.state.events = events
    app.state.stop_streams = streams.close if streams is not None else lambda: None
    return app


def _layers(
    settings: Settings,
    events: EventLog,
    credentials: Credentials,
    metadata: ResourceMetadata | None,
    guarded: GuardedServer | None,
    *,
    fleet: Fleet | None,
    trail: AuditTrail | None,
    routes: frozenset[str],
) -> list[Middleware]:
    """The way of a request, outermost first. A refusal passes all layers above it on its way out."""
    challenge = 'Bearer realm="mcp"' + (f', resource_metadata="{metadata.url}"' if metadata is not None else "")
    layers = [
        Middleware(SecurityHeadersLayer, https=(settings.public_url or "").startswith("https:")),
        Middleware(
            RequestContextLayer,
            events=events,
            trusted_proxies=settings.trusted_proxies,
            log_requests=settings.enable_request_logging,
            routes=routes,
            trail=trail,
        ),
        Middleware(BlockedClientsLayer, events=events, blocked=settings.blocked_clients),
        # Above CORS, which answers preflights by itself: those must have come to the right host from a known origin.
        Middleware(
            HostAndOriginLayer,
            events=events,
            hosts=settings.allowed_hosts,
            origins=(*settings.own_origins, *settings.trusted_origins),
        ),
        Middleware(
            CorsLayer,
            allow_origins=settings.trusted_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_CORS_REQUEST,
            expose_headers=_CORS_RESPONSE,
            max_age=600,
        ),
        Middleware(
            AuthenticationLayer,
            events=events,
            verifiers=credentials.verifiers,
            failures=FailedAttempts(
                per_minute=settings.max_failed_auth_per_minute,
                overall_per_minute=settings.failed_auth_overall,
                make_limiter=_limiters(settings, fleet),
                shared=fleet.failures if fleet is not None else None,
            ),
            challenge=challenge,
            anonymous=None if settings.enable_auth else ANONYMOUS,
        ),
    ]
    if settings.enable_rate_limit:
        make_limiter = _limiters(settings, fleet)
        limiter = make_limiter("requests", per_minute=settings.max_requests_per_minute, burst=settings.burst)
        layers.append(Middleware(RateLimitLayer, events=events, limiter=limiter, exempt=PROBES))
    layers += [
        Middleware(
            AuthorizationLayer,
            events=events,
            public=PROBES | {settings.health_endpoint} | frozenset(metadata.paths if metadata is not None else ()),
            protected=PAGE_SCOPES,
            challenge=challenge,
        ),
        Middleware(
            RequestBodyLayer,
            events=events,
            endpoint=settings.mcp_endpoint,
            max_bytes=settings.max_body_bytes,
            max_nodes=settings.max_body_nodes,
        ),
    ]
    if guarded is not None:
        layers.append(Middleware(ScopeLayer, events=events, missing=guarded.access.missing, challenge=challenge))
    return layers


def shared_redis(settings: Settings, project: str) -> SharedRedis | None:
    """Return the connection to what replicas share; None if this server is alone."""
    if settings.redis_url is None:
        return None
    return SharedRedis(settings.redis_url.get_secret_value(), project=project, timeout=settings.redis_timeout)


def _limiters(settings: Settings, fleet: Fleet | None) -> LimiterFactory:
    if fleet is None:
        return RateLimiter
    processes = settings.replicas * settings.workers
    return partial(RateLimiter, redis=fleet.redis, on_outage=settings.rate_limit_on_outage, processes=processes)


def _resource_metadata(settings: Settings, guarded: GuardedServer | None) -> ResourceMetadata | None:
    if settings.oauth_issuer is None or settings.auth_mode != "oauth":
        return None
    scopes = guarded.access.scopes if guarded is not None else ()
    return ResourceMetadata(settings.resource_url, settings.oauth_issuer, scopes)


def _own_streams(settings: Settings, guarded: GuardedServer | None, manager: SessionManager) -> ListenStreams | None:
    """Serve `subscriptions/listen` by a handler that we can bound and close: the SDK's own would outlive a SIGTERM."""
    if guarded is None:
        return None
    streams = ListenStreams(
        guarded.bus,
        events=guarded.events,
        most=settings.max_streams,
        most_each=settings.max_streams_per_caller,
        max_age=settings.max_stream_age,
    )
    manager.app.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, streams)
    return streams


def _is_known() -> bool:
    principal = current_principal.get()
    return principal is not None and principal.kind != "anonymous"
