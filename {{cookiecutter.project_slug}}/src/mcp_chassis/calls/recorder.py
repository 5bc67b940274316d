"""Where calls and refused requests are recorded besides the log: nowhere, unless `audit_trail` does it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..http.current_request import RequestContext


class Recorder:
    """Records nothing."""

    def describe(self, arguments: Mapping[str, bytes | None]) -> list[dict[str, Any]]:
        """Return what is recorded of arguments, given as JSON by their names."""
        return []

    def call(
        self,
        action: str,
        facts: Mapping[str, Any],
        arguments: Sequence[dict[str, Any]],
        *,
        seconds: float,
        error: int | None,
    ) -> None:
        """Record one call.

        Args:
            action: `tool_call`, `resource_read` or `prompt_get`.
            facts: the principal, what was called, the outcome.
            arguments: as they were described.
            seconds: how long it took.
            error: the JSON-RPC error code it ended with; 0 for an exception whose code the SDK chooses.
        """

    def request(self, request: RequestContext, line: Mapping[str, Any]) -> None:
        """Record one HTTP request: the calls in it, or its refusal.

        Args:
            request: which.
            line: its access line. A `count` says for how many refused requests of this caller it stands.
        """
