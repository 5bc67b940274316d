"""State between calls: a tool gives the model a handle, and takes it back in a later call.

    handle = await handles.put({"step": 2}, ttl=600)
    value = await handles.get(handle)

A handle cannot be guessed, and is unknown to every caller but the one it was made for (MCP security best practices,
"State Handle Hijacking"). Values are kept in this process or, where replicas share a Redis, there.
"""

import hashlib
import json
import secrets
from typing import Any, NoReturn

import pydantic_core

from .calls.running import owner, running_call
from .sinks.errors import InvalidInput

MAX_VALUE_BYTES = 8_192
MAX_TTL = 86_400.0  # seconds
_MAX_LENGTH = 64  # characters of a handle


async def put(value: Any, *, ttl: float = 600) -> str:
    """Keep a value for the caller, and return its handle.

    Args:
        value: what JSON can hold, at most 8,192 bytes of it. A model, a date or a tuple comes back as JSON has it.
        ttl: seconds that it is kept, at most a day.

    Raises:
        ValueError: if the value or the time is not of that kind.
        ToolError: if the server holds too many values, or Redis is unavailable.
    """
    text = pydantic_core.to_json(value).decode()
    if len(text.encode()) > MAX_VALUE_BYTES or not 0 < ttl <= MAX_TTL:
        raise ValueError(f"a value has at most {MAX_VALUE_BYTES} bytes as JSON, and is kept for at most {MAX_TTL:g} s")
    handle = secrets.token_urlsafe(32)
    await running_call().keeping.store.put(owner(), _name(handle), text, ttl)
    return handle


async def get(handle: str) -> Any:
    """Return the value that the caller was given this handle for.

    Raises:
        InvalidInput: if there is none: the handle is invented, has expired, or is of another caller.
        ToolError: if that cannot be found out now.
    """
    text = await running_call().keeping.store.get(owner(), _name(handle)) if len(handle) <= _MAX_LENGTH else None
    return json.loads(text) if text is not None else _unknown_handle()


def _unknown_handle() -> NoReturn:
    raise InvalidInput("this handle is unknown: it may have expired. Begin again to get a new one")


def _name(handle: str) -> str:
    return hashlib.sha256(handle.encode("utf-8", "replace")).hexdigest()
