"""Asks a model, over the two forms of API that most endpoints have: OpenAI's chat completions, Anthropic's messages."""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
from pydantic import BaseModel

from ..settings import SettingsError
from . import EvalSettings

_SECONDS = 120.0
_MAX_TOKENS = 1024


class ModelError(Exception):
    """The endpoint gave no usable answer. The message says what to do, without the key and the body."""


class Answer(BaseModel):
    """What the model wants to call. `tool` is None if it answered in words."""

    tool: str | None
    arguments: dict[str, Any]


def ask(own: EvalSettings, request: str, tools: Sequence[dict[str, Any]], instructions: str | None) -> Answer:
    """Return the first call that the model makes for a request.

    Raises:
        SettingsError: if there is no model to ask.
        ModelError: if it does not answer, or in another form.
    """
    if own.eval_url is None or own.eval_model is None:
        raise SettingsError(["EVAL_URL: is missing. Set it to the API of the model to ask."])
    key = own.eval_key.get_secret_value() if own.eval_key is not None else ""
    is_openai = own.eval_api == "openai"
    path, headers, body = (_openai if is_openai else _anthropic)(request, tools, instructions, key)
    body["model"] = own.eval_model
    try:
        response = httpx2.post(own.eval_url.rstrip("/") + path, headers=headers, json=body, timeout=_SECONDS)
    except httpx2.HTTPError as error:
        raise ModelError(f"EVAL_URL: cannot be reached ({type(error).__name__}). Check it.") from None
    if not response.is_success:
        hint = "check EVAL_KEY" if response.status_code in {401, 403} else "check EVAL_URL, EVAL_API and EVAL_MODEL"
        raise ModelError(f"EVAL_URL: the API answered {response.status_code}: {hint}.")
    try:
        return (_openai_answer if is_openai else _anthropic_answer)(response.json())
    except (ValueError, KeyError, IndexError, TypeError):
        raise ModelError(f"EVAL_URL: the answer is not of an API like {own.eval_api}'s. Check EVAL_API.") from None


_Parts = tuple[str, dict[str, str], dict[str, Any]]


def _openai(request: str, tools: Sequence[dict[str, Any]], instructions: str | None, key: str) -> _Parts:
    system = [{"role": "system", "content": instructions}] if instructions else []
    functions = [
        {"name": one["name"], "description": one["description"], "parameters": one["input_schema"]} for one in tools
    ]
    body = {
        "messages": [*system, {"role": "user", "content": request}],
        "tools": [{"type": "function", "function": function} for function in functions],
    }
    return "/chat/completions", {"Authorization": f"Bearer {key}"} if key else {}, body


def _openai_answer(document: Any) -> Answer:
    calls = document["choices"][0]["message"].get("tool_calls") or []
    if not calls:
        return Answer(tool=None, arguments={})
    function = calls[0]["function"]
    return Answer(tool=function["name"], arguments=dict(json.loads(function["arguments"] or "{}")))


def _anthropic(request: str, tools: Sequence[dict[str, Any]], instructions: str | None, key: str) -> _Parts:
    messages = [{"role": "user", "content": request}]
    body = {"max_tokens": _MAX_TOKENS, "messages": messages, "tools": tools}
    body |= {"system": instructions} if instructions else {}
    return "/messages", {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {}), body


def _anthropic_answer(document: Any) -> Answer:
    calls = [part for part in document["content"] if part["type"] == "tool_use"]
    if not calls:
        return Answer(tool=None, arguments={})
    return Answer(tool=calls[0]["name"], arguments=dict(calls[0]["input"]))
