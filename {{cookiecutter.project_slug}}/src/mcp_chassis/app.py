"""The HTTP application: the layers of a request in one list, top to bottom, and the routes below them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.mcpserver import MCPServer
from mcp.types import SubscriptionsListenRequestParams
from starlette.applications import Starlette
from starlette.middleware import Middleware

from .auth.principal import ANONYMOUS, current_principal
from .events.route import events_route
from .http.health import Health
from .http.routes import ExactRoute
from .limits.lockout import FailedAttempts
from .mcp.endpoint import McpEndpoint, SessionManager
from .mcp.guarded_server import GuardedServer
from .mcp.sdk import TransportSecuritySettings
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
from .parts import Parts
from .rooms import needs_key
from .service import Service, build_server
from .settings import Settings

PROBES = frozenset({"/livez", "/readyz"})
EVENTS, EVENTS_SCOPE = "/security/events", "events:read"
# What a browser may send and read across origins: the headers of MCP 2026-07-28 and of the revisions before it.
_CORS_REQUEST = (
    *("accept", "authorization", "content-type", "last-event-id", "x-request-id"),
    *("mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name"),
)
_CORS_RESPONSE = (
    *("mcp-protocol-version", "mcp-session-id", "www-authenticate", "x-request-id"),
    *("retry-after", "ratelimit", "ratelimit-policy"),
)


def create_app(settings: Settings, served: Service | MCPServer) -> Starlette:
    """Return the application that uvicorn serves.

    `app.state.health` tells the owner of the sockets what to fill in, `app.state.stop_streams()` ends open streams
    with a proper result, before a shutdown waits for them.

    Args:
        settings: what is on and how much of it.
        served: the team's service, or any other MCP server, which then stands behind the same layers.

    Raises:
        SettingsError: if something that the settings name cannot be used.
    """
    parts = Parts(settings=settings, name=served.name, version=served.version or "")
    mcp: MCPServer = build_server(served, parts) if isinstance(served, Service) else served
    guarded = mcp if isinstance(mcp, GuardedServer) else None
    if guarded is not None:
        parts.scopes, parts.events = guarded.access.scopes, guarded.events
    if settings.enable_auth and needs_key(settings):
        parts.keys.require_one()
    mcp.streamable_http_app()  # makes the SDK's own manager, through which its low-level server is reached
    manager = SessionManager(
        mcp.session_manager.app,
        fast_path=settings.fast_path,
        stateless=True,
        max_request_body_size=settings.max_body_bytes,
        # Our own layer judges Host and Origin, exactly and on every route.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    health = Health(
        version=parts.version,
        environment=settings.environment,
        is_known=_is_known,
        problems=lambda: [problem for problems in parts.problems for problem in problems()],
        degraded=lambda: any(is_degraded() for is_degraded in parts.degraded),
    )
    streams = _own_streams(settings, guarded, manager)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with parts.run(), manager.run():
            health.ready = True
            try:
                yield
            finally:
                health.ready = False
                parts.events.flush()

    routes = [
        # GET and DELETE belong to sessions, and this server keeps none: 405 says so (Streamable HTTP, 2025-11-25).
        ExactRoute(settings.mcp_endpoint, McpEndpoint(manager), methods=["POST"]),
        ExactRoute(settings.health_endpoint, health.health),
        ExactRoute("/livez", health.live),
        ExactRoute("/readyz", health.readiness),
        ExactRoute(EVENTS, events_route(parts.events, parts.shared_events)),
        *parts.routes,
    ]
    app = Starlette(
        routes=routes,
        middleware=_layers(parts, guarded, routes=frozenset(route.path for route in routes)),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would be built from the Host header
    app.state.health = health
    app.state.events = parts.events
    app.state.stop_streams = streams.close if streams is not None else lambda: None
    return app


def _layers(parts: Parts, guarded: GuardedServer | None, *, routes: frozenset[str]) -> list[Middleware]:
    """The way of a request, outermost first. A refusal passes all layers above it on its way out."""
    settings, events = parts.settings, parts.events
    layers = [
        Middleware(SecurityHeadersLayer, https=(settings.public_url or "").startswith("https:")),
        Middleware(
            RequestContextLayer,
            events=events,
            trusted_proxies=settings.trusted_proxies,
            log_requests=settings.enable_request_logging,
            routes=routes,
            recorder=parts.recorder,
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
            verifiers=[*parts.keys.verifiers(parts.revoked), *parts.verifiers],
            failures=FailedAttempts(
                per_minute=settings.max_failed_auth_per_minute,
                overall_per_minute=settings.failed_auth_overall,
                make_limiter=parts.make_limiter,
                shared=parts.failures,
            ),
            challenge=parts.challenge,
            anonymous=None if settings.enable_auth else ANONYMOUS,
        ),
    ]
    if settings.enable_rate_limit:
        limiter = parts.make_limiter("requests", per_minute=settings.max_requests_per_minute, burst=settings.burst)
        layers.append(Middleware(RateLimitLayer, events=events, limiter=limiter, exempt=PROBES))
    layers += [
        Middleware(
            AuthorizationLayer,
            events=events,
            public=PROBES | {settings.health_endpoint} | parts.public,
            protected={EVENTS: EVENTS_SCOPE, **parts.protected},
            challenge=parts.challenge,
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
        layers.append(Middleware(ScopeLayer, events=events, missing=guarded.access.missing, challenge=parts.challenge))
    return layers


def _own_streams(settings: Settings, guarded: GuardedServer | None, manager: SessionManager) -> ListenStreams | None:
    """Serve `subscriptions/listen` by a handler that we can bound and close: the SDK's own would outlive a SIGTERM."""
    if guarded is None:
        return None
    streams = ListenStreams(
        guarded.bus,
        events=guarded.events,
        max_streams=settings.max_streams,
        max_per_caller=settings.max_streams_per_caller,
        max_age=settings.max_stream_age,
    )
    manager.app.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, streams)
    return streams


def _is_known() -> bool:
    principal = current_principal.get()
    return principal is not None and principal.kind != "anonymous"
