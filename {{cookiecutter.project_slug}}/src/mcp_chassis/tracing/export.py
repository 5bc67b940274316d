"""Exports the spans that the SDK makes of every message, by the OpenTelemetry protocol over HTTP.

A span holds the request's id and the caller. What clients choose is left out (texts of exceptions, the id of a
message, the trace state), or described where it is no declared name.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, Status

from ..auth.principal import current_principal
from ..events.untrusted import MAX_TEXT, declare, named
from ..http.current_request import current_request
from ..mcp import sdk

_OF_THE_SDK = "mcp-python-sdk"
_CHOSEN_BY_CLIENTS = ("mcp.method.name", "gen_ai.tool.name", "gen_ai.prompt.name", "mcp.protocol.version")


class _RequestSpans(BatchSpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        super().on_start(span, parent_context)
        if (request := current_request.get()) is not None:
            span.set_attribute("http.request.id", request.request_id)
        if (principal := current_principal.get()) is not None:
            span.set_attribute("user.id", principal.id)

    def on_end(self, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        super().on_end(_without_values(span) if scope is not None and scope.name == _OF_THE_SDK else span)


@asynccontextmanager
async def exporting(endpoint: str, *, service: str, version: str) -> AsyncIterator[None]:
    """Export while the block runs. The environment may set OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
    OTEL_EXPORTER_OTLP_HEADERS and the like.

    Args:
        endpoint: the collector's base URL, such as http://127.0.0.1:4318.
        service: the name of this server, unless the environment gives another.
        version: of this server.
    """
    declare(sdk.SPEC_CLIENT_METHODS | sdk.SPEC_CLIENT_NOTIFICATION_METHODS)
    declare({*sdk.HANDSHAKE_PROTOCOL_VERSIONS, *sdk.MODERN_PROTOCOL_VERSIONS})
    resource = Resource({SERVICE_NAME: service, SERVICE_VERSION: version}).merge(Resource.create())
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_attribute_length=MAX_TEXT))
    provider.add_span_processor(_RequestSpans(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def _without_values(span: ReadableSpan) -> ReadableSpan:
    attributes = dict(span.attributes or {})
    attributes.pop("jsonrpc.request.id", None)
    chosen = {name: named(attributes[name]) for name in _CHOSEN_BY_CLIENTS if name in attributes}
    method = chosen.get("mcp.method.name", "")
    target = chosen.get("gen_ai.tool.name", chosen.get("gen_ai.prompt.name", ""))
    return ReadableSpan(
        name=f"{method} {target}".strip() or span.name,
        context=_without_state(span.context),
        parent=_without_state(span.parent),
        resource=span.resource,
        attributes=attributes | chosen,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_state(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
