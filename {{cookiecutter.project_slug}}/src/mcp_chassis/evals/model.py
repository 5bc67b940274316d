"""Asks a model, over the two forms of API that most endpoints have: OpenAI's chat completions, Anthropic's messages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

_SECONDS = 120.0
_MAX_TOKENS = 1024


class ModelError(Exception):
    """The endpoint gave no usable answer. The message says what to do, without the key and the body."""


@dataclass(frozen=True)
class Answer:
    """What the model wants to call.

    Args:
        tool: its name; None if the model answered in words.
        arguments: of the call.
    """

    tool: str | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """A model behind an endpoint.

    Args:
        api: `openai` or `anthropic`.
        url: what comes before `/chat/completions` or `/messages`.
        name: of the model.
        key: the credential, or an empty text.
    """

    api: str
    url: str
    name: str
    key: str

    def ask(self, request: str, tools: Sequence[Mapping[str, Any]], instructions: str | None) -> Answer:
        """Return the first call that the model makes for a request.

        Raises:
            ModelError: if it does not answer, or in another form.
        """
        is_openai = self.api == "openai"
        path, headers, body = (_openai if is_openai else _anthropic)(request, tools, instructions, self.key)
        try:
            response = httpx2.post(
                self.url.rstrip("/") + path, headers=headers, json={"model": self.name, **body}, timeout=_SECONDS
            )
        except httpx2.HTTPError as error:
            raise ModelError(f"EVAL_URL: cannot be reached ({type(error).__name__}). Check it.") from None
        if not response.is_success:
            hint = "check EVAL_KEY" if response.status_code in {401, 403} else "check EVAL_URL, EVAL_API and EVAL_MODEL"
            raise ModelError(f"EVAL_URL: the API answered {response.status_code}: {hint}.")
        try:
            return (_openai_answer if is_openai else _anthropic_answer)(response.json())
        except (ValueError, KeyError, IndexError, TypeError):
            raise ModelError(f"EVAL_URL: the answer is not of an API like {self.api}'s. Check EVAL_API.") from None


_Parts = tuple[str, dict[str, str], dict[str, Any]]


def _openai(request: str, tools: Sequence[Mapping[str, Any]], instructions: str | None, key: str) -> _Parts:
    system = [{"role": "system", "content": instructions}] if instructions else []
    functions = [
        {"name": one["name"], "description": one["description"], "parameters": one["input_schema"]} for one in tools
    ]
    return (
        "/chat/completions",
        {"Authorization": f"Bearer {key}"} if key else {},
        {
            "messages": [*system, {"role": "user", "content": request}],
            "tools": [{"type": "function", "function": function} for function in functions],
        },
    )


def _openai_answer(document: Any) -> Answer:
    calls = document["choices"][0]["message"].get("tool_calls") or []
    if not calls:
        return Answer(None, {})
    function = calls[0]["function"]
    return Answer(function["name"], dict(json.loads(function["arguments"] or "{}")))


def _anthropic(request: str, tools: Sequence[Mapping[str, Any]], instructions: str | None, key: str) -> _Parts:
    return (
        "/messages",
        {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {}),
        {
            "max_tokens": _MAX_TOKENS,
            "messages": [{"role": "user", "content": request}],
            "tools": list(tools),
            **({"system": instructions} if instructions else {}),
        },
    )


def _anthropic_answer(document: Any) -> Answer:
    calls = [part for part in document["content"] if part["type"] == "tool_use"]
    return Answer(calls[0]["name"], dict(calls[0]["input"])) if calls else Answer(None, {})
