"""The HTTP application: the layers of a request in one list, top to bottom, and the routes below them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from mcp.server.mcpserver import MCPServer
from mcp.types import SubscriptionsListenRequestParams
from starlette.applications import Starlette
from starlette.middleware import Middleware

from .auth.principal import ANONYMOUS, authenticated
from .events.route import events_route
from .events.untrusted import declare
from .http.connections import Connections
from .http.routes import WELL_KNOWN, ExactRoute, Health
from .http.server import Application
from .limits.lockout import FailedAttempts
from .mcp.endpoint import McpEndpoint, MessageLayer, SessionManager
from .mcp.guarded_server import GuardedServer
from .mcp.sdk import TransportSecuritySettings
from .mcp.streams import ListenStreams
from .middleware.authentication import AuthenticationLayer
from .middleware.authorization import AuthorizationLayer, ScopeLayer
from .middleware.cors import CorsLayer
from .middleware.gate import BlockedClientsLayer, HostAndOriginLayer
from .middleware.rate_limit import RateLimitLayer
from .middleware.request_body import RequestBodyLayer
from .middleware.request_context import AccessLog, RequestContextLayer
from .middleware.responses import exception_handlers
from .parts import Parts
from .rooms import needs_key
from .service import Service, build_server
from .settings import Settings

PROBES = frozenset({"/livez", "/readyz"})
EVENTS, EVENTS_SCOPE = "/security/events", "events:read"


def _layers(
    parts: Parts, guarded: GuardedServer | None, access_log: AccessLog, *, routes: frozenset[str]
) -> list[Middleware]:
    """Return the layers, outermost first. A refusal passes all layers above its own on its way out."""
    settings, events = parts.settings, parts.events
    blocked, rate_limit, scopes = list[Middleware](), list[Middleware](), list[Middleware]()
    if settings.blocked_clients:
        blocked = [Middleware(BlockedClientsLayer, events=events, blocked=settings.blocked_clients)]
    if settings.enable_rate_limit:
        limiter = parts.make_limiter("requests", per_minute=settings.max_requests_per_minute, burst=settings.burst)
        rate_limit = [Middleware(RateLimitLayer, events=events, limiter=limiter, exempt=PROBES)]
    if guarded is not None:
        options: dict[str, Any] = {
            "forbidden": guarded.forbidden,
            "challenge": parts.challenge,
            "asked_for": parts.asked_for,
        }
        scopes = [Middleware(ScopeLayer, events=events, **options)]
    well_known = (WELL_KNOWN, settings.mcp_endpoint + WELL_KNOWN)
    # MCP, authorization, scope selection: clients request what the challenge names, else `scopes_supported`.
    first_challenge = parts.challenge
    if parts.base_scopes and not needs_key(settings):
        first_challenge += f', scope="{" ".join(sorted(map(parts.asked_for, parts.base_scopes)))}"'
    return [
        Middleware(
            RequestContextLayer,
            events=events,
            access_log=access_log,
            trusted_proxies=settings.trusted_proxies,
            routes=routes,
            https=(settings.public_url or "").startswith("https:"),
        ),
        *blocked,
        # Above CORS, which answers preflights by itself: those must have come to the right host from a known origin.
        Middleware(
            HostAndOriginLayer,
            events=events,
            hosts=settings.own_hosts,
            origins=(*settings.own_origins, *settings.trusted_origins),
            probes=PROBES,
        ),
        Middleware(CorsLayer, origins=settings.trusted_origins),
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
            challenge=first_challenge,
            anonymous=None if settings.enable_auth else ANONYMOUS,
            open=well_known,
        ),
        *rate_limit,
        Middleware(
            AuthorizationLayer,
            events=events,
            public=PROBES | {settings.health_endpoint} | parts.public,
            protected={EVENTS: EVENTS_SCOPE, **parts.protected},
            challenge=parts.challenge,
            first_challenge=first_challenge,
            asked_for=parts.asked_for,
            open=well_known,
        ),
        Middleware(
            RequestBodyLayer,
            events=events,
            endpoint=settings.mcp_endpoint,
            max_bytes=settings.max_body_bytes,
            max_nodes=settings.max_body_nodes,
        ),
        *scopes,
    ]


def create_app(settings: Settings, served: Service | MCPServer) -> Application:
    """Return the application that `http.server` serves.

    Args:
        settings: of the server.
        served: the team's service, or any other MCP server, which then stands behind the same layers.

    Raises:
        SettingsError: if something that the settings name cannot be used.
    """
    parts = Parts(settings=settings, name=served.name, version=served.version or "")
    mcp: MCPServer = build_server(served, parts) if isinstance(served, Service) else served
    guarded = mcp if isinstance(mcp, GuardedServer) else None
    if guarded is not None:
        parts.events, guarded.lists_all = guarded.events, parts.lists_all
        parts.base_scopes = parts.base_scopes or guarded.access.base_scopes
    mcp.streamable_http_app()  # makes the SDK's own manager, through which its low-level server is reached
    manager = SessionManager(
        mcp.session_manager.app,
        fast_path=settings.fast_path,
        guarded=guarded,
        stateless=True,
        max_request_body_size=settings.max_body_bytes,
        # `HostAndOriginLayer` checks both, exactly and on every route.
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    connections = Connections(
        settings.max_connections, settings.max_connections_per_address, exempt=settings.trusted_proxies
    )
    health = Health(
        version=parts.version,
        environment=settings.environment,
        is_known=lambda: authenticated() is not None,
        open_connections=connections.count,
        problems=lambda: [problem for problems in parts.problems for problem in problems()],
        degraded=lambda: any(is_degraded() for is_degraded in parts.degraded),
        failing=parts.failing,
    )
    access_log = AccessLog(parts.recorder, enabled=settings.enable_request_logging)
    streams = None
    if guarded is not None:
        streams = ListenStreams(
            bus=guarded.bus,
            events=guarded.events,
            max_streams=settings.max_streams,
            max_per_caller=settings.max_streams_per_caller,
            max_age=settings.max_stream_age,
        )
        # In place of the SDK's own handler, which could not be bounded and would outlive a SIGTERM.
        manager.app.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, streams)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with parts.run(), manager.run():
            health.ready = True
            try:
                yield
            finally:
                health.ready = False
                access_log.flush()
                parts.events.flush()

    def begin_shutdown() -> None:
        """Ask for no more requests, and end the open streams with their results."""
        health.ready = False
        if streams is not None:
            streams.close()

    endpoint = McpEndpoint(manager)
    routes = [
        # GET and DELETE belong to sessions, and this server keeps none: 405 says so (Streamable HTTP, 2025-11-25).
        ExactRoute(settings.mcp_endpoint, endpoint, methods=["POST"]),
        ExactRoute(settings.health_endpoint, health.health),
        ExactRoute("/livez", health.live),
        ExactRoute("/readyz", health.readiness),
        ExactRoute(EVENTS, events_route(parts.events, parts.shared_events)),
        *parts.routes,
    ]
    declare(paths := frozenset(route.path for route in routes))
    layers = _layers(parts, guarded, access_log, routes=paths)
    return Application(
        routes=routes,
        middleware=[*layers, Middleware(MessageLayer, endpoint=endpoint, path=settings.mcp_endpoint)],
        exception_handlers=exception_handlers(urlsplit(settings.resource_url).path),
        lifespan=lifespan,
        connections=connections,
        events=parts.events,
        begin_shutdown=begin_shutdown,
    )
