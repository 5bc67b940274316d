"""Exports the spans that the SDK makes of every message, by the OpenTelemetry protocol over HTTP.

A span says which request it belongs to and who calls. What exceptions say may hold arguments, so it is left out.
"""

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status

from ..auth.principal import current_principal
from ..http.current_request import current_request

_OF_THE_SDK = "mcp-python-sdk"
_LONGEST = 100  # characters of a name or an attribute: clients choose some of them


class _RequestSpans(BatchSpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        super().on_start(span, parent_context)
        if (request := current_request.get()) is not None:
            span.set_attribute("http.request.id", request.request_id)
        if (principal := current_principal.get()) is not None:
            span.set_attribute("user.id", principal.id)

    def on_end(self, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        super().on_end(_without_texts(span) if scope is not None and scope.name == _OF_THE_SDK else span)


def export_traces(endpoint: str, *, service: str, version: str) -> Callable[[], None]:
    """Begin to export, and return what ends it. The environment says the rest: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER,
    OTEL_EXPORTER_OTLP_HEADERS, ...

    Args:
        endpoint: the collector's base URL, such as http://127.0.0.1:4318.
        service: the name of this server, unless the environment gives another.
        version: of this server.
    """
    resource = Resource({SERVICE_NAME: service, SERVICE_VERSION: version}).merge(Resource.create())
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_attribute_length=_LONGEST))
    provider.add_span_processor(_RequestSpans(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _without_texts(span: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=span.name[:_LONGEST],
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
