"""Which scopes a request needs, read from its parsed body: what the SDK will act on, not what a header says."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcp import MCPError

from ..auth.principal import current_principal
from ..events.log import EventLog
from ..events.untrusted import named
from ..http.current_request import current_request
from ..mcp import sdk
from .declarations import PromptPolicy, ResourcePolicy, policy_of
from .record import caller
from .tools import GuardedTool

INSUFFICIENT_SCOPE = -32003  # of the range that JSON-RPC leaves to servers; over HTTP a 403 comes before it
NO_SCOPES: frozenset[str] = frozenset()
_Functions = Sequence[Callable[..., Any]]

KINDS: Mapping[str, str] = {"tools/call": "tool", "resources/read": "resource", "prompts/get": "prompt"}


class Access:
    """The scopes of everything that a caller can ask for: by name, all of them, and those of tools that only read."""

    def __init__(self, tools: Mapping[str, GuardedTool], resources: _Functions, prompts: _Functions) -> None:
        self._by_name = {
            "tools/call": {name: guarded.policy.scopes for name, guarded in tools.items()},
            "prompts/get": {function.__name__: policy_of(function, PromptPolicy).scopes for function in prompts},
        }
        self._by_uri = {policy.uri: policy.scopes for policy in (policy_of(f, ResourcePolicy) for f in resources)}
        self._templates = [(sdk.UriTemplate.parse(uri), scopes) for uri, scopes in self._by_uri.items() if "{" in uri]
        needed = (*self._by_name.values(), self._by_uri)
        self.scopes = NO_SCOPES.union(*(scopes for each in needed for scopes in each.values()))
        self.base_scopes = NO_SCOPES.union(*(one.policy.scopes for one in tools.values() if one.policy.read_only))
        parameters = {name for function in prompts for name in inspect.signature(function).parameters}
        self.names = {"uri", *parameters, *(name for each in needed for name in each)}  # which may be in its log

    def required(self, method: str, params: Mapping[str, Any]) -> frozenset[str]:
        """Return the scopes that a message needs; none for what does not exist, which is refused later."""
        if method == "subscriptions/listen":  # a notification of a change reveals that the resource exists
            wanted = params.get("notifications")
            uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
            known = (self._of_resource(uri) for uri in uris if isinstance(uri, str)) if isinstance(uris, list) else ()
            return NO_SCOPES.union(*known)
        name = params.get("uri" if method == "resources/read" else "name")
        if not isinstance(name, str):
            return NO_SCOPES
        if method == "resources/read":
            return self._of_resource(name)
        return self._by_name.get(method, {}).get(name, NO_SCOPES)

    def subject(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        """Return the kind and name of what a message calls, reads or gets; nothing for other methods."""
        kind = KINDS.get(method)
        name = str(params.get("uri" if kind == "resource" else "name", ""))
        return {kind: named(self.resource_of(name) if kind == "resource" else name)} if kind is not None else {}

    def resource_of(self, uri: str) -> str:
        """Return what `uri` was declared as, a template perhaps; `uri` itself if there is nothing there."""
        if uri in self._by_uri:
            return uri
        return next((str(template) for template, _ in self._templates if template.match(uri) is not None), uri)

    def _of_resource(self, uri: str) -> frozenset[str]:
        if uri in self._by_uri:
            return self._by_uri[uri]
        # Of all that match: which of them is read is up to the SDK.
        return NO_SCOPES.union(*(scopes for template, scopes in self._templates if template.match(uri) is not None))


def missing_scopes(required: frozenset[str]) -> bool:
    """Whether the caller lacks one of `required`."""
    if not required:
        return False
    principal = current_principal.get()
    return principal is None or not all(principal.may(scope) for scope in required)


def require(
    required: frozenset[str], events: EventLog, audit: dict[str, Any], what: Mapping[str, str], **noted: Any
) -> None:
    """Raise an `MCPError` with the `required` scopes if the caller lacks one; its event has what is `noted`, too."""
    if not missing_scopes(required):
        return
    audit["outcome"] = "forbidden"
    needed, request = sorted(required), current_request.get()
    details: dict[str, Any] = {"reason": "insufficient_scope", **what}
    events.record("http_error", caller(), scopes=needed, **noted, **details)
    data = {"required_scopes": needed, **details} | ({"request_id": request.request_id} if request is not None else {})
    raise MCPError(code=INSUFFICIENT_SCOPE, message="Insufficient scope", data=data)
