"""Call a tool of the running server: `python scripts/call.py TOOL key=value ...`, or the server's command `call`.

A value is text where the tool takes text, and JSON otherwise. Questions of the server are asked on the terminal.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import mcp
from mcp import MCPError, types
from mcp.client import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client

from mcp_chassis.cli.serve import own_url
from mcp_chassis.events.untrusted import escape_controls
from mcp_chassis.http.origins import is_loopback
from mcp_chassis.settings import Settings, SettingsError, load_settings

PROJECT = Path(__file__).resolve().parent.parent
_SECONDS = 310.0  # for one response: longer than a tool may take by default

_TYPES = {"string": "text", "array": "list"}


class Failure(Exception):
    """Ends the command. Its text says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Call the tool and print its result. Return 1 if there is no answer or the tool failed."""
    command = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    parser = argparse.ArgumentParser(prog=f"{command} call", description=__doc__)
    parser.add_argument("tool", metavar="TOOL", nargs="?", help="default: list the tools and their arguments")
    parser.add_argument("values", metavar="key=value", nargs="*", help="the tool's arguments")
    parser.add_argument("--url", metavar="URL", help="another server, such as https://mcp.example.com/mcp")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    refusals: list[str] = []
    try:
        return anyio.run(_call, parser.parse_args(arguments), refusals)
    except SettingsError as error:
        reason = "\n".join(error.problems)
    except Exception as error:  # the client's task groups wrap what they raise
        reason = _reason(error, refusals)
    print(_printable(reason), file=sys.stderr)
    return 1


def _printable(text: str) -> str:
    """Return the text with its lines, and everything else that controls a terminal as escapes."""
    return "\n".join(map(escape_controls, text.split("\n")))


def _reason(error: BaseException, refusals: list[str]) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if refusals:
        return refusals[0]
    if isinstance(error, httpx2.TransportError):
        return "No server answers there. Start it with `serve`, or name another with --url."
    if isinstance(error, Failure | MCPError | httpx2.HTTPError):
        return str(error)
    raise error


async def _call(options: argparse.Namespace, refusals: list[str]) -> int:
    settings = load_settings(Settings)
    own, headers = own_url(settings)
    url = options.url or own + settings.mcp_endpoint
    if options.url:
        headers = {}
        try:
            parts = urlsplit(url)
            is_url = bool(parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
        except ValueError:
            is_url = False
        if not is_url:
            raise Failure(f"{url}: is not a URL such as https://mcp.example.com/mcp.")
        if not url.startswith("https:") and not is_loopback(parts.hostname or ""):
            raise Failure(f"{url}: the key would be readable on the way. Use https.")
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"

    async def note_refusal(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            await response.aread()
            refusals.append(_detail(response))

    hooks = {"response": [note_refusal]}
    async with httpx2.AsyncClient(headers=headers, timeout=_SECONDS, trust_env=False, event_hooks=hooks) as http:
        transport = streamable_http_client(url, http_client=http)
        async with mcp.Client(transport, read_timeout_seconds=_SECONDS, elicitation_callback=_ask) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            if options.tool is None:
                for tool in tools.values():
                    summary = (tool.description or "").partition("\n")[0]
                    print(escape_controls(f"{' '.join((tool.name, *_listed(tool.input_schema)))}: {summary}"))
                print("* is required.")
                return 0
            if options.tool not in tools:
                raise Failure(f"There is no tool {options.tool}. The tools are: {', '.join(tools)}.")
            arguments = _arguments(options.values, tools[options.tool].input_schema)
            result = await client.call_tool(options.tool, arguments)
    if options.json:
        print(result.model_dump_json(by_alias=True, exclude_none=True))
    else:
        for block in result.content:
            text = block.text if isinstance(block, types.TextContent) else f"[{block.type}]"
            print(_printable(text))
    return int(bool(result.is_error))


def _detail(response: httpx2.Response) -> str:
    try:
        return f"{response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without an explanation. Is it a server of this template?"


def _listed(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the arguments of a tool as `name=text*`: what kind of value, and a star if it is required."""
    required = schema.get("required", ())
    for name, member in schema.get("properties", {}).items():
        yield f"{name}={_kind(member, schema.get('$defs', {}))}{'*' if name in required else ''}"


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say what a value of this schema is, in a word, or in the words that can be written."""
    schema = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
    options = schema.get("anyOf", schema.get("oneOf"))
    if options is not None:
        return "|".join(dict.fromkeys(_kind(option, definitions) for option in options))
    if "enum" in schema or "const" in schema:
        return "|".join(map(str, schema.get("enum", [schema.get("const")])))
    types = schema.get("type", "JSON")
    return "|".join(_TYPES.get(one, one) for one in ([types] if isinstance(types, str) else types))


def _arguments(values: list[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    known = schema.get("properties", {})
    arguments: dict[str, Any] = {}
    for pair in values:
        if pair != pair.encode(errors="replace").decode():  # the terminal sent other bytes
            raise Failure("A value is not UTF-8, which JSON needs.")
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise Failure(f"{pair!r} is not key=value, with one of the keys {', '.join(known) or '(it has none)'}.")
        arguments[name] = _value(name, text, known[name], schema.get("$defs", {}))
    return arguments


def _value(name: str, text: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    if _takes_text(schema, definitions):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Failure(f"{name}: is no JSON, such as 1, true, null, [1, 2] or a quoted text.") from None


def _takes_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    """Whether a value of this schema can be a string."""
    if "$ref" in schema:
        return _takes_text(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    options = schema.get("anyOf", schema.get("oneOf"))
    if options is not None:
        return any(_takes_text(option, definitions) for option in options)
    return "string" in schema.get("type", ()) or any(isinstance(one, str) for one in schema.get("enum", ()))


async def _ask(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
    """Ask the user what the server asks, one member of the form after the other."""
    print(_printable(params.message), file=sys.stderr)
    if not isinstance(params, types.ElicitRequestFormParams) or not sys.stdin.isatty():
        return types.ElicitResult(action="decline")
    content: dict[str, Any] = {}
    for name, schema in params.requested_schema.get("properties", {}).items():
        title = schema.get("description") or schema.get("title") or name
        text = await anyio.to_thread.run_sync(input, f"{escape_controls(str(title))}: ")
        if not text:
            return types.ElicitResult(action="cancel")
        if schema.get("type") == "boolean":
            content[name] = text.lower() in {"y", "yes", "true"}
        else:
            content[name] = _value(name, text, schema, {})
    return types.ElicitResult(action="accept", content=content)


if __name__ == "__main__":
    raise SystemExit(main())
