"""Requests whose end two readers could see in different places."""

import pytest

from {{ cookiecutter.package_name }}.middleware import message_framing

from ..support.asgi import Endpoint, ask, http_scope

pytestmark = pytest.mark.anyio

LENGTH, CHUNKED = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize("headers", [[], [LENGTH], [CHUNKED]], ids=repr)
async def test_one_way_of_saying_where_the_body_ends_is_fine(headers: list[tuple[bytes, bytes]]) -> None:
    layer = message_framing.MessageFramingLayer(Endpoint())
    assert (await ask(layer, http_scope(headers=headers))).status == 200


@pytest.mark.parametrize("headers", [[LENGTH, CHUNKED], [CHUNKED, LENGTH]], ids=repr)
async def test_two_ways_are_refused_and_the_connection_ends(headers: list[tuple[bytes, bytes]]) -> None:
    inner = Endpoint()
    answer = await ask(message_framing.MessageFramingLayer(inner), http_scope(headers=headers))
    assert answer.status == 400
    assert answer.header("connection") == "close", "what follows could be taken for another request"
    assert inner.calls == 0
