"""What is known of the request being served."""

import contextvars

from mcp_chassis.http import current_request as request_context


def test_outside_of_a_request_nothing_is_known() -> None:
    assert contextvars.Context().run(request_context.current_request.get) is None


def test_a_new_request_has_no_event_yet() -> None:
    assert not request_context.RequestContext("request-1", "192.0.2.1").event_recorded
